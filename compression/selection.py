"""The lowest scores out of hundreds of millions: one threshold, neither a sort nor a copy of them all.

A strided sample of very many scores brackets the threshold; one pass in cache-sized chunks counts what lies
below the bracket and collects what lies inside; the threshold is exact in the few that were collected. A last
pass writes boolean masks. Ties at the threshold go in order of position, so the result is deterministic.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from capacity.errors import InputError

CHUNK_ELEMENTS = 1 << 18  # whose scores stay in the cache
SAMPLE_ELEMENTS = 1 << 20
BLOCK_ELEMENTS = 64  # a sample is made of blocks of neighbours, which is what memory is good at


@dataclass(frozen=True)
class Scores:
    """Scores of one tensor's elements, computed chunk by chunk; dead elements score below all others."""

    values: Tensor  # flat
    score: Callable[[Tensor], Tensor]  # elementwise
    alive: Tensor | None = None  # flat mask, None where all are
    precision: torch.dtype = torch.float32

    @property
    def living(self) -> int:
        return self.values.numel() if self.alive is None else number_set(self.alive)

    def best(self, count: int) -> Tensor:
        """A flat mask of the `count` highest scores; of equal ones, the last."""
        scores = self.chunk(0, self.values.numel())
        mask = torch.zeros_like(scores, dtype=torch.bool)
        mask[scores.argsort(stable=True)[-min(count, self.living) :]] = True
        return mask

    def chunk(self, start: int, stop: int) -> Tensor:
        """Scores of elements start to stop."""
        scores = self.score(self.values[start:stop]).to(self.precision)
        return scores if self.alive is None else scores.masked_fill(~self.alive[start:stop], -torch.inf)

    def chunks(self) -> Iterator[tuple[int, Tensor]]:
        """(start, scores) for all elements."""
        for start in range(0, self.values.numel(), CHUNK_ELEMENTS):
            yield start, self.chunk(start, start + CHUNK_ELEMENTS)

    def sample(self, share: float) -> Tensor:
        """About this share of the scores, in evenly spaced blocks."""
        count = self.values.numel()
        step = max(BLOCK_ELEMENTS, round(BLOCK_ELEMENTS / share))
        starts = torch.arange(0, count, step, device=self.values.device)
        places = (starts[:, None] + torch.arange(BLOCK_ELEMENTS, device=starts.device)).flatten()
        places = places[places < count]
        scores = self.score(self.values[places]).to(self.precision)
        return scores if self.alive is None else scores.masked_fill(~self.alive[places], -torch.inf)


def masks_without_lowest(parts: Sequence[Scores], number: int, *, keep: int = 0) -> list[Tensor]:
    """Flat masks, one per part, that drop the `number` lowest scores of all parts together.

    Dead elements count among the lowest. Ties are dropped in order of parts and positions. Every part keeps
    the best `keep` of its living elements; others go instead.
    """
    if any(part.values.dtype == torch.float64 for part in parts):
        parts = [replace(part, precision=torch.float64) for part in parts]
    chosen: list[Tensor | None] = [None] * len(parts)
    places = list(range(len(parts)))
    while places:
        masks = _lowest([parts[place] for place in places], number)
        short = [
            place
            for place, mask in zip(places, masks, strict=True)
            if not _has(mask, keep) and not _has(mask, min(keep, parts[place].living))
        ]
        if not short:
            for place, mask in zip(places, masks, strict=True):
                chosen[place] = mask
            break
        for place in short:
            chosen[place] = parts[place].best(keep)
            number -= parts[place].values.numel() - min(keep, parts[place].living)
        places = [place for place in places if place not in short]
    return [mask for mask in chosen if mask is not None]


def _has(mask: Tensor, count: int) -> bool:
    """Whether a mask keeps at least `count` elements; looks no further than it must."""
    seen = 0
    for chunk in mask.split(CHUNK_ELEMENTS):
        if seen >= count:
            break
        seen += number_set(chunk)
    return seen >= count


def _lowest(parts: Sequence[Scores], number: int) -> list[Tensor]:
    if number <= 0:
        return [torch.ones_like(part.values, dtype=torch.bool) for part in parts]
    threshold, below, equals = _threshold(parts, number)
    ties = number - below
    split = ties < equals  # only some of the scores at the threshold go
    masks = []
    for part in parts:
        mask = torch.empty(part.values.shape, dtype=torch.bool, device=part.values.device)
        for start, scores in part.chunks():
            survives, values = _comparable(mask[start : start + CHUNK_ELEMENTS]), _comparable(scores)
            if not split:
                survives[:] = values > threshold
                continue
            survives[:] = values >= threshold  # the first ties go, of which no more are left soon
            if ties:
                equal = _places(values == threshold)
                survives[equal[:ties]] = False
                ties = max(0, ties - len(equal))
        masks.append(mask)
    return masks


def _threshold(parts: Sequence[Scores], number: int) -> tuple[float, int, int]:
    """The `number`-th lowest score, and how many scores lie strictly below it and at it."""
    total = sum(part.values.numel() for part in parts)
    device, share = parts[0].values.device, SAMPLE_ELEMENTS / total
    sample = torch.cat([part.sample(share).to(device) for part in parts]) if share < 1 else None
    margin = 0.005
    while True:
        low, high = _bracket(sample, number / total, margin)
        below, inside = 0, []
        for part in parts:
            for _, scores in part.chunks():
                values = _comparable(scores)
                below += number_set(values < low)
                inside.append(scores[_places((values >= low) & (values <= high))].to(device))
        between = torch.cat(inside)
        if below < number <= below + between.numel():
            value = between.kthvalue(number - below).values
            return float(value), below + int((between < value).sum()), int((between == value).sum())
        if low == -torch.inf and high == torch.inf:
            raise InputError("some scores are NaN, which have no order")
        margin *= 8


def _comparable(tensor: Tensor) -> Any:
    """The same numbers as an array of NumPy, which compares them eight times as fast as torch on the CPU."""
    return tensor.detach().numpy() if tensor.device.type == "cpu" else tensor


def number_set(flags: Any) -> int:
    """How many flags of a tensor or an array are set.

    >>> number_set(torch.tensor([[True, False], [True, True]]))
    3
    """
    if isinstance(flags, Tensor) and flags.device.type != "cpu":
        return int(torch.count_nonzero(flags))
    return int(np.count_nonzero(flags))


def _places(flags: Any) -> Any:
    """Where flags are set in a row of them."""
    return flags.nonzero().flatten() if isinstance(flags, Tensor) else np.flatnonzero(flags)


def _quantile(sample: Tensor, place: float) -> float:
    """The score at a place, in order, of a sample."""
    return float(sample.kthvalue(int(place) + 1).values)


def _bracket(sample: Tensor | None, share: float, margin: float) -> tuple[float, float]:
    """Scores between which the quantile `share` lies, by the sample; open where the margin leaves it."""
    if sample is None:  # few scores, of which all are looked at
        return -torch.inf, torch.inf
    last, at = sample.numel() - 1, partial(_quantile, sample)
    low = at((share - margin) * last) if share > margin else -torch.inf
    high = at((share + margin) * last + 1) if (share + margin) * last + 1 < last else torch.inf
    return low, high
