"""shrink(): physically remove neurons and channels, so that memory and time fall too.

Which layers must lose a channel together (shortcuts, concatenations, batch norms, what follows) is found by
torch-pruning's dependency graph (Fang et al. 2023, "DepGraph: Towards Any Structural Pruning").
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from capacity.cloning import clone, fold_masks
from capacity.errors import InputError, unknown
from capacity.inputs import example_input, tensors_in
from capacity.measuring import measure
from capacity.report import render
from compression.checkpoints import write_whole
from compression.criteria import Criterion, Sampler

if TYPE_CHECKING:
    import pandas as pd

ATTRIBUTES = (
    "in_features", "out_features", "in_channels", "out_channels", "groups", "num_features", "num_channels",
    "normalized_shape",
)  # fmt: skip


@dataclass(frozen=True)
class ShrunkLayer:
    """Units of one layer before and after."""

    name: str
    before: int
    after: int


@dataclass(frozen=True)
class ShrinkResult:
    """A smaller model. `requested` is a fraction of channels, or None for what masks silenced.

    `largest_difference` is how far its outputs lie from the masked model's on random input, in units of
    the outputs; None where channels were removed that were not silent.
    """

    model: nn.Module
    requested: float | None
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
    amount: float | None = None,
    criterion: Criterion | None = None,
    keep: Sequence[str] = (),
) -> ShrinkResult:
    """A copy of the model with neurons and channels removed; the model itself is not changed.

    Parameters
    ----------
    input_size: as for `capacity.measure`
    amount: the fraction of the channels of every group of coupled layers to remove; None removes what
        is silent already, after `prune(..., unit="neuron")`
    criterion: whose lowest scores go first, summed over all coupled layers; by default torch-pruning's
        group magnitude (L2)
    keep: names of layers that keep all their units; the output layers always do

    Raises InputError for an amount outside (0, 1), unknown layers, and a model without silent units.
    """
    import torch_pruning

    if amount is not None and not 0 < amount < 1:
        raise InputError(f"amount must be a fraction between 0 and 1, found {amount!r}")
    copied = fold_masks(clone(model)).eval()
    kept = [copied.get_submodule(name) for name in _kept(copied, input_size, keep)]
    args, kwargs = example_input(copied, input_size, device=str(next(copied.parameters()).device))
    example: Any = kwargs or args
    before = _units(copied)
    parameters = sum(p.numel() for p in copied.parameters())
    difference = None
    if amount is None:
        random = [torch.randn_like(t) if t.is_floating_point() else t for t in args]
        with torch.no_grad():
            expected = copied(*random, **kwargs)
        _remove_silent(copied, example, kept)
        with torch.no_grad():
            difference = _largest(expected, copied(*random, **kwargs))
    else:
        importance = _Importance(criterion) if criterion is not None else None
        pruner = torch_pruning.pruner.BasePruner(
            copied, example, importance or torch_pruning.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=amount, ignored_layers=kept,
        )  # fmt: skip
        pruner.step()
    copied.zero_grad(set_to_none=True)
    after = _units(copied)
    names = [name for name in before if copied.get_submodule(name) not in kept]
    layers = tuple(ShrunkLayer(name, before[name], after[name]) for name in names)
    left = sum(p.numel() for p in copied.parameters())
    return ShrinkResult(copied.train(model.training), amount, parameters, left, layers, difference)


def _kept(model: nn.Module, input_size: Any, keep: Sequence[str]) -> list[str]:
    """The named layers and those whose output feeds no other layer."""
    known = [name for name, _ in model.named_modules() if name]
    for name in keep:
        if name not in known:
            raise unknown("layer to keep", name, known)
    rows = [
        row for row in measure(model, input_size).layers if row.output_bits and row.kind != "normalization"
    ]
    feeding = {source for row in rows for source in row.sources}
    return [*keep, *(row.name for row in rows if row.name not in feeding and row.name in known)]


def _units(model: nn.Module) -> dict[str, int]:
    """Units of every dense and convolutional layer."""
    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, kinds):
            found[name] = int(module.out_features if isinstance(module, nn.Linear) else module.out_channels)
    return found


class _Importance:
    """A criterion of ours as torch-pruning's importance: scores of a channel, summed over coupled layers."""

    def __init__(self, criterion: Criterion) -> None:
        self.criterion = criterion

    def __call__(self, group: Any) -> Tensor | None:
        total: Tensor | None = None
        for dependency, places in group:
            layer, function = dependency.layer, dependency.pruning_fn.__name__
            if not isinstance(layer, nn.Linear | nn.modules.conv._ConvNd):
                continue
            weight = layer.weight.detach()
            if "out_channels" not in function:
                weight = weight.transpose(0, 1)
            if isinstance(self.criterion, Sampler):
                scores = torch.from_numpy(self.criterion.choose(len(weight), len(weight)).argsort()).float()
            else:
                scores = self.criterion(weight).flatten(1).sum(1)
            if len(scores) <= max(places):  # a grouped or depthwise layer, scored by what it is coupled to
                continue
            scores = scores[places]
            total = scores if total is None or len(total) != len(scores) else total + scores
        return total


def _remove_silent(model: nn.Module, example: Any, kept: Sequence[nn.Module]) -> None:
    """Remove units whose weights and bias are zero in every coupled layer."""
    import torch_pruning as tp

    graph = tp.DependencyGraph().build_dependency(model, example)
    removed = 0
    for name in _units(model):
        layer = model.get_submodule(name)
        silent = _silent(layer)
        if layer in kept or getattr(layer, "groups", 1) > 1 or not silent:
            continue
        linear = isinstance(layer, nn.Linear)
        function = tp.prune_linear_out_channels if linear else tp.prune_conv_out_channels
        silent = _silent_together(graph.get_pruning_group(layer, function, idxs=silent), silent)
        if silent:
            group = graph.get_pruning_group(layer, function, idxs=silent)
            if graph.check_pruning_group(group):
                group.prune()
                removed += len(silent)
    if not removed:
        raise InputError(
            "no unit can be removed: none is silent (all weights and bias zero) in all layers coupled to it; "
            "prune(..., unit='neuron') first, or give an amount"
        )


def _silent_together(group: Any, silent: list[int]) -> list[int]:
    """Those of the silent units whose coupled units, in layers beside and normalizations behind, are too."""
    together = set(range(len(silent)))
    for dependency, places in group:
        weight = getattr(dependency.layer, "weight", None)
        if isinstance(weight, Tensor) and "out_channels" in dependency.pruning_fn.__name__:
            quiet = set(_silent(dependency.layer))
            together = {k for k in together if len(places) == len(silent) and places[k] in quiet}
    return [silent[k] for k in sorted(together)]


def _silent(layer: Any) -> list[int]:
    """Units that emit zero whatever comes in; of a normalization, channels with zero scale and shift."""
    weight, bias = layer.weight, getattr(layer, "bias", None)
    quiet = weight.detach().flatten(1).eq(0).all(1) if weight.dim() > 1 else weight.detach().eq(0)
    if bias is not None:
        quiet &= bias.detach().eq(0)
    return [int(place) for place in quiet.nonzero().flatten()]


def _largest(expected: Any, found: Any) -> float:
    pairs = zip(tensors_in(expected), tensors_in(found), strict=True)
    return max(float((one - two).abs().max()) for one, two in pairs)


def save_shrunk(model: nn.Module, path: str | Path) -> None:
    """Write a shrunk model's weights and the sizes of its layers as one safetensors file."""
    from safetensors.torch import save_file

    sizes = {
        name: {key: getattr(module, key) for key in ATTRIBUTES if hasattr(module, key)}
        for name, module in model.named_modules()
    }
    tensors = {key: value.contiguous().clone() for key, value in model.state_dict().items()}
    facts = {"sizes": json.dumps({name: found for name, found in sizes.items() if found})}
    write_whole(path, lambda beside: save_file(tensors, beside, metadata=facts))


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
        odd = sorted(tensors.keys() ^ copied.state_dict().keys())[:3]
        raise InputError(f"{Path(path)} holds another architecture: it differs in {odd}")
    modules = dict(copied.named_modules())
    for name, found in sizes.items():
        for key, value in found.items():
            if key in ATTRIBUTES and name in modules and isinstance(value, int | list):
                setattr(modules[name], key, tuple(value) if isinstance(value, list) else value)
    for key, tensor in tensors.items():
        where, _, own = key.rpartition(".")
        module = modules[where]
        if own in module._parameters:
            learns = module._parameters[own].requires_grad
            module._parameters[own] = nn.Parameter(tensor, requires_grad=learns)
        else:
            module._buffers[own] = tensor
    return copied
