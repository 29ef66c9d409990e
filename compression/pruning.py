"""prune(): mask single weights or whole neurons, layer by layer or across the network."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn

from capacity.cloning import clone, initialized, unwrapped
from capacity.errors import InputError, unknown
from capacity.report import render
from compression.criteria import Criterion, Sampler, Scorer, elementwise
from compression.masks import Masks, apply_masks, density, kept_units, masked_value, masks_of, prunable
from compression.selection import Scores, masks_without_lowest

if TYPE_CHECKING:
    import pandas as pd

Unit = Literal["weight", "neuron"]
Scope = Literal["layer", "global"]
Amount = int | float | Mapping[str, int | float]


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
    layer, or all of them for scope "global", or a fraction of the units that were alive; or that for
    each layer).
    """

    model: nn.Module
    masks: Masks
    requested: Amount
    achieved: Amount
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
        amounts = f"requested {shown(self.requested)}, achieved {shown(self.achieved)}"
        title = f"{amounts}, density {self.density:.4f}"
        return f"{title}\n{render(table)}\nmask only: nothing became smaller or faster"


def shown(amount: Amount) -> str:
    """An amount as text; of amounts per layer, how many layers they are for."""
    return f"per layer ({len(amount)})" if isinstance(amount, Mapping) else f"{amount:g}"


def prune(
    model: nn.Module,
    criterion: Criterion,
    *,
    amount: Amount,
    unit: Unit = "weight",
    scope: Scope = "layer",
    layers: Sequence[str] | None = None,
) -> PruneResult:
    """A copy of the model with more of its weights or neurons masked; the model itself is not changed.

    Parameters
    ----------
    criterion: L1(), L2(), Random(), Reservoir() or any callable weight -> scores of the same shape;
        the lowest scores go first, a neuron scores the sum over its weights
    amount: int, how many; float in (0, 1), which fraction of those not pruned before; or a dict that
        gives either for each layer
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
    model = initialized(unwrapped(model))
    masks = masks_of(model)
    rows = extend_masks(model, masks, criterion, amount=amount, unit=unit, scope=scope, layers=layers)
    copied = apply_masks(clone(model), masks, keep_dropped=False)
    achieved = _achieved(rows, amount, scope)
    return PruneResult(copied, masks_of(copied), amount, achieved, unit, tuple(rows))


def extend_masks(
    model: nn.Module,
    masks: Masks,
    criterion: Criterion,
    *,
    amount: Amount,
    unit: Unit = "weight",
    scope: Scope = "layer",
    layers: Sequence[str] | None = None,
) -> list[PrunedLayer]:
    """Drop more from `masks`, in place, by the weights of `model`, which stays as it is; see `prune`."""
    if unit not in ("weight", "neuron"):
        raise unknown("unit", unit, ["weight", "neuron"])
    if scope not in ("layer", "global"):
        raise unknown("scope", scope, ["layer", "global"])
    if isinstance(amount, Mapping):
        if layers is not None or scope != "layer":
            raise InputError("amounts per layer name the layers: leave out layers and scope")
        amounts = dict(zip(prunable(model, list(amount)), amount.values(), strict=True))
        pairs = [([name], number) for name, number in amounts.items()]
    else:
        chosen = list(prunable(model, layers))
        if not chosen:
            raise InputError(
                "the model has no dense or convolutional layer to prune besides its output layer"
            )
        pairs = [(chosen, amount)] if scope == "global" else [([name], amount) for name in chosen]
    rows: list[PrunedLayer] = []
    for names, number in pairs:
        _check_amount(number)
        group = {name: model.get_submodule(name) for name in names}
        if unit == "weight" and not isinstance(criterion, Sampler):
            rows += _prune_weights(group, criterion, number, masks)
        else:
            candidates = {name: _Candidates(name, module, masks, unit) for name, module in group.items()}
            rows += _prune_group(candidates, criterion, number, masks)
    return rows


def _prune_weights(
    group: Mapping[str, nn.Module], criterion: Scorer, amount: int | float, masks: Masks
) -> list[PrunedLayer]:
    """Prune single weights of a group of layers by a common threshold; updates `masks`."""
    parts, before = {}, {}
    for name, module in group.items():
        weight = masked_value(module, "weight")
        _refuse_nan(name, weight)
        mask = masks.get(_prefix(name) + "weight")
        alive = None if mask is None or bool(mask.all()) else mask.flatten()
        score = elementwise(criterion, weight)
        if score is None:
            parts[name] = Scores(_whole(name, criterion, weight).flatten(), lambda part: part, alive)
        else:
            parts[name] = Scores(weight.flatten(), score, alive)
        before[name] = weight.numel() if alive is None else int(torch.count_nonzero(alive))
    number = _number(amount, sum(before.values()), list(group), "weight")
    dead = sum(part.values.numel() for part in parts.values()) - sum(before.values())
    rows = []
    found = masks_without_lowest(list(parts.values()), number + dead)
    for (name, module), mask in zip(group.items(), found, strict=True):
        after = int(torch.count_nonzero(mask))
        if after == 0:
            raise _empty(name, before[name], before[name], "weight")
        weight = masked_value(module, "weight")
        masks[_prefix(name) + "weight"] = mask.view(weight.shape)
        rows.append(PrunedLayer(name, before[name], before[name] - after))
    return rows


def _whole(name: str, criterion: Scorer, weight: Tensor) -> Tensor:
    """A criterion's scores of a whole layer; raises InputError if their shape is not the weight's."""
    scores = criterion(weight)
    if scores.shape != weight.shape:
        raise InputError(
            f"layer {name!r}: the criterion gave scores of shape {tuple(scores.shape)} for a weight of "
            f"shape {tuple(weight.shape)}"
        )
    return scores


def _prefix(name: str) -> str:
    return f"{name}." if name else ""


def _refuse_nan(name: str, weight: Tensor) -> None:
    if bool(torch.isnan(weight.sum())) and bool(torch.isnan(weight).any()):
        raise InputError(f"layer {name!r}: weight holds NaN, so no criterion can rank it")


def _number(amount: int | float, total: int, names: Sequence[str], unit: str) -> int:
    """How many units to prune; raises InputError if none would stay."""
    number = amount if isinstance(amount, int) else round(amount * total)
    if number >= total:
        where = f"layer {names[0]!r} has" if len(names) == 1 else "the layers together have"
        raise InputError(
            f"cannot prune {number:,} {unit}s: {where} {total:,} left, and at least one must stay"
        )
    return number


def _empty(name: str, pruned: int, alive: int, unit: str) -> InputError:
    return InputError(
        f"layer {name!r}: pruning {pruned:,} of its {alive:,} {unit}s would leave it empty; "
        f"at most {alive - 1:,} can go"
    )


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
        self.name, self.unit, self.prefix = name, unit, _prefix(name)
        self.weight = masked_value(module, "weight")
        _refuse_nan(name, self.weight)
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
        scores = _whole(self.name, criterion, self.weight)
        if self.unit == "neuron":
            scores = scores.flatten(1).mean(1) if mean else scores.flatten(1).sum(1)
        return scores.flatten()[self.alive]

    def drop(self, positions: Tensor, masks: Masks) -> PrunedLayer:
        """Mask the alive units at `positions`."""
        if positions.numel() == self.alive.numel():
            raise _empty(self.name, positions.numel(), self.alive.numel(), self.unit)
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
    unit = next(iter(group.values())).unit
    number = _number(amount, total, list(group), unit)
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


def _achieved(rows: Sequence[PrunedLayer], amount: Amount, scope: str) -> Amount:
    if isinstance(amount, Mapping):
        return {row.name: _achieved([row], amount[row.name], "layer") for row in rows}  # type: ignore[misc]
    pruned, before = sum(row.pruned for row in rows), sum(row.before for row in rows)
    if isinstance(amount, float):
        return pruned / before
    return pruned if scope == "global" else pruned // len(rows)
