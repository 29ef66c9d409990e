"""code_with_feedback(): multiples of a step where error and bits cost least, errors made good by others.

Column after column each weight w becomes the multiple k of its layer's step d with the least
s·(w - k·d)²/U_jj² + penalty·bits(k), and the columns behind make its error good (see
`compression.feedback.sweeping`); then columns are chosen anew, all others known. Here s is what a squared
error of the row's output is worth in the loss, so that one penalty, in nats of the loss for a bit, holds for
all layers and rows. bits(k) are near those of the adaptive model that `encode` writes with.

References: Conzelmann and Bamler 2025, "Reducing Storage of Pretrained Neural Networks by Rate-Constrained
Quantization and Entropy Coding" (CERWU), arXiv:2505.18758, for optimal brain surgeon with a rate term;
Wiedemann et al. 2020, "DeepCABAC", arXiv:1907.11900, for rate and distortion without it.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from capacity import checks
from capacity.columns import KEY, Column
from capacity.errors import InputError
from capacity.tables import Table, Tabular
from compression.counting import HALVES, LARGEST_HALF, SMALLEST_HALF
from compression.feedback.aims import aimed_steps
from compression.feedback.hessians import Calibration, Walk
from compression.feedback.layers import weight_of
from compression.feedback.sweeping import descend, factor_of, output_error, sweep
from compression.feedback.worths import output_worths
from compression.targets import Target

MOST = 1e9  # of a penalty and of a step in multiples of the natural one
MOST_LEVELS = 1024  # on either side of zero
RELATIVE_STEP = 4.0  # of the networks tried, on which zeros cost more than their error says
SWEEPS, DESCENTS = 2, 2  # each with the frequencies that the one before left
TRUST = 8.0  # elements' worth of trust in a row being as dense as its tensor


@dataclass(frozen=True)
class FeedbackCodedTensor:
    """One weight: its step, its elements that are not zero, bits and nats of loss as they are estimated."""

    name: str
    elements: int
    nonzero: int
    step: float
    largest_multiple: int
    bits: float
    loss_nats: float


COLUMNS = (
    Column("name", "tensor", importance=KEY),
    Column("elements", "elements", style=",", importance=5),
    Column("nonzero", "non-zero", style=",", importance=6),
    Column("step", "step", style=".4g", importance=3),
    Column("largest_multiple", "largest multiple", style=",", importance=2),
    Column("bits", "estimated", "bit", style=",.0f", importance=7),
    Column("loss_nats", "rise of the loss", "nat", style=".2g", importance=4),
)


@dataclass(frozen=True)
class FeedbackCodeResult(Tabular):
    """A model whose weights are multiples of their tensor's step, as `encode` likes them.

    `loss_nats` of a tensor is what its error should cost, to second order; `left` says which matrices are in
    half precision, and why.
    """

    model: nn.Module
    penalty: float
    tensors: tuple[FeedbackCodedTensor, ...]
    left: dict[str, str]

    def table(self) -> Table:
        """A row per weight."""
        total = sum(tensor.bits for tensor in self.tensors)
        loss = sum(tensor.loss_nats for tensor in self.tensors)
        title = (
            f"penalty {self.penalty:g} nats a bit: about {total / 8:,.0f} bytes of weights, "
            f"loss higher by about {loss:.2g} nats to second order, which holds for small errors"
        )
        return Table(COLUMNS, [vars(tensor) for tensor in self.tensors], title, label="tab:feedback-coding")


@checks.arguments(penalty=checks.number, relative_step=checks.number, seed=checks.seed)
def code_with_feedback(
    model: nn.Module,
    batches: Calibration | Iterable[Any],
    *,
    penalty: float,
    relative_step: float = RELATIVE_STEP,
    layers: Sequence[str] | None = None,
    seed: int = 0,
) -> FeedbackCodeResult:
    """A copy of the model to be written by `encode`: fewest bits for the loss, without retraining.

    Parameters
    ----------
    batches: as for `compression.Taylor`, gone through once for each layer and once with gradients; labels are
        not needed. Or a `Calibration`, which says more
    penalty: nats of the loss of a sample that a bit is worth; each layer's step follows from it. A network
        that is sure of these batches has hardly any curvature there, and large errors cost more than the
        second order says: try penalties of 1e-13 to 1e-9 and evaluate
    relative_step: the steps in multiples of `natural_step`, which is right where steps are small
    layers: dense and convolutional layers; by default all that are called, output layers too. Everything else
        is rounded to half precision, where that has all its bits
    seed: of the labels that are drawn, see `compression.feedback.worths`

    What is zero stays zero, masks are folded. Each layer's outputs are to be what they were in the network as
    it came, in the mean by its bias or by the batch norm behind it: see `compression.feedback.aims`.
    Raises InputError for a penalty that is not above 0, unknown
    layers, weights or inputs that are not finite, and where no layer can be coded.
    """
    for name, value in (("penalty", penalty), ("relative_step", relative_step)):
        if not 0 < value < MOST:
            raise InputError(f"{name} must be positive and below {MOST:g}, found {value}")
    walk = Walk.on_copy(model, batches, layers)
    worths = output_worths(walk.model, walk.choice.chosen, walk.calibration.batches, seed=seed)
    rows = [
        _code(target, (aim, hessian, worths[target.name] / 4), (penalty, relative_step))
        for target, aim, hessian in aimed_steps(walk)
    ]  # ½·F·mean(d²) of ½·d·H·d
    _halve(walk.model, {name for target in walk.choice.chosen.values() for name in target.names})
    return FeedbackCodeResult(walk.model, penalty, tuple(rows), walk.left)


@torch.no_grad()
def _code(
    target: Target, problem: tuple[Tensor, Tensor, Tensor], price: tuple[float, float]
) -> FeedbackCodedTensor:
    """Code one weight in place; problem: what it aims at, H, and what errors of rows are worth."""
    matrices = problem[0]
    largest = float(matrices.abs().max())
    if 0 < largest < SMALLEST_HALF:
        raise InputError(
            f"{target.name}: its weights are at most {largest:.3g}, and the smallest step, half precision's, "
            f"is {SMALLEST_HALF:.3g}: make this layer larger and the next smaller, or leave it out of layers"
        )
    coded = code_matrices(*problem, *price)
    target.value().copy_(weight_of(target.module, coded.levels * coded.step, target.shape))
    return FeedbackCodedTensor(
        target.name, target.elements, int(torch.count_nonzero(coded.levels)), coded.step,
        int(coded.levels.abs().max()), coded.bits, coded.loss_nats,
    )  # fmt: skip


def _halve(model: nn.Module, coded: set[str]) -> None:
    """Round what is not coded to half precision, in place, where no number loses more than the last bits."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if name not in coded and tensor.is_floating_point() and tensor.numel():
            sizes = tensor.detach().abs()
            if bool(((sizes == 0) | ((sizes >= HALVES[0]) & (sizes <= HALVES[1]))).all()):
                tensor.data.copy_(tensor.detach().half())


class Rates:
    """Bits of each multiple at each place, by a draft of the tensor's multiples (groups, rows, columns).

    Whether a place is zero is foretold by how dense the tensor, its row and its column are; which multiple
    is there, by how often each is, those not seen as if seen a quarter.
    """

    def __init__(self, levels: Tensor) -> None:
        used = levels != 0
        count = max(1.0, float(used.sum()))
        counts = torch.bincount(
            (levels + MOST_LEVELS).long().flatten(), minlength=2 * MOST_LEVELS + 1
        ).double()
        counts[MOST_LEVELS] = 0
        self.symbols = -((counts + 0.25) / (count + 0.25 * len(counts.nonzero()) + 1)).log2()
        density = min(max(count / levels.numel(), 1e-4), 1 - 1e-4)
        ones = used.double()
        rows = (ones.sum(2, keepdim=True) + TRUST * density) / (levels.shape[2] + TRUST) / density
        columns = ones.flatten(0, 1).sum(0) + TRUST * density
        columns = columns / (levels.shape[0] * levels.shape[1] + TRUST) / density
        odds = density / (1 - density) * rows * columns
        chance = (odds / (1 + odds)).clamp(1e-4, 1 - 1e-4)
        self.zero, self.other = -(1 - chance).log2(), -chance.log2()

    def of(self, levels: Tensor, column: int) -> Tensor:
        """Bits of a column's multiples (groups, rows)."""
        symbols = self.symbols[(levels + MOST_LEVELS).long()]
        return torch.where(levels == 0, self.zero[..., column], self.other[..., column] + symbols)

    def by_row(self, levels: Tensor) -> Tensor:
        """Bits of each row of a tensor (groups, rows)."""
        symbols = self.symbols[(levels + MOST_LEVELS).long()]
        return torch.where(levels == 0, self.zero, self.other + symbols).sum(2)


@dataclass(frozen=True)
class Grid:
    """For `sweep` and `descend`: the multiple of the step at which error and bits together cost least.

    worth: of a squared error of each row (groups, rows)
    alive: where values may be other than zero (groups, rows, columns)
    draft: multiples that may stay (groups, rows, columns), besides the nearest, one less, and zero
    """

    step: float
    penalty: float
    worth: Tensor
    alive: Tensor
    draft: Tensor
    rates: Rates

    def __call__(self, values: Tensor, diagonal: Tensor, column: int) -> Tensor:
        scaled = values[..., 0] / self.step
        scale = self.worth * (self.step / diagonal[:, :1]).square()
        nearest = scaled.round().clamp(-MOST_LEVELS, MOST_LEVELS)
        best, least = nearest, self._cost(scaled, nearest, scale, column)
        for other in (nearest - nearest.sign(), torch.zeros_like(nearest), self.draft[..., column]):
            cost = self._cost(scaled, other, scale, column)
            best, least = torch.where(cost < least, other, best), torch.minimum(cost, least)
        return best * self.alive[..., column] * self.step

    def _cost(self, scaled: Tensor, levels: Tensor, scale: Tensor, column: int) -> Tensor:
        return scale * (scaled - levels).square() + self.penalty * self.rates.of(levels, column)


@dataclass(frozen=True)
class Multiples:
    """Multiples of a step, (groups, rows, columns), the nats that their error costs, and their bits."""

    levels: Tensor
    step: float
    loss_nats: float
    bits: float


def code_matrices(
    weights: Tensor, hessian: Tensor, worth: Tensor, penalty: float, relative_step: float = RELATIVE_STEP
) -> Multiples:
    """The multiples of a step that stand for weights (groups, rows, columns).

    Parameters
    ----------
    hessian: (groups, columns, columns), of the output's squared error; positive definite
    worth: nats of each row's error d·H·dᵀ, (groups, rows)
    penalty: nats that a bit is worth
    relative_step: the step in multiples of `natural_step`
    """
    factor, alive = factor_of(hessian), weights != 0
    step = natural_step(weights, factor, worth, penalty * relative_step**2)
    levels = (weights / step).round().clamp(-MOST_LEVELS, MOST_LEVELS)
    for turn in range(SWEEPS + DESCENTS):
        choose_level = Grid(step, penalty, worth, alive, levels, Rates(levels))
        if turn < SWEEPS:
            values, _ = sweep(weights, factor, choose_level)
        else:
            values = descend(weights, levels * step, hessian, choose_level)
        levels = (values / step).round()
    loss = float((output_error(weights - levels * step, hessian) * worth).sum())
    return Multiples(levels, step, loss, float(Rates(levels).by_row(levels).sum()))


def natural_step(weights: Tensor, factor: Tensor, worth: Tensor, penalty: float) -> float:
    """The step, in half precision, at which a finer one costs in bits what it saves in error.

    Where steps are small a weight's error is s·d²/(12·U²) and its bits fall by log2 of d, so that
    d² = 6·penalty / (ln 2 · mean(s/U²)). No step leaves more multiples than there may be.

    >>> one = torch.ones(1, 1, 1)
    >>> natural_step(one, one, one[0], penalty=math.log(2) / 600)
    0.0999755859375
    """
    worths = worth[..., None] / factor.diagonal(dim1=1, dim2=2)[:, None].square()
    mean = max(float(worths.mean()), torch.finfo(torch.float64).tiny)
    least = max(float(weights.abs().max()) / (MOST_LEVELS - 1), SMALLEST_HALF)
    step = max(math.sqrt(6 * penalty / (math.log(2) * mean)), least)
    return float(torch.tensor(min(step, LARGEST_HALF)).half())
