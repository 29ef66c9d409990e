"""What to prune first. A criterion either scores weights (the lowest go first) or samples units.

Any callable weight -> scores of the same shape serves as a criterion, `torch.abs` for example. Those that see
data (`compression.calibration`) look at the model at work first.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from capacity import checks
from capacity.cloning import plain_copy
from capacity.errors import InputError, brief
from capacity.inputs import shown

Center = Literal["mean", "zero"]
Scorer = Callable[[Tensor], Tensor]


@runtime_checkable
class Sampler(Protocol):
    """A criterion that picks units without looking at the weights."""

    def choose(self, count: int, amount: int) -> np.ndarray:
        """`amount` distinct indices out of range(count)."""


@runtime_checkable
class Observer(Protocol):
    """A criterion that looks at the model at work before it scores."""

    def observe(self, model: nn.Module) -> Mapping[str, Tensor]:
        """Scores by a parameter's full name, each of its shape; the model is a copy, its masks folded."""


@dataclass(frozen=True)
class Observed:
    """What an observer found; it takes the observer's place while units are chosen."""

    observer: Observer
    scores: Mapping[str, Tensor]

    def of(self, names: Sequence[str]) -> Tensor | None:
        """The scores of a parameter, under whichever of its names; None if it was not seen."""
        return next((self.scores[name] for name in names if name in self.scores), None)


Criterion = Scorer | Sampler | Observer | Observed


def observed(criterion: Criterion, model: nn.Module) -> Criterion:
    """The criterion, or what it found in the model if it is one that observes."""
    if not isinstance(criterion, Observer):
        return criterion
    return Observed(criterion, criterion.observe(plain_copy(model).eval()))


def require_criterion(name: str, criterion: Any) -> None:
    """Raise InputError for what neither scores weights nor chooses units."""
    if isinstance(criterion, Sampler | Observer | Observed) and not isinstance(
        criterion, np.generic | np.ndarray | type
    ):
        return
    if not checks.takes(criterion, 1):
        advice = ": pass a function that calls it" if isinstance(criterion, nn.Module) else ""
        raise InputError(
            f"{name} must be L1(), L2(), Random(), Reservoir(), one that sees data (compression.calibration) "
            f"or a function weight -> scores, found {brief(criterion)}{advice}"
        )


def unit_scores(
    criterion: Criterion, weight: Tensor, *, dimension: int = 0, names: Sequence[str] = ()
) -> Tensor:
    """(units,) what a criterion gives each unit along a dimension of a weight, over all that it holds.

    `names` are the parameter's, by which an observer knows it; one that it did not see scores zero.

    Raises InputError for scores of another shape, or that are no tensor.
    """
    units = weight.movedim(dimension, 0)
    if isinstance(criterion, Sampler):
        return torch.from_numpy(criterion.choose(len(units), len(units)).argsort()).double()
    assert not isinstance(criterion, Observer)
    if isinstance(criterion, Observed):
        seen = criterion.of(names)
        scores = torch.zeros_like(weight) if seen is None else seen.to(weight)
        scores = scores.movedim(dimension, 0) if scores.shape == weight.shape else scores
    else:
        scores = criterion(units)
    if not isinstance(scores, Tensor) or scores.shape != units.shape:
        raise InputError(f"the criterion gave {shown(scores)} for a weight of shape {tuple(units.shape)}")
    return scores.flatten(1).sum(1)


def widened(values: Tensor) -> Tensor:
    """Half-precision numbers in single precision, in which their differences and squares are told apart."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def _center(weight: Tensor, center: str) -> float | Tensor:
    checks.word("mean", "zero")("center", center)
    if center == "mean":
        narrow = weight.dtype in (torch.float16, torch.bfloat16)
        return weight.mean(dtype=torch.float32 if narrow else None)
    return 0.0


def elementwise(criterion: Criterion, weight: Tensor) -> Scorer | None:
    """A criterion's order as a function of parts of `weight`, or None where it needs the whole at once.

    L2 orders single weights as L1 does, whose distances neither overflow nor vanish.
    """
    if isinstance(criterion, L1 | L2):
        middle = _center(weight, criterion.center)
        if not math.isfinite(middle):  # the sum of huge weights
            return None
        if criterion.center == "zero":
            return lambda part: widened(part).abs()
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


def _positive_bits(value_bits: float) -> None:
    checks.plain("value_bits", value_bits)
    if not 0 < value_bits < math.inf:
        raise InputError(f"value_bits must be positive and finite, found {value_bits}")


def file_bits(weight: Tensor, value_bits: float) -> Tensor:
    """Bits that a compressed file spends on each weight if it is not zero, of the weight's shape.

    A non-zero weight at row i and column j (kernel positions are columns) costs -log2(rᵢ·cⱼ/n) bits for its
    position, where rᵢ, cⱼ and n count the non-zero weights of its row, its column and the layer, as in
    `compression.codec.context_model`, and `value_bits` for its value. A vector's positions count nothing.
    """
    if weight.dim() < 2:
        return torch.full_like(weight, value_bits)
    alive = weight.flatten(1) != 0
    rows, columns = alive.sum(1, keepdim=True), alive.sum(0, keepdim=True)
    share = (rows * columns / max(1, int(alive.sum()))).clamp(max=1.0)
    return (float(value_bits) - share.clamp(min=1e-9).log2()).view_as(weight)


@dataclass(frozen=True)
class EnergyPerBit:
    """w² over the bits that a compressed file spends on w: the weights least worth their place go first.

    See `file_bits` for these. Pruned little by little, weights gather in few rows and columns, where they
    cost less. Zero scores zero.

    >>> import torch
    >>> weight = torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 1.0]])
    >>> [round(score, 3) for score in EnergyPerBit()(weight)[:, 2].tolist()]
    [0.5, 0.333]
    """

    value_bits: float = 2.0

    def __post_init__(self) -> None:
        _positive_bits(self.value_bits)

    def __call__(self, weight: Tensor) -> Tensor:
        return weight.square() / file_bits(weight, self.value_bits)


@dataclass(frozen=True)
class PerBit:
    """What another criterion scores, over the bits that a compressed file spends on each weight.

    See `file_bits` for these, and `EnergyPerBit` for squared magnitudes.

    Parameters
    ----------
    criterion: one that sees data, as `compression.calibration.GaussNewton`, or a function weight -> scores
    value_bits: of each value
    """

    criterion: Scorer | Observer
    value_bits: float = 2.0

    def __post_init__(self) -> None:
        require_criterion("criterion", self.criterion)
        if isinstance(self.criterion, Sampler | Observed):
            raise InputError(f"criterion gives no scores: {brief(self.criterion)}")
        _positive_bits(self.value_bits)

    def observe(self, model: nn.Module) -> Mapping[str, Tensor]:
        """Scores of every parameter that the other criterion scores."""
        weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
        if isinstance(self.criterion, Observer):
            scores = self.criterion.observe(model)
        else:
            scores = {name: self.criterion(weight) for name, weight in weights.items()}
        return {name: each / file_bits(weights[name], self.value_bits) for name, each in scores.items()}


@dataclass(frozen=True)
class GeometricMedian:
    """How far a unit lies from all others of its layer: sum over j of |w_i - w_j|, spread over its weights.

    A unit near the others' geometric median can be replaced by them. Units are the rows of the weight.

    Reference: He et al. 2019, "Filter Pruning via Geometric Median", arXiv:1811.00250, equation 4.

    >>> import torch
    >>> GeometricMedian()(torch.tensor([[0.0], [1.0], [3.0]])).tolist()
    [[4.0], [3.0], [5.0]]
    """

    def __call__(self, weight: Tensor) -> Tensor:
        rows = widened(weight.detach()).flatten(1)
        apart = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").sum(1)
        shape = (-1, *[1] * (weight.dim() - 1))
        return (apart / max(rows.shape[1], 1)).view(shape).expand(weight.shape)


def _generator(seed: int, count: int, amount: int) -> np.random.Generator:
    """A stream of its own for each candidate count, so that successive rounds do not repeat a pattern."""
    return np.random.default_rng((checks.seed("seed", seed), count, amount))


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
