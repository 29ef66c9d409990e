"""Which layers must lose a unit together, found by torch-pruning's dependency graph.

Shortcuts, concatenations, batch norms, grouped convolutions, heads of attention and what follows are its
business (Fang et al. 2023, "DepGraph: Towards Any Structural Pruning").
"""

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from capacity.attention import unpack_attention
from capacity.cloning import plain_copy
from capacity.errors import InputError, unknown
from capacity.inputs import example_input, forward
from compression.criteria import Criterion, unit_scores
from compression.dataflow import tensors_of
from compression.outputs import output_layers
from compression.shrinking.deadlines import NoEnd, time_limit
from compression.shrinking.graph_errors import beside

QKV = (("qkv",), ("q_proj", "k_proj", "v_proj"), ("query", "key", "value"), ("q", "k", "v"))
SECONDS = 15  # of work that torch-pruning's graph may take; on some networks it does not end


def coupled_layers(model: nn.Module, input_size: Any) -> list[tuple[str, ...]]:
    """Names of dense and convolutional layers that can only lose units together, as the graph finds them.

    A layer whose units nobody else shares stands alone; output layers, which lose none, are left out.
    """
    copied = unpack_attention(plain_copy(model).eval())
    locked = locked_layers(copied, input_size, fixed_layers(copied, input_size, ()))
    args, kwargs = example_input(copied, input_size, device=str(next(copied.parameters()).device))
    pruner = pruner_of(copied, kwargs or args, 0.5, Importance(None, copied, {}), locked)
    names = {module: name for name, module in copied.named_modules()}
    return [tuple(names[layer] for layer in group) for group in groups_of(copied, pruner, locked)]


def fixed_layers(model: nn.Module, input_size: Any, keep: Sequence[str]) -> dict[str, str]:
    """Layers that keep all their units, and why: named ones and outputs."""
    known = [name for name, _ in model.named_modules() if name]
    for name in keep:
        if name not in known:
            raise unknown("layer to keep", name, known)
    outputs = output_layers(model, input_size).names
    locked = dict.fromkeys((n for n in units_of(model) if n in outputs), "its units are the model's outputs")
    return locked | dict.fromkeys(keep, "it is to be kept")


def locked_layers(model: nn.Module, input_size: Any, fixed: Mapping[str, str]) -> dict[str, str]:
    """Layers that keep all their units, and why: those kept, and what shared weights hold fast."""
    args, kwargs = example_input(model, input_size, device=str(next(model.parameters()).device))
    units, locked = units_of(model), dict(fixed)
    shared = _shared(model, args, kwargs)
    if not shared:
        return locked
    graph = graph_of(model, kwargs or args)
    names = {module: name for name, module in model.named_modules()}
    with following("the layers coupled to shared weights"):
        groups = list(graph.get_all_groups(root_module_types=[nn.modules.conv._ConvNd, nn.Linear]))
    for group in groups:
        touched = [shared[d.target.module] for d, _ in group if d.target.module in shared]
        for dependency, _ in group if touched else ():
            name = names.get(dependency.target.module, "")
            if name in units and graph.is_out_channel_pruning_fn(dependency.handler):
                locked.setdefault(name, touched[0])
    return locked


def forward_all(model: nn.Module, example: Any) -> list[Tensor]:
    """Tensors that one forward pass returns, caches left out.

    It goes through the branches of training where that reaches more layers, as heads beside.
    """

    def call() -> list[Tensor]:
        result = model(**example) if isinstance(example, dict) else model(*example)
        return [tensor for tensor in tensors_of(result) if tensor.requires_grad]

    def reached() -> tuple[list[Tensor], set[str]]:
        names: set[str] = set()
        handles = [
            model.get_submodule(name).register_forward_hook(lambda *_, name=name: names.add(name))
            for name in units_of(model)
        ]
        try:
            return call(), names
        finally:
            for handle in handles:
                handle.remove()

    plain, names = reached()
    try:
        with training_branches(model), torch.random.fork_rng():
            _, others = reached()
    except Exception:  # detectors ask for targets in training
        return plain
    if not others > names:
        return plain
    with training_branches(model), torch.random.fork_rng():
        return call()


@contextmanager
def training_branches(model: nn.Module) -> Iterator[None]:
    """Within it, modules that hold others run as in training; layers themselves as in evaluation.

    What such a pass writes into buffers is undone: a batch norm that holds its activation would
    move its running statistics.
    """
    modes = {module: module.training for module in model.modules()}
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in modes
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    for module in modes:
        module.training = any(True for _ in module.children())
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for module, name, buffer, values in buffers:
            module._buffers[name] = buffer
            buffer.data.copy_(values)


@contextmanager
def following(what: str) -> Iterator[None]:
    """Within it, whatever torch-pruning raises becomes an InputError, and so does not coming to an end."""
    try:
        with (
            time_limit(SECONDS, f"finding {what} (torch-pruning's graph of the model)"),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    except NoEnd as error:
        raise NoEnd(f"{error}{beside(error.__context__)}") from None
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"torch-pruning's graph cannot find {what}{beside(error)} ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:120]}); prune(), factorize() and quantize() need no graph"
        ) from error


def graph_of(model: nn.Module, example: Any) -> Any:
    """torch-pruning's dependency graph; raises InputError where it cannot be built in SECONDS."""
    import torch_pruning

    with following("which layers lose units together"):
        return torch_pruning.DependencyGraph().build_dependency(
            model, example, forward_fn=forward_all, verbose=False
        )


def ungroupable(model: nn.Module, example: Any) -> dict[str, str]:
    """Layers whose units torch-pruning cannot follow, and what it says of each."""
    graph, reasons = graph_of(model, example), {}
    with following("the layers that it cannot follow"):
        for name, units in units_of(model).items():
            layer = model.get_submodule(name)
            if layer in graph.module2node:
                try:
                    function = graph.get_pruner_of_module(layer).prune_out_channels
                    graph.get_pruning_group(layer, function, list(range(units)))
                except Exception as error:  # whatever its index mappings raise
                    reasons[name] = f"torch-pruning cannot follow its units ({type(error).__name__}: {error})"
    return reasons


def _shared(model: nn.Module, args: Any, kwargs: Any) -> dict[nn.Module, str]:
    """Modules whose parameters belong to another one too, or that a pass runs more than once; and which."""
    owners: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                owners.setdefault(id(parameter), []).append(name)
    ties = [names for names in owners.values() if len(names) > 1]
    shared = {
        model.get_submodule(name): f"the weight of {names[0]!r} is tied to that of {names[1]!r}"
        for names in ties
        for name in names
    }
    calls: Counter[str] = Counter()
    handles = [
        model.get_submodule(name).register_forward_hook(lambda *_, name=name: calls.update([name]))
        for name in units_of(model)
    ]
    with torch.no_grad():
        forward(model, args, kwargs)
    for handle in handles:
        handle.remove()
    again = {
        name: f"{name!r} is used {count} times in one pass" for name, count in calls.items() if count > 1
    }
    return shared | {model.get_submodule(name): why for name, why in again.items()}


def groups_of(model: nn.Module, pruner: Any, locked: Mapping[str, str]) -> list[list[nn.Module]]:
    """Layers that lose output units together, for each group of the pruner's graph."""
    ignored = [model.get_submodule(name) for name in locked]
    groups = []
    for group in pruner.DG.get_all_groups(ignored_layers=ignored, root_module_types=pruner.root_module_types):
        layers: list[nn.Module] = []
        for dependency, _ in group:
            layer = dependency.target.module
            if pruner.DG.is_out_channel_pruning_fn(dependency.handler) and isinstance(
                layer, nn.Linear | nn.modules.conv._ConvNd
            ):
                layers += [] if layer in layers else [layer]
        if layers:
            groups.append(layers)
    return groups


def group_of(
    name: str, model: nn.Module, groups: Sequence[Sequence[nn.Module]], locked: Mapping[str, str]
) -> Sequence[nn.Module]:
    """The layers that lose units together with a named one; raises InputError if it cannot lose any."""
    units = units_of(model)
    if name not in units:
        raise unknown("layer to shrink (dense or convolutional)", name, units)
    if name in locked:
        raise InputError(f"layer {name!r} cannot lose units: {locked[name]}")
    layer = model.get_submodule(name)
    for group in groups:
        if layer in group:
            return group
    raise InputError(f"layer {name!r} cannot lose units: torch-pruning finds no group that it belongs to")


def attention_heads(model: nn.Module) -> dict[nn.Module, list[nn.Linear]]:
    """Attention modules (those with `num_heads` and dense projections) and their projections."""
    heads = {}
    for module in model.modules():
        for names in QKV:
            layers = [getattr(module, name, None) for name in names]
            if isinstance(getattr(module, "num_heads", None), int) and all(
                isinstance(layer, nn.Linear) for layer in layers
            ):
                heads[module] = [layer for layer in layers if isinstance(layer, nn.Linear)]
    return heads


def units_of(model: nn.Module) -> dict[str, int]:
    """Units of every dense and convolutional layer."""
    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    units = {}
    for name, module in model.named_modules():
        if isinstance(module, kinds):
            units[name] = int(module.out_features if isinstance(module, nn.Linear) else module.out_channels)
    return units


def pruner_of(
    model: nn.Module,
    example: Any,
    amount: float | Mapping[nn.Module, float],
    importance: "Importance",
    locked: Mapping[str, str],
    round_to: int = 1,
) -> Any:
    """torch-pruning's pruner for a fraction of all units, or one for each of some layers.

    Raises InputError where its graph cannot be built in SECONDS.
    """
    heads = attention_heads(model)
    even, ratios = (0.0, dict(amount)) if isinstance(amount, Mapping) else (amount, {})
    with following("which layers lose units together"):
        pruner = _pruner_class()(
            model,
            example,
            importance,
            pruning_ratio=even,
            pruning_ratio_dict=ratios,
            ignored_layers=[model.get_submodule(name) for name in locked],
            num_heads={layer: int(module.num_heads) for module, layers in heads.items() for layer in layers},  # type: ignore[arg-type]
            prune_num_heads=True,
            prune_head_dims=False,
            head_pruning_ratio=even,
            head_pruning_ratio_dict=ratios,
            in_channel_groups={},  # its defaults are shared by all pruners of a process
            out_channel_groups={},
            forward_fn=forward_all,
            round_to=round_to if round_to > 1 else None,
        )
        _part_gates(pruner.DG)
    return pruner


def _pruner_class() -> Any:
    import torch_pruning

    class Pruner(torch_pruning.pruner.BasePruner):  # type: ignore[misc]
        """torch-pruning's, but units kept are rounded up: it would remove more than was asked for."""

        def _round_to(self, n_pruned: int, current_channels: int, round_to: int) -> int:
            return rounded(n_pruned, current_channels, round_to)

    return Pruner


def rounded(gone: int, width: int, multiple: int) -> int:
    """The most units, `gone` of them at most, that leave a multiple of the width; 0 where there is none.

    >>> rounded(4, 20, 8), rounded(7, 32, 8), rounded(8, 32, 8), rounded(2, 12, 8)
    (4, 0, 8, 0)
    """
    left = -(-(width - gone) // multiple) * multiple
    return max(width - left, 0)


def _part_gates(graph: Any) -> None:
    """Part layers of one unit from what multiplies or adds it: broadcast, it is coupled to no channel."""
    single = {
        node
        for module, node in graph.module2node.items()
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd | nn.modules.batchnorm._BatchNorm)
        and graph.get_out_channels(module) == 1
    }
    for node in graph.module2node.values() if single else ():
        node.dependencies = [
            d
            for d in node.dependencies
            if not (d.target in single and graph.is_out_channel_pruning_fn(d.handler))
            and not (d.source in single and graph.is_out_channel_pruning_fn(d.trigger))
        ]


class Importance:
    """What decides between groups: a criterion of ours, or by default the magnitude of their weights.

    A group that the graph maps to places that do not exist is passed over, its layers noted in `refused`.
    """

    def __init__(self, criterion: Criterion | None, model: nn.Module, refused: dict[str, str]) -> None:
        import torch_pruning

        magnitude = torch_pruning.importance.GroupMagnitudeImportance(p=2)
        self.refused = refused
        self.names = {module: name for name, module in model.named_modules()}
        self.scores = magnitude if criterion is None else _Scores(criterion, self.names)

    def __call__(self, group: Any) -> Tensor | None:
        try:
            scores: Tensor | None = self.scores(group)
            return scores
        except Exception as error:  # whatever torch says of places beyond the end
            for dependency, _ in group:
                name = self.names.get(dependency.target.module)
                if name is not None and "out_channels" in dependency.handler.__name__:
                    self.refused[name] = (
                        f"torch-pruning cannot follow its units ({' '.join(str(error).split())[:100]})"
                    )
            return None


class _Scores:
    """A criterion of ours as torch-pruning's importance: scores of a channel, summed over coupled layers."""

    def __init__(self, criterion: Criterion, names: Mapping[nn.Module, str]) -> None:
        self.criterion, self.names = criterion, names

    def __call__(self, group: Any) -> Tensor | None:
        total: Tensor | None = None
        for k, (dependency, places) in enumerate(group):
            layer, function = dependency.layer, dependency.pruning_fn.__name__
            if not isinstance(layer, nn.Linear | nn.modules.conv._ConvNd):
                continue
            name, dimension = self.names.get(layer, ""), 0 if "out_channels" in function else 1
            own = f"{name}.weight" if name else "weight"
            scores = unit_scores(self.criterion, layer.weight.detach(), dimension=dimension, names=(own,))
            if len(scores) <= max(places):  # a grouped or depthwise layer, scored by what it is coupled to
                continue
            scores, roots = scores[places], torch.tensor(group[k].root_idxs, device=scores.device)
            if total is None:
                total = torch.zeros(int(roots.max()) + 1, dtype=scores.dtype, device=scores.device)
            total.index_add_(0, roots, scores.to(total))  # several places of a flattened channel
        return total
