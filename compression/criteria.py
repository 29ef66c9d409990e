"""What to prune first. A criterion either scores weights (the lowest go first) or samples units.

Any callable weight -> scores of the same shape serves as a criterion, `torch.abs` for example.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from capacity import checks
from capacity.errors import InputError, unknown
from capacity.inputs import shown

Center = Literal["mean", "zero"]
Scorer = Callable[[Tensor], Tensor]


@runtime_checkable
class Sampler(Protocol):
    """A criterion that picks units without looking at the weights."""

    def choose(self, count: int, amount: int) -> np.ndarray:
        """`amount` distinct indices out of range(count)."""


Criterion = Scorer | Sampler


def require_criterion(name: str, criterion: Any) -> None:
    """Raise InputError for what neither scores weights nor chooses units."""
    if isinstance(criterion, Sampler) and not isinstance(criterion, np.generic | np.ndarray | type):
        return
    if not checks.takes(criterion, 1):
        raise InputError(
            f"{name} must be L1(), L2(), Random(), Reservoir() or a function weight -> scores, found "
            f"{criterion!r:.60}"
        )


def unit_scores(criterion: Criterion, weight: Tensor) -> Tensor:
    """(units,) what a criterion gives each unit of a weight (units, ...), over all that it holds.

    Raises InputError for scores of another shape, or that are no tensor.
    """
    if isinstance(criterion, Sampler):
        return torch.from_numpy(criterion.choose(len(weight), len(weight)).argsort()).double()
    scores = criterion(weight)
    if not isinstance(scores, Tensor) or scores.shape != weight.shape:
        raise InputError(f"the criterion gave {shown(scores)} for a weight of shape {tuple(weight.shape)}")
    return scores.flatten(1).sum(1)


def widened(values: Tensor) -> Tensor:
    """Half-precision numbers in single precision, in which their differences and squares are told apart."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def _center(weight: Tensor, center: str) -> float | Tensor:
    if center == "mean":
        narrow = weight.dtype in (torch.float16, torch.bfloat16)
        return weight.mean(dtype=torch.float32 if narrow else None)
    if center == "zero":
        return 0.0
    raise unknown("center", center, ["mean", "zero"])


def elementwise(criterion: Criterion, weight: Tensor) -> Scorer | None:
    """A criterion's order as a function of parts of `weight`, or None where it needs the whole at once.

    L2 orders single weights as L1 does, whose distances neither overflow nor vanish.
    """
    if isinstance(criterion, L1 | L2):
        middle = _center(weight, criterion.center)
        if not math.isfinite(middle):  # the sum of huge weights
            return None
        return lambda part: (widened(part) - middle).abs_()
    return None


@dataclass(frozen=True)
class L1:
    """|w - center|, weight by weight; a neuron scores the sum over its weights.

    center: "mean" of the layer's weights, as in the report this package grew out of, or "zero", which is
    the field's magnitude pruning.

    >>> import torch
    >>> L1(center="zero")(torch.tensor([-2.0, 1.0])).tolist()
    [2.0, 1.0]
    """

    center: Center = "mean"

    def __call__(self, weight: Tensor) -> Tensor:
        return (weight - _center(weight, self.center)).abs()


@dataclass(frozen=True)
class L2:
    """(w - center)², weight by weight; ranks single weights as L1 does, neurons differently.

    >>> import torch
    >>> L2(center="zero")(torch.tensor([-2.0, 1.0])).tolist()
    [4.0, 1.0]
    """

    center: Center = "mean"

    def __call__(self, weight: Tensor) -> Tensor:
        return (weight - _center(weight, self.center)).square()


@dataclass(frozen=True)
class EnergyPerBit:
    """w² over the bits that a compressed file spends on w: the weights least worth their place go first.

    A non-zero weight at row i and column j (kernel positions are columns) costs -log2(rᵢ·cⱼ/n) bits for its
    position, where rᵢ, cⱼ and n count the non-zero weights of its row, its column and the layer, as in
    `compression.codec.context_model`, and `value_bits` for its value. Pruned little by little, weights
    gather in few rows and columns, where they cost less. Zero scores zero.

    >>> import torch
    >>> weight = torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 1.0]])
    >>> [round(score, 3) for score in EnergyPerBit()(weight)[:, 2].tolist()]
    [0.5, 0.333]
    """

    value_bits: float = 2.0

    def __call__(self, weight: Tensor) -> Tensor:
        matrix = weight.flatten(1)
        alive = matrix != 0
        rows, columns = alive.sum(1, keepdim=True), alive.sum(0, keepdim=True)
        share = (rows * columns / max(1, int(alive.sum()))).clamp(max=1.0)
        bits = self.value_bits - share.clamp(min=1e-9).log2()
        return (matrix.square() / bits).view_as(weight)


def _generator(seed: int, count: int, amount: int) -> np.random.Generator:
    """A stream of its own for each candidate count, so that successive rounds do not repeat a pattern."""
    return np.random.default_rng((seed, count, amount))


@dataclass(frozen=True)
class Random:
    """A uniform sample without replacement, by permutation.

    >>> sorted(Random(seed=1).choose(4, 4).tolist())
    [0, 1, 2, 3]
    """

    seed: int = 0

    def choose(self, count: int, amount: int) -> np.ndarray:
        """`amount` distinct indices out of range(count), each subset equally likely."""
        return _generator(self.seed, count, amount).permutation(count)[:amount]


@dataclass(frozen=True)
class Reservoir:
    """A uniform sample in one pass over the units, holding only the sample: algorithm R.

    Unit i replaces a random member of the reservoir with probability amount / (i + 1). The draws are
    made in blocks; within a block the last replacement of a place is the one that stays.

    Reference: Vitter 1985, "Random Sampling with a Reservoir", ACM TOMS 11(1), algorithm R.

    >>> sorted(Reservoir(seed=1).choose(4, 4).tolist())
    [0, 1, 2, 3]
    """

    seed: int = 0

    def choose(self, count: int, amount: int) -> np.ndarray:
        """`amount` distinct indices out of range(count), each subset equally likely."""
        generator = _generator(self.seed, count, amount)
        reservoir = np.arange(amount)
        for start in range(amount, count, 1 << 20):
            arriving = np.arange(start, min(count, start + (1 << 20)))
            places = generator.integers(0, arriving + 1)
            enters = places < amount
            # The last arrival at a place is the first one seen from the end.
            taken, last = np.unique(places[enters][::-1], return_index=True)
            reservoir[taken] = arriving[enters][::-1][last]
        return reservoir
