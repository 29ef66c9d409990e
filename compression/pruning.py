"""prune(): mask single weights or whole neurons, layer by layer or across the network."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn

from capacity.cloning import clone
from capacity.errors import InputError, unknown
from capacity.report import render
from compression.criteria import Criterion, Sampler
from compression.masks import Masks, apply_masks, density, kept_units, masked_value, masks_of, prunable

if TYPE_CHECKING:
    import pandas as pd

Unit = Literal["weight", "neuron"]
Scope = Literal["layer", "global"]


@dataclass(frozen=True)
class PrunedLayer:
    """One layer: units that were alive before, and that were pruned now."""

    name: str
    before: int
    pruned: int

    @property
    def after(self) -> int:
        return self.before - self.pruned


@dataclass(frozen=True)
class PruneResult:
    """A masked copy of the model. Mask only: nothing became smaller or faster until it is shrunk.

    `requested` is the amount as given; `achieved` is what was pruned, in the same measure (units per
    layer, or all of them for scope "global", or a fraction of the units that were alive).
    """

    model: nn.Module
    masks: Masks
    requested: int | float
    achieved: int | float
    unit: str
    layers: tuple[PrunedLayer, ...]

    @property
    def density(self) -> float:
        """Kept parameters as a fraction of all elements of the masked tensors."""
        return density(self.masks)

    def to_frame(self) -> "pd.DataFrame":
        """A row per layer: units before, pruned and after."""
        import pandas as pd

        return pd.DataFrame([asdict(layer) | {"after": layer.after} for layer in self.layers])

    def to_latex(self) -> str:
        """A booktabs table of `to_frame`."""
        return self.to_frame().to_latex(index=False, escape=True)

    def __str__(self) -> str:
        from rich.table import Table

        table = Table()
        for column in ("layer", f"{self.unit}s before", "pruned", "after"):
            table.add_column(column, justify="left" if column == "layer" else "right")
        for layer in self.layers:
            table.add_row(layer.name, f"{layer.before:,}", f"{layer.pruned:,}", f"{layer.after:,}")
        title = f"requested {self.requested:g}, achieved {self.achieved:g}, density {self.density:.4f}"
        return f"{title}\n{render(table)}\nmask only: nothing became smaller or faster"


def prune(
    model: nn.Module,
    criterion: Criterion,
    *,
    amount: int | float,
    unit: Unit = "weight",
    scope: Scope = "layer",
    layers: Sequence[str] | None = None,
) -> PruneResult:
    """A copy of the model with more of its weights or neurons masked; the model itself is not changed.

    Parameters
    ----------
    criterion: L1(), L2(), Random(), Reservoir() or any callable weight -> scores of the same shape;
        the lowest scores go first, a neuron scores the sum over its weights
    amount: int, how many; float in (0, 1), which fraction of those not pruned before
    unit: "weight" (elements of the weight) or "neuron" (a row or output channel, its bias included)
    scope: "layer", the amount holds for each layer; "global", for all of them together, where neurons
        compare by the mean over their weights so that wide layers are not favoured
    layers: names of dense or convolutional layers; by default all but the last one, whose units are
        the outputs

    Raises InputError for an amount that is 0, negative, or leaves a layer without units, for unknown
    layers, and for NaN weights, naming the layer.

    >>> from compression.criteria import L1
    >>> result = prune(nn.Linear(4, 3), L1(), amount=1, unit="neuron", layers=[""])
    >>> result.achieved, result.density
    (1, 0.6666666666666666)
    """
    if unit not in ("weight", "neuron"):
        raise unknown("unit", unit, ["weight", "neuron"])
    if scope not in ("layer", "global"):
        raise unknown("scope", scope, ["layer", "global"])
    _check_amount(amount)
    copied = clone(model)
    chosen = prunable(copied, layers)
    if not chosen:
        raise InputError("the model has no dense or convolutional layer to prune besides its output layer")
    groups = [list(chosen)] if scope == "global" else [[name] for name in chosen]
    masks, rows = masks_of(copied), []
    for names in groups:
        group = {name: _Candidates(name, chosen[name], masks, unit) for name in names}
        rows += _prune_group(group, criterion, amount, masks)
    apply_masks(copied, masks)
    achieved = _achieved(rows, amount, scope)
    return PruneResult(copied, masks_of(copied), amount, achieved, unit, tuple(rows))


def _check_amount(amount: int | float) -> None:
    whole = isinstance(amount, int) and not isinstance(amount, bool)
    if whole and amount >= 1:
        return
    if isinstance(amount, float) and 0 < amount < 1:
        return
    raise InputError(
        f"amount must be an int of at least 1 (how many) or a float between 0 and 1 (which fraction), "
        f"found {amount!r}"
    )


class _Candidates:
    """The units of one layer that are still alive."""

    def __init__(self, name: str, module: nn.Module, masks: Masks, unit: str) -> None:
        self.name, self.unit = name, unit
        self.prefix = f"{name}." if name else ""
        self.weight = masked_value(module, "weight")
        if bool(torch.isnan(self.weight).any()):
            raise InputError(f"layer {name!r}: weight holds NaN, so no criterion can rank it")
        self.mask = masks.get(f"{self.prefix}weight", torch.ones_like(self.weight, dtype=torch.bool))
        bias = getattr(module, "bias", None)
        self.bias_mask = None
        if bias is not None and unit == "neuron":
            whole = torch.ones_like(bias, dtype=torch.bool)
            self.bias_mask = masks.get(f"{self.prefix}bias", whole)
        alive = kept_units(self.mask) if unit == "neuron" else self.mask.flatten()
        self.alive = alive.nonzero().flatten()

    def scores(self, criterion: Criterion, mean: bool) -> Tensor:
        assert callable(criterion)
        scores = criterion(self.weight)
        if scores.shape != self.weight.shape:
            raise InputError(
                f"layer {self.name!r}: the criterion gave scores of shape {tuple(scores.shape)} for a "
                f"weight of shape {tuple(self.weight.shape)}"
            )
        if self.unit == "neuron":
            scores = scores.flatten(1).mean(1) if mean else scores.flatten(1).sum(1)
        return scores.flatten()[self.alive]

    def drop(self, positions: Tensor, masks: Masks) -> PrunedLayer:
        """Mask the alive units at `positions`."""
        if positions.numel() == self.alive.numel():
            raise InputError(
                f"layer {self.name!r}: pruning {positions.numel():,} of its {self.alive.numel():,} "
                f"{self.unit}s would leave it empty; at most {self.alive.numel() - 1:,} can go"
            )
        units, mask = self.alive[positions], self.mask.clone()
        if self.unit == "neuron":
            mask[units] = False
            if self.bias_mask is not None:
                masks[f"{self.prefix}bias"] = self.bias_mask.index_fill(0, units, False)
        else:
            mask.view(-1)[units] = False
        masks[f"{self.prefix}weight"] = mask
        return PrunedLayer(self.name, self.alive.numel(), positions.numel())


def _prune_group(
    group: Mapping[str, _Candidates], criterion: Criterion, amount: int | float, masks: Masks
) -> list[PrunedLayer]:
    """Prune `amount` of all candidates of a group of layers together; updates `masks`."""
    counts = [candidates.alive.numel() for candidates in group.values()]
    total = sum(counts)
    number = amount if isinstance(amount, int) else round(amount * total)
    first = next(iter(group.values()))
    if number >= total:
        where = f"layer {first.name!r} has" if len(group) == 1 else "the layers together have"
        raise InputError(
            f"cannot prune {number:,} {first.unit}s: {where} {total:,} left, and at least one must stay"
        )
    if isinstance(criterion, Sampler):
        chosen = torch.from_numpy(np.asarray(criterion.choose(total, number)))
    else:
        scores = torch.cat([c.scores(criterion, mean=len(group) > 1) for c in group.values()])
        chosen = scores.argsort(stable=True)[:number].cpu()
    picked = torch.zeros(total, dtype=torch.bool).index_fill_(0, chosen, True)
    parts = picked.split(counts)
    return [
        candidates.drop(part.nonzero().flatten().to(candidates.alive.device), masks)
        for candidates, part in zip(group.values(), parts, strict=True)
    ]


def _achieved(rows: Sequence[PrunedLayer], amount: int | float, scope: str) -> int | float:
    pruned, before = sum(row.pruned for row in rows), sum(row.before for row in rows)
    if isinstance(amount, float):
        return pruned / before
    return pruned if scope == "global" else pruned // len(rows)
