"""Which weights or neurons of a group of layers go: the lowest scores, or those that a sampler picks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from capacity.errors import InputError
from capacity.inputs import without_weights
from compression.amounts import number_of
from compression.counting import all_finite
from compression.criteria import Criterion, Observed, Observer, Sampler, elementwise, widened
from compression.masks import Masks
from compression.selection import Scores, masks_without_lowest, number_set
from compression.targets import Target, Unit


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
class Rule:
    """How to choose: by which scores, which units, and how many every layer keeps at least."""

    criterion: Criterion
    unit: Unit
    keep: int


def prune_group(
    group: Mapping[str, Target], rule: Rule, amount: int | float, masks: Masks
) -> tuple[list[PrunedLayer], int]:
    """Prune `amount` of all units of some layers together; updates `masks`.

    Returns a row per layer and how many units were asked for, which may be more than could go.
    """
    if rule.unit == "weight" and not isinstance(rule.criterion, Sampler):
        return _prune_by_threshold(group, rule, amount, masks)
    layers = [_Candidates(target, masks, rule.unit) for target in group.values()]
    alive = [layer.alive.numel() for layer in layers]
    if isinstance(rule.criterion, Sampler):
        room = [max(0, count - rule.keep) for count in alive]
        number, asked = number_of(amount, alive, room, what=_what(group, rule), keep=rule.keep)
        parts = _sampled(rule.criterion, alive, number, rule.keep)
    else:
        scores = [layer.scores(rule.criterion, mean=len(group) > 1) for layer in layers]
        room = [_room(part, rule.keep) for part in scores]
        number, asked = number_of(amount, alive, room, what=_what(group, rule), keep=rule.keep)
        parts = _lowest(scores, number, rule.keep)
    return [layer.drop(part, masks) for layer, part in zip(layers, parts, strict=True)], asked


def _prune_by_threshold(
    group: Mapping[str, Target], rule: Rule, amount: int | float, masks: Masks
) -> tuple[list[PrunedLayer], int]:
    """Single weights, by a threshold common to all layers."""
    criterion = rule.criterion
    assert not isinstance(criterion, Sampler)
    parts, alive, room = [], [], []
    for target in group.values():
        weight, mask = checked_value(target), target.mask(masks)
        living = None if mask is None or bool(mask.all()) else mask.to(weight.device).flatten()
        score = elementwise(criterion, weight)
        values = weight if score is not None else scores_of(target, criterion, weight)
        parts.append(Scores(values.flatten(), score or (lambda part: part), living))
        alive.append(weight.numel() if living is None else number_set(living))
        free = alive[-1] if score is not None else int(_finite(values.flatten(), living).sum())
        room.append(max(0, min(alive[-1] - rule.keep, free)))
    number, asked = number_of(amount, alive, room, what=_what(group, rule), keep=rule.keep)
    dead = sum(part.values.numel() for part in parts) - sum(alive)
    rows = []
    survivors = masks_without_lowest(parts, number + dead, keep=rule.keep)
    for (name, target), before, mask in zip(group.items(), alive, survivors, strict=True):
        masks |= dict.fromkeys(target.names, mask.view(target.shape))
        rows.append(PrunedLayer(name, before, before - number_set(mask)))
    return rows, asked


def checked_value(target: Target) -> Tensor:
    """A target's matrix; raises InputError where no criterion could rank it."""
    weight = target.value()
    if weight.is_meta:
        raise without_weights(target.name)
    if not all_finite(weight):
        number = "NaN" if bool(torch.isnan(weight).any()) else "infinity"
        raise InputError(f"layer {target.name!r}: weight holds {number}, so no criterion can rank it")
    return weight


def scores_of(target: Target, criterion: Criterion, weight: Tensor) -> Tensor:
    """A criterion's scores of a whole layer as floats; raises InputError for what cannot be ranked."""
    assert not isinstance(criterion, Sampler | Observer)
    given: Any
    if isinstance(criterion, Observed):
        given = criterion.of(target.names)
        if given is None:
            raise InputError(
                f"layer {target.name!r}: {type(criterion.observer).__name__} saw nothing of it on these "
                f"batches; layers=[...] names those to prune, or prune it by L1() on its own"
            )
    else:
        given = criterion(widened(weight))
    name = f"layer {target.name!r}: the criterion gave"
    if not isinstance(given, Tensor):
        raise InputError(f"{name} {type(given).__name__} instead of a tensor of scores")
    scores = given
    if scores.shape != weight.shape:
        raise InputError(
            f"{name} scores of shape {tuple(scores.shape)} for a weight of shape {tuple(weight.shape)}"
        )
    if scores.is_complex():
        raise InputError(f"{name} complex scores, which have no order")
    scores = scores.detach().to(weight.device)
    scores = widened(scores) if scores.is_floating_point() else scores.double()
    if bool(torch.isnan(scores).any()):
        raise InputError(f"{name} NaN scores")
    return scores.clamp(min=torch.finfo(scores.dtype).min)  # dead elements alone lie at minus infinity


def _finite(scores: Tensor, alive: Tensor | None) -> Tensor:
    """Which scores may be pruned: plus infinity means to keep."""
    finite = scores != torch.inf
    return finite if alive is None else finite & alive


def _room(scores: Tensor, keep: int) -> int:
    return max(0, min(scores.numel() - keep, int((scores != torch.inf).sum())))


def _what(group: Mapping[str, Target], rule: Rule) -> str:
    where = f"layer {next(iter(group))!r} has" if len(group) == 1 else "the layers together have"
    return f"{where}|{rule.unit}s"


class _Candidates:
    """The units of one layer that are still alive."""

    def __init__(self, target: Target, masks: Masks, unit: Unit) -> None:
        self.target, self.unit = target, unit
        self.weight = checked_value(target)
        mask = target.mask(masks)
        ones = torch.ones_like(self.weight, dtype=torch.bool)
        self.mask = ones if mask is None else mask.to(self.weight.device)
        alive = target.by_unit(self.mask).any(1) if unit == "neuron" else self.mask.flatten()
        self.alive = alive.nonzero().flatten()

    def scores(self, criterion: Criterion, mean: bool) -> Tensor:
        """Scores of the units alive; a neuron's is the sum over its weights, or the mean."""
        scores = scores_of(self.target, criterion, self.weight)
        if self.unit == "neuron":
            rows = self.target.by_unit(scores)
            scores = rows.mean(1) if mean else rows.sum(1)
        return scores.flatten()[self.alive].cpu()

    def drop(self, positions: Tensor, masks: Masks) -> PrunedLayer:
        """Mask the alive units at `positions`."""
        target, units = self.target, self.alive[positions.to(self.alive.device)]
        if self.unit == "neuron":
            count = target.by_unit(self.mask).shape[0]
            living = torch.ones(count, dtype=torch.bool, device=self.mask.device).index_fill_(0, units, False)
            mask = self.mask & target.spread(living)
            for name, shape in target.biases:
                ones = torch.ones(shape, dtype=torch.bool, device=units.device)
                bias = masks.get(name, ones).to(units.device)
                masks[name] = bias.index_fill(0, units + target.place.bias_start, False)
        else:
            mask = self.mask.flatten().index_fill(0, units, False).view(self.mask.shape)
        masks |= dict.fromkeys(target.names, mask)
        return PrunedLayer(target.name, self.alive.numel(), positions.numel())


def _lowest(scores: Sequence[Tensor], number: int, keep: int) -> list[Tensor]:
    """Positions of the `number` lowest scores in each part, the best `keep` of each part spared."""
    spared = []
    for part in scores:
        open_ = torch.ones_like(part, dtype=torch.bool)
        if keep:
            open_[part.argsort(stable=True)[-keep:]] = False
        spared.append(open_)
    free = torch.cat(spared)
    order = torch.cat(list(scores)).argsort(stable=True)
    picked = torch.zeros(len(order), dtype=torch.bool).index_fill_(0, order[free[order]][:number], True)
    return _positions(picked, [part.numel() for part in scores])


def _sampled(criterion: Sampler, alive: Sequence[int], number: int, keep: int) -> list[Tensor]:
    """Positions that a sampler picks; where it empties a part, others are picked instead."""
    total = sum(alive)
    picked = torch.zeros(total, dtype=torch.bool)
    picked[_picks(criterion, total, number)] = True
    for part in picked.split(list(alive)):
        missing = min(keep, len(part)) - int((~part).sum())
        if missing > 0:
            part[part.nonzero().flatten()[-missing:]] = False  # a view: the sample itself changes
    if (lacking := number - int(picked.sum())) > 0:
        free = ~picked
        for open_ in free.split(list(alive)):
            open_[open_.nonzero().flatten()[-keep:]] = False
        places = free.nonzero().flatten()
        picked[places[_picks(criterion, len(places), lacking)]] = True
    return _positions(picked, alive)


def _picks(criterion: Sampler, count: int, number: int) -> Tensor:
    """What a sampler chooses; raises InputError for what is not `number` distinct indices."""
    chosen = np.asarray(criterion.choose(count, number))
    indices = chosen.ndim == 1 and (chosen.dtype.kind in "iu" or not chosen.size)
    if not indices or len(np.unique(chosen)) != number or len(chosen) != number:
        raise InputError(f"{criterion!r} did not choose {number} distinct indices, but {chosen!r:.200}")
    if number and not 0 <= int(chosen.min()) <= int(chosen.max()) < count:
        raise InputError(f"{criterion!r} chose indices outside of range({count})")
    return torch.from_numpy(chosen.astype(np.int64))


def _positions(picked: Tensor, counts: Sequence[int]) -> list[Tensor]:
    """Where each part of a mask is True."""
    return [part.nonzero().flatten() for part in picked.split(list(counts))]
