"""shrink(): physically remove neurons and channels, so that memory and time fall too.

Which layers must lose a channel together is the business of `compression.coupling`.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from capacity.attention import unpack_attention
from capacity.cloning import clone, plain_copy
from capacity.errors import InputError
from capacity.inputs import map_tensors
from capacity.report import render
from compression.checkpoints import fingerprint, write_whole
from compression.coupling import attention_heads, group_of, groups_of, locked_layers, pruner_of, units_of
from compression.criteria import Criterion
from compression.deadline import within
from compression.removal import Removals, cut_difference
from compression.silencing import silent_groups
from compression.verification import Arguments, outputs, probes, relative_difference, tolerance

if TYPE_CHECKING:
    import pandas as pd

ATTRIBUTES = (
    "in_features", "out_features", "in_channels", "out_channels", "groups", "num_features", "num_channels",
    "normalized_shape", "num_heads", "hidden_dim", "embed_dim", "num_parameters", "input_size", "hidden_size",
    "num_groups",
)  # fmt: skip
SECONDS = 60  # after which finding what can be removed is given up
REMEMBERED = ("hidden_dim", "embed_dim")  # widths that transformers keep beside their layers


@dataclass(frozen=True)
class ShrunkLayer:
    """Units of one layer before and after."""

    name: str
    before: int
    after: int


@dataclass(frozen=True)
class ShrinkResult:
    """A smaller model. `requested` is a fraction of channels (or one for each layer), or None for what
    masks silenced.

    `largest_difference` is how far its outputs lie from the masked model's on random input, in units of
    the outputs; None where channels were removed that were not silent.
    """

    model: nn.Module
    requested: float | Mapping[str, float] | None
    parameters_before: int
    parameters_after: int
    layers: tuple[ShrunkLayer, ...]
    largest_difference: float | None

    @property
    def achieved(self) -> float:
        """The fraction of channels removed, over all layers that could lose some."""
        before = sum(layer.before for layer in self.layers)
        return 1 - sum(layer.after for layer in self.layers) / before if before else 0.0

    def to_frame(self) -> "pd.DataFrame":
        """A row per layer: units before and after."""
        import pandas as pd

        return pd.DataFrame([vars(layer) for layer in self.layers])

    def to_latex(self) -> str:
        """A booktabs table of `to_frame`."""
        return self.to_frame().to_latex(index=False, escape=True)

    def __str__(self) -> str:
        from rich.table import Table

        table = Table()
        for column in ("layer", "units before", "after"):
            table.add_column(column, justify="left" if column == "layer" else "right")
        for layer in self.layers:
            table.add_row(layer.name, f"{layer.before:,}", f"{layer.after:,}")
        left = self.parameters_after / self.parameters_before
        title = f"{self.parameters_before:,} -> {self.parameters_after:,} parameters ({left:.1%} left)"
        if self.largest_difference is not None:
            title += f", outputs differ by at most {self.largest_difference:.2g}"
        return f"{title}\n{render(table)}"


def shrink(
    model: nn.Module,
    input_size: Any,
    *,
    amount: float | Mapping[str, float] | None = None,
    criterion: Criterion | None = None,
    keep: Sequence[str] = (),
) -> ShrinkResult:
    """A copy of the model with neurons and channels removed; the model itself is not changed.

    Parameters
    ----------
    input_size: as for `capacity.measure`
    amount: the fraction of the channels of every group of coupled layers to remove, and of the heads of
        every attention; or a fraction for each layer named, which holds for all layers coupled to it. None
        removes what is silent already, after `prune(..., unit="neuron")` and `silence_norms`
    criterion: whose lowest scores go first, summed over all coupled layers; by default torch-pruning's
        group magnitude (L2)
    keep: names of layers that keep all their units; the output layers always do

    Attention in nn.MultiheadAttention is unpacked into dense layers, because it cannot lose a head as it is.

    Raises InputError for an amount outside (0, 1), unknown layers, layers that cannot lose units (the
    output, depthwise convolutions), and a model of which nothing can be removed.
    """
    _check(amount)
    whole = unpack_attention(plain_copy(model).eval())
    before = units_of(whole)
    name = type(model).__name__
    with within(SECONDS, f"finding what can be removed from {name}"), named_errors(name):
        locked = locked_layers(whole, input_size, keep)
        copied, difference = _verified(whole, input_size, amount, criterion, locked)
    copied.zero_grad(set_to_none=True)
    after = units_of(copied)
    for layer, value in amount.items() if isinstance(amount, Mapping) else ():
        if after[layer] == before[layer]:
            raise InputError(
                f"layer {layer!r} of {before[layer]} units lost none to an amount of {value}: "
                f"{locked.get(layer, 'its groups or heads are too few, or it has too few units')}"
            )
    if after == before:
        reasons = "; ".join(f"{layer!r}: {why}" for layer, why in list(locked.items())[:3])
        raise InputError(
            f"nothing was removed: {amount!r} of no layer makes a whole unit, or {len(locked)} layers keep "
            f"theirs ({reasons})"
        )
    layers = tuple(ShrunkLayer(layer, before[layer], after[layer]) for layer in before if layer not in locked)
    parameters, left = (sum(p.numel() for p in each.parameters()) for each in (whole, copied))
    return ShrinkResult(copied.train(model.training), amount, parameters, left, layers, difference)


def _verified(
    whole: nn.Module,
    input_size: Any,
    amount: float | Mapping[str, float] | None,
    criterion: Criterion | None,
    locked: dict[str, str],
) -> tuple[nn.Module, float]:
    """A smaller copy that computes what `whole` does with the removed units cut, and how far it is off.

    Layers whose removal would change more than that are added to `locked`, with the reason.
    """
    inputs = probes(whole, input_size)
    expected, most = outputs(whole, inputs), tolerance(whole)
    careful = False  # the second time, what a group changes is looked at before the next one goes
    while True:
        attempt = _Attempt(whole, inputs, None if amount is not None else expected)
        guilty: list[str] = []
        for graph, group in _groups(attempt.model, inputs[0], amount, criterion, locked):
            layers = attempt.remove(graph, group)
            if careful and not attempt.difference() <= most:
                guilty = layers
                break
        found = attempt.difference()
        if not guilty and found <= most:
            _rehearse_training(whole, attempt.model, inputs[0])
            return attempt.model, found
        if careful and not guilty:
            raise InputError(f"the shrunk network computes something else: outputs move by {found:.2g}")
        careful = True
        for layer in guilty:
            locked[layer] = attempt.reason or "without some of its units the model computes something else"


class _Attempt:
    """A copy that loses units group by group, and how far it is from the whole model with those units cut."""

    def __init__(
        self, whole: nn.Module, inputs: Sequence[Arguments], expected: list[list[Tensor]] | None
    ) -> None:
        self.whole, self.inputs, self.expected = whole, inputs, expected
        self.model = clone(whole)
        self.names = {module: name for name, module in self.model.named_modules()}
        self.removals, self.widths, self.reason = Removals(), units_of(whole), ""

    def remove(self, graph: Any, group: Any) -> list[str]:
        """Remove a group; the names of the layers that lost units."""
        layers = self.removals.note(graph, group, self.names)
        group.prune()
        return layers

    def difference(self) -> float:
        """In units of the outputs; infinite where the model does not run any more, for `reason`."""
        _set_heads(self.whole, self.model)
        now = units_of(self.model)
        _remember(self.model, self.widths, now)
        self.widths = now
        try:
            if self.expected is not None:
                return relative_difference(self.expected, outputs(self.model, self.inputs))
            return cut_difference(self.whole, self.model, self.removals, self.inputs)
        except Exception as error:
            told = " ".join(str(error).split())[:150] or type(error).__name__
            self.reason = f"the forward pass counts on a width of it ({told})"
            return math.inf


def _groups(
    model: nn.Module,
    example: Arguments,
    amount: float | Mapping[str, float] | None,
    criterion: Criterion | None,
    locked: Mapping[str, str],
) -> Iterator[tuple[Any, Any]]:
    """Each group of coupled units that is to go, with the graph it belongs to; whoever asks removes it."""
    args, kwargs = example
    inputs: Any = kwargs or args
    if amount is None:
        yield from silent_groups(model, inputs, [model.get_submodule(name) for name in locked])
        return
    ratios: dict[nn.Module, float] = {}
    if isinstance(amount, Mapping):
        graph = pruner_of(model, inputs, 0.0, None, locked, {})
        groups = groups_of(model, graph, locked)
        for name, value in amount.items():
            for layer in group_of(name, model, groups, locked):
                if ratios.setdefault(layer, value) != value:
                    names = [key for key, module in model.named_modules() if module in ratios]
                    raise InputError(f"layers {names} lose units together: one amount for all of them")
    share = 0.0 if isinstance(amount, Mapping) else amount
    pruner = pruner_of(model, inputs, share, criterion, locked, ratios)
    for group in pruner.step(interactive=True):
        yield pruner.DG, group


def _set_heads(whole: nn.Module, shrunk: nn.Module) -> None:
    """Bring the numbers of heads up to date, in place: heads keep their width."""
    names = {module: name for name, module in whole.named_modules()}
    before = {names[module]: (module, layers) for module, layers in attention_heads(whole).items()}
    after = dict(shrunk.named_modules())
    for name, (module, layers) in before.items():
        now = after[names[layers[0]]].out_features
        after[name].num_heads = module.num_heads * now // layers[0].out_features


@contextmanager
def named_errors(model: str) -> Iterator[None]:
    """What torch-pruning stumbles over becomes an InputError."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        told = " ".join(str(error).split())[:200]
        raise InputError(
            f"torch-pruning's graph cannot follow {model}: {type(error).__name__} {told}; "
            f"keep=[...] the layers around what it does not know (splits, shuffles, gates, recurrent layers)"
        ) from error


def _remember(model: nn.Module, before: Mapping[str, int], after: Mapping[str, int]) -> None:
    """Bring the widths that modules keep beside their layers up to date, in place."""
    for name, module in model.named_modules():
        for key in REMEMBERED:
            width = getattr(module, key, None)
            for child, _ in module.named_children():
                full = f"{name}.{child}" if name else child
                if full in before and before[full] == width:
                    setattr(module, key, after[full])


def _rehearse_training(whole: nn.Module, shrunk: nn.Module, example: Arguments) -> None:
    """Run the shrunk model as it is trained, with parts such as auxiliary heads that it has only then.

    Raises InputError naming those parts if the whole model runs so and the shrunk one does not.
    """
    inputs = map_tensors(example, lambda tensor: torch.cat([tensor, tensor]))
    reasons = []
    for model in (whole, shrunk):
        copied = clone(model).train()
        try:
            with torch.no_grad(), torch.random.fork_rng():
                copied(*inputs[0], **inputs[1])
            reasons.append("")
        except Exception as error:
            reasons.append(" ".join(str(error).split())[:200] or type(error).__name__)
    if reasons[1] and not reasons[0]:
        idle = _idle(whole, example)
        raise InputError(
            f"the shrunk model does not run in training mode ({reasons[1]}): what runs in training only "
            f"({', '.join(idle) or 'a branch of its forward'}) cannot lose units with the rest; set it to "
            f"None first, or keep=[...] the layers that feed it"
        )


def _idle(model: nn.Module, example: Arguments) -> list[str]:
    """Names of the parts with parameters that a pass in evaluation mode does not run."""
    called: set[nn.Module] = set()
    handles = [m.register_forward_pre_hook(lambda m, _: called.add(m)) for m in model.modules()]
    outputs(model, [example])
    for handle in handles:
        handle.remove()
    return [name for name, child in model.named_children() if child not in called and _owns(child)]


def _owns(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())


def _check(amount: float | Mapping[str, float] | None) -> None:
    amounts = amount if isinstance(amount, Mapping) else {"": amount}
    for name, value in amounts.items():
        if value is not None and not 0 < value < 1:
            where = f" for layer {name!r}" if name else ""
            raise InputError(f"amount must be a fraction between 0 and 1, found {value!r}{where}")


def save_shrunk(model: nn.Module, path: str | Path) -> None:
    """Write a shrunk model's weights, their SHA-256 and the sizes of its layers as one safetensors file."""
    from safetensors.torch import save_file

    sizes = {
        name: {key: getattr(module, key) for key in ATTRIBUTES if _is_size(getattr(module, key, None))}
        for name, module in model.named_modules(remove_duplicate=False)
    }
    tensors = {key: value.contiguous().clone() for key, value in model.state_dict().items()}
    facts = {
        "sizes": json.dumps({name: found for name, found in sizes.items() if found}),
        "sha256": fingerprint(model),
    }
    write_whole(path, lambda beside: save_file(tensors, beside, metadata=facts))


def _is_size(value: Any) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return whole or (isinstance(value, tuple) and all(isinstance(n, int) for n in value))


def load_shrunk(model: nn.Module, path: str | Path) -> nn.Module:
    """A copy of `model` (fresh from its factory) with the sizes and weights that save_shrunk wrote.

    Raises InputError for a damaged file (every bit counts) and for another architecture. Nothing in the file
    is executed.
    """
    from safetensors import SafetensorError, safe_open

    copied, path = clone(model), Path(path)
    try:
        with safe_open(str(path), framework="pt") as file:
            facts = file.metadata() or {}
            sizes = json.loads(facts.get("sizes", "{}"))
            if set(file.keys()) != set(copied.state_dict()):
                copied = unpack_attention(copied)
            state = copied.state_dict()
            if set(file.keys()) != set(state):
                odd = sorted(set(file.keys()) ^ set(state))[:3]
                raise InputError(f"{path} holds another architecture: it differs in {odd}")
            for key, tensor in state.items():  # before anything of the file is read into memory
                shape = file.get_slice(key).get_shape()
                if len(shape) != tensor.dim() or any(n > m for n, m in zip(shape, tensor.shape, strict=True)):
                    raise InputError(f"{path} holds another architecture: {key} has shape {tuple(shape)}")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, RecursionError) as error:
        raise error if isinstance(error, InputError) else InputError(f"{path} is damaged: {error}") from error
    _set_sizes(copied, sizes, path)
    _set_tensors(copied, tensors)
    if facts.get("sha256") not in (None, fingerprint(copied)):
        raise InputError(f"{path} is damaged: its weights' SHA-256 is not the one that was stored")
    return copied


def _set_sizes(model: nn.Module, sizes: Any, path: Path) -> None:
    """Set the sizes that modules keep, in place; raises InputError for what is no size of theirs."""
    modules = dict(model.named_modules(remove_duplicate=False))
    if not isinstance(sizes, dict) or not all(isinstance(found, dict) for found in sizes.values()):
        raise InputError(f"{path} is damaged: the sizes of its layers are not a table")
    for name, found in sizes.items():
        for key, value in found.items():
            size = tuple(value) if isinstance(value, list) else value
            now = getattr(modules.get(name), key, None)
            if key not in ATTRIBUTES or not _is_size(size) or not _is_size(now):
                raise InputError(f"{path} is damaged: {name!r} has no size {key!r} of {value!r:.40}")
            if now != size:
                with suppress(AttributeError):  # a property that follows from other sizes
                    setattr(modules[name], key, size)
    for name, found in sizes.items():
        for key, value in found.items():
            size, now = tuple(value) if isinstance(value, list) else value, getattr(modules[name], key)
            if now != size:
                raise InputError(f"{path}: {key} of {name!r} is {now} and cannot be set to {size}")


def _set_tensors(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put tensors in the place of parameters and buffers; tied ones stay one."""
    modules = dict(model.named_modules(remove_duplicate=False))
    ties: dict[nn.Parameter, nn.Parameter] = {}
    for key, tensor in tensors.items():
        where, _, own = key.rpartition(".")
        module = modules[where]
        old = module._parameters.get(own)
        if old is not None:
            fresh = nn.Parameter(tensor, requires_grad=old.requires_grad)
            module._parameters[own] = ties.setdefault(old, fresh)
        else:
            module._buffers[own] = tensor
