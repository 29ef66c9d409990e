"""output_layers(): the layers whose units are a model's outputs, all heads, found by dataflow.

Exact with an input: a forward pass without memory, on real memory where the model refuses that. Without, an
input is guessed from the model's first layers and rehearsed, then the model is traced symbolically. If
nothing of that works, the last layer registered is taken, and the result says so.
"""

import copy
import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from capacity.cloning import evaluation_copy
from capacity.errors import InputError
from capacity.inputs import example_input, first_line, map_tensors, taking, untakable
from compression.dataflow import Dataflow, flow_of_graph, flow_of_pass, plain_name

SIDES = (32, 224, 28, 64, 84, 96, 128, 256, 299, 384, 512)  # of pictures that networks are made for
LENGTHS = (16, 64, 128, 512, 1024, 16000)  # of sequences
BY_ORDER = "order of registration"
NO_WAY = "no weight lies between its inputs and its outputs"
SMALL = 100_000_000  # parameters, up to which a guessed input is tried on real memory


@dataclass(frozen=True)
class OutputLayers:
    """Names of the layers that reach the model's outputs with no weight after them, and how that is known.

    `parameters` are the full names of their weights. `multiplied` are those of all parameters that multiply
    what descends from the input, None where no dataflow is known: matrices that are only added, or looked up
    by position, are not among them.
    """

    names: tuple[str, ...]
    evidence: str
    parameters: frozenset[str] = frozenset()
    multiplied: frozenset[str] | None = None

    @property
    def by_dataflow(self) -> bool:
        """Whether the outputs were followed back, rather than guessed from the order of registration."""
        return self.multiplied is not None


def output_layers(model: nn.Module, input_size: Any = None) -> OutputLayers:
    """The layers whose units are the model's outputs; of a sum with a shortcut, the last one added.

    Parameters
    ----------
    input_size: as for `capacity.measure`; None guesses one

    Raises InputError for an input that the model does not take.

    >>> output_layers(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))).names
    ('2',)
    """
    hollow = evaluation_copy(model, device="meta")
    if input_size is not None:
        return _from(*_given(model, hollow, input_size), evidence="a forward pass")
    candidates = list(guesses(model))
    layers = _rehearsed(hollow, candidates)
    if layers is None and (flow := _attempt(flow_of_graph, hollow)) is not None:
        layers = _from(flow, hollow, evidence="a symbolic trace")
    if layers is None and 0 < sum(p.numel() for p in model.parameters()) <= SMALL and not _is_meta(model):
        layers = _rehearsed(evaluation_copy(model), candidates)
    return layers or OutputLayers(_last_registered(model), BY_ORDER)


def _rehearsed(model: nn.Module, candidates: Iterable[tuple[str, Any]]) -> OutputLayers | None:
    """What the first input tells that the model takes."""
    device = next((tensor.device for tensor in model.parameters()), torch.device("meta"))
    for name, example in candidates:
        args, kwargs = map_tensors(example, lambda tensor: torch.ones_like(tensor, device=device))
        flow = _attempt(flow_of_pass, model, args, kwargs)
        if flow is not None:
            _add_training(flow, model, args, kwargs)
            return _from(flow, model, evidence=f"a forward pass of {name}")
    return None


def _attempt(find: Callable[..., Dataflow], *arguments: Any) -> Dataflow | None:
    """A dataflow that reaches outputs, or None, whatever a wrong guess runs into."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            flow = find(*arguments)
    except Exception:
        return None
    return flow if flow.outputs else None


def _is_meta(model: nn.Module) -> bool:
    return any(tensor.is_meta for tensor in model.parameters())


def _from(flow: Dataflow, model: nn.Module, *, evidence: str) -> OutputLayers:
    outputs, multiplied = (
        frozenset(plain_name(model, name) for name in names) for names in (flow.outputs, flow.sources)
    )
    names = {name.rpartition(".")[0] for name in outputs}
    order = {name: place for place, (name, _) in enumerate(model.named_modules())}
    layers = tuple(sorted(names, key=order.__getitem__))
    return OutputLayers(layers, evidence, outputs, multiplied)


def _given(model: nn.Module, hollow: nn.Module, input_size: Any) -> tuple[Dataflow, nn.Module]:
    """The dataflow for an input that the caller gave."""
    try:
        args, kwargs = example_input(hollow, input_size, device="meta")
        flow = flow_of_pass(hollow, args, kwargs)
        if flow.outputs:
            _add_training(flow, hollow, args, kwargs)
            return flow, hollow
        reason = NO_WAY
    except InputError:
        raise
    except Exception as error:
        reason = first_line(error)
    if _is_meta(model):
        raise InputError(f"{untakable(model, input_size)}: {reason}")
    real = evaluation_copy(model)
    place = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    with taking(model, input_size):
        args, kwargs = example_input(real, input_size, device=str(place))
        flow = flow_of_pass(real, args, kwargs)
    if not flow.outputs:
        raise InputError(f"{type(model).__name__}: {NO_WAY}, so its output layers are not known")
    return flow, real


def _add_training(flow: Dataflow, hollow: nn.Module, args: Any, kwargs: Any) -> None:
    """Add heads that a model has in training only, such as auxiliary classifiers."""
    idle = [name for name, p in hollow.named_parameters() if p.dim() > 1 and name not in flow.sources]
    if not idle:
        return
    twice = map_tensors((args, kwargs), lambda tensor: torch.cat([tensor, tensor]))  # for batch norms
    try:
        training = flow_of_pass(copy.deepcopy(hollow).train(), *twice)
    except Exception:  # a model that wants targets, or cannot be trained at all
        return
    flow.outputs.update(dict.fromkeys(name for name in training.outputs if name in idle))
    for name in idle:
        if name in training.sources:
            flow.sources[name] = training.sources[name]


def _last_registered(model: nn.Module) -> tuple[str, ...]:
    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    names = [name for name, module in model.named_modules() if isinstance(module, kinds)]
    return tuple(names[-1:])


def guesses(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Inputs that a model may take, as (description, (args, kwargs)): what it says itself, then by layers."""
    floats = (tensor.dtype for tensor in model.parameters() if tensor.is_floating_point())
    dtype = next(floats, torch.get_default_dtype())
    said = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None)
    if isinstance(said, Mapping) and "input_size" in said:
        size = tuple(said["input_size"])
        yield f"size {size}", ((torch.ones(1, *size, dtype=dtype, device="meta"),), {})
    yield from _as_transformers(model)
    firsts: dict[type[nn.Module], nn.Module] = {}
    for module in model.modules():
        if any(isinstance(module, kind) for kind in SHAPES):
            firsts.setdefault(type(module), module)
    count = _required(model)
    for module in firsts.values():
        shapes = next(build for kind, build in SHAPES.items() if isinstance(module, kind))
        try:
            sizes = shapes(module)
        except AttributeError:  # a kind of layer that keeps its widths elsewhere
            continue
        for size in sizes:
            yield f"size {size}", ((torch.ones(1, *size, dtype=dtype, device="meta"),) * count, {})
        if isinstance(module, nn.Embedding):
            yield "token ids", ((torch.zeros(1, 16, dtype=torch.long, device="meta"),) * count, {})


def _signature(model: nn.Module) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(model.forward).parameters
    except (TypeError, ValueError):  # compiled functions have none
        return {}


def _required(model: nn.Module) -> int:
    """How many positional inputs a model's forward cannot do without; at least 1."""
    places = _signature(model).values()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return max(1, sum(place.kind in kinds and place.default is place.empty for place in places))


def _as_transformers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """What the library transformers says of its models: the main input's name, sizes in their `config`."""
    main, config = getattr(model, "main_input_name", None), getattr(model, "config", None)
    if not isinstance(main, str) or config is None:
        return
    ids = torch.zeros(1, 16, dtype=torch.long, device="meta")
    vision = getattr(config, "vision_config", config)
    channels, side = getattr(vision, "num_channels", 3), getattr(vision, "image_size", None) or 64
    side = side if isinstance(side, int) else 64
    frames = 2 * getattr(config, "max_source_positions", 512)
    shapes = {
        "pixel_values": (channels, side, side), "input_values": (16000,),
        "input_features": (getattr(config, "num_mel_bins", 80), frames),
    }  # fmt: skip
    made = {name: torch.ones(1, *size, device="meta") for name, size in shapes.items()}
    made |= {"input_ids": ids, "decoder_input_ids": ids}
    wanted = _signature(model)
    several = {name: value for name, value in made.items() if name in wanted}
    for inputs in ({main: made.get(main, ids)}, several):
        yield f"inputs {', '.join(inputs)}", ((), inputs)


def _pictures(channels: int) -> list[tuple[int, ...]]:
    return [(channels, side, side) for side in SIDES]


SHAPES: Mapping[type[nn.Module], Callable[[Any], list[tuple[int, ...]]]] = {
    nn.Linear: lambda m: [(m.in_features,), (16, m.in_features)],
    nn.RNNBase: lambda m: [(16, m.input_size)],
    nn.RNNCellBase: lambda m: [(16, m.input_size), (m.input_size,)],
    nn.Conv1d: lambda m: [(m.in_channels, length) for length in LENGTHS],
    nn.Conv2d: lambda m: _pictures(m.in_channels),
    nn.Conv3d: lambda m: [(m.in_channels, depth, side, side) for depth in (8, 16, 32) for side in (32, 64)],
    nn.ConvTranspose2d: lambda m: [(m.in_channels, side, side) for side in (1, 4, 7, 8, 16)],
    nn.MultiheadAttention: lambda m: [(16, m.embed_dim)],
    nn.TransformerEncoderLayer: lambda m: [(16, m.self_attn.embed_dim)],
    nn.Embedding: lambda m: [],
}
