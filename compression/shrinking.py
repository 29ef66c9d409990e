"""shrink(): physically remove neurons and channels, so that memory and time fall too.

Which layers must lose a channel together is the business of `compression.coupling`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from capacity.attention import unpack_attention
from capacity.cloning import clone, plain_copy
from capacity.errors import InputError
from capacity.inputs import example_input, tensors_in
from capacity.report import render
from compression.checkpoints import write_whole
from compression.coupling import attention_heads, group_of, groups_of, locked_layers, pruner_of, units_of
from compression.criteria import Criterion
from compression.silencing import remove_silent

if TYPE_CHECKING:
    import pandas as pd

ATTRIBUTES = (
    "in_features", "out_features", "in_channels", "out_channels", "groups", "num_features", "num_channels",
    "normalized_shape", "num_heads", "hidden_dim", "embed_dim",
)  # fmt: skip
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
    copied = unpack_attention(plain_copy(model).eval())
    locked = locked_layers(copied, input_size, keep)
    args, kwargs = example_input(copied, input_size, device=str(next(copied.parameters()).device))
    example: Any = kwargs or args
    before = units_of(copied)
    parameters = sum(p.numel() for p in copied.parameters())
    difference = None
    if amount is None:
        random = [torch.randn_like(t) if t.is_floating_point() else t for t in args]
        with torch.no_grad():
            expected = copied(*random, **kwargs)
        remove_silent(copied, example, [copied.get_submodule(name) for name in locked])
        with torch.no_grad():
            difference = _largest(expected, copied(*random, **kwargs))
    else:
        _remove(copied, example, amount, criterion, locked)
    copied.zero_grad(set_to_none=True)
    after = units_of(copied)
    for name, value in amount.items() if isinstance(amount, Mapping) else ():
        if after[name] == before[name]:
            raise InputError(
                f"layer {name!r} of {before[name]} units lost none to an amount of {value}: it is coupled to "
                f"a grouped convolution, which would lose whole groups, or has too few units"
            )
    if amount is not None and after == before:
        raise InputError(
            f"nothing was removed: {amount!r} of no layer makes a whole unit, or {len(locked)} layers keep "
            f"theirs ({'; '.join(f'{name!r}: {why}' for name, why in list(locked.items())[:3])})"
        )
    _remember(copied, before, after)
    _rehearse(copied, args, kwargs)
    layers = tuple(ShrunkLayer(name, before[name], after[name]) for name in before if name not in locked)
    left = sum(p.numel() for p in copied.parameters())
    return ShrinkResult(copied.train(model.training), amount, parameters, left, layers, difference)


def _remember(model: nn.Module, before: Mapping[str, int], after: Mapping[str, int]) -> None:
    """Bring the widths that modules keep beside their layers up to date, in place."""
    for name, module in model.named_modules():
        for key in REMEMBERED:
            width = getattr(module, key, None)
            for child, _ in module.named_children():
                full = f"{name}.{child}" if name else child
                if full in before and before[full] == width:
                    setattr(module, key, after[full])


def _rehearse(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Run the shrunk model; raises InputError if its forward pass counts on widths it no longer has."""
    try:
        with torch.no_grad():
            model(*args, **kwargs)
    except (RuntimeError, ValueError, AssertionError) as error:
        raise InputError(
            f"the shrunk model does not run: its forward pass counts on a width that changed "
            f"({' '.join(str(error).split())[:200]}); keep=[...] the layers of that width"
        ) from error


def _check(amount: float | Mapping[str, float] | None) -> None:
    amounts = amount if isinstance(amount, Mapping) else {"": amount}
    for name, value in amounts.items():
        if value is not None and not 0 < value < 1:
            where = f" for layer {name!r}" if name else ""
            raise InputError(f"amount must be a fraction between 0 and 1, found {value!r}{where}")


def _remove(
    model: nn.Module,
    example: Any,
    amount: float | Mapping[str, float],
    criterion: Criterion | None,
    locked: Mapping[str, str],
) -> None:
    """Remove the least important units of every group, or of those named; in place."""
    ratios: dict[nn.Module, float] = {}
    if isinstance(amount, Mapping):
        graph = pruner_of(model, example, 0.0, None, locked, {})
        groups = groups_of(model, graph, locked)
        for name, value in amount.items():
            group = group_of(name, model, groups, locked)
            for layer in group:
                if ratios.setdefault(layer, value) != value:
                    names = [key for key, module in model.named_modules() if module in group]
                    raise InputError(f"layers {names} lose units together: one amount for all of them")
    pruner = pruner_of(
        model, example, 0.0 if isinstance(amount, Mapping) else amount, criterion, locked, ratios
    )
    pruner.step()
    for module, layers in attention_heads(model).items():
        module.num_heads = pruner.num_heads[layers[0]]


def _largest(expected: Any, found: Any) -> float:
    pairs = zip(tensors_in(expected), tensors_in(found), strict=True)
    return max(float((one - two).abs().max()) for one, two in pairs)


def save_shrunk(model: nn.Module, path: str | Path) -> None:
    """Write a shrunk model's weights and the sizes of its layers as one safetensors file."""
    from safetensors.torch import save_file

    sizes = {
        name: {key: getattr(module, key) for key in ATTRIBUTES if _is_size(getattr(module, key, None))}
        for name, module in model.named_modules()
    }
    tensors = {key: value.contiguous().clone() for key, value in model.state_dict().items()}
    facts = {"sizes": json.dumps({name: found for name, found in sizes.items() if found})}
    write_whole(path, lambda beside: save_file(tensors, beside, metadata=facts))


def _is_size(value: Any) -> bool:
    return isinstance(value, int) or (isinstance(value, tuple) and all(isinstance(n, int) for n in value))


def load_shrunk(model: nn.Module, path: str | Path) -> nn.Module:
    """A copy of `model` (fresh from its factory) with the sizes and weights that save_shrunk wrote.

    Raises InputError for a damaged file and for another architecture. Nothing in the file is executed.
    """
    from safetensors import SafetensorError, safe_open

    copied = clone(model)
    try:
        with safe_open(str(path), framework="pt") as file:
            sizes = json.loads((file.metadata() or {}).get("sizes", "{}"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        raise InputError(f"{Path(path)} is damaged: {error}") from error
    if tensors.keys() != copied.state_dict().keys():
        copied = unpack_attention(copied)
    if tensors.keys() != copied.state_dict().keys():
        odd = sorted(tensors.keys() ^ copied.state_dict().keys())[:3]
        raise InputError(f"{Path(path)} holds another architecture: it differs in {odd}")
    modules = dict(copied.named_modules())
    for name, found in sizes.items():
        for key, value in found.items():
            if key in ATTRIBUTES and name in modules and isinstance(value, int | list):
                setattr(modules[name], key, tuple(value) if isinstance(value, list) else value)
    ties: dict[int, nn.Parameter] = {}
    for key, tensor in tensors.items():
        where, _, own = key.rpartition(".")
        module = modules[where]
        old = module._parameters.get(own)
        if old is not None:  # tied parameters stay one
            fresh = nn.Parameter(tensor, requires_grad=old.requires_grad)
            module._parameters[own] = ties.setdefault(id(old), fresh)
        else:
            module._buffers[own] = tensor
    return copied
