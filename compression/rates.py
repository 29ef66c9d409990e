"""quantize_rate_distortion(): weights on a grid, each where error and bits together cost least.

A weight w on a grid of step d is rounded to the multiple k with the least (w/d - k)² + penalty · bits(k),
where bits(k) is what k costs under the frequencies in its tensor. Zero is cheap, so more weights become
zero than plain rounding gives, biases too. While training goes on, gradients pass straight through.

Reference: entropy-constrained quantization as in Wiedemann et al. 2020, "DeepCABAC", arXiv:1907.11900, and
Oktay et al. 2020, arXiv:1906.06624; trained with straight-through gradients as in Marban et al. 2020,
arXiv:2004.01077.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from capacity import checks
from capacity.cloning import clone, fold_parametrizations, plain_copy
from capacity.columns import KEY, Column
from capacity.errors import InputError
from capacity.inputs import require_python, require_weights
from capacity.parametrized import parametrize_all
from capacity.tables import Table, Tabular
from compression._moved import keep_old_names
from compression.codec.context_model import entropy_bits
from compression.counting import LARGEST_HALF, SMALLEST_HALF
from compression.masks import split_name
from compression.training import Retrain, model_of

MOST = 1e9  # of a penalty and of a step in root mean squares
EVERY = 10  # passes from one rounding for good to the next
FREE = 0.4  # share of the passes until all are settled in which no weight is, nor rounded
MOST_LEVELS = 1024  # on either side of zero


@dataclass(frozen=True)
class RoundedTensor:
    """One parameter: its step, how many elements are not zero before and after, and bits by entropy."""

    name: str
    elements: int
    step: float
    nonzero_before: int
    nonzero_after: int
    largest_multiple: int
    entropy_bits: float


COLUMNS = (
    Column("name", "tensor", importance=KEY),
    Column("elements", "elements", style=",", importance=5),
    Column("step", "step", style=".4g", importance=4),
    Column("nonzero_before", "non-zero before", style=",", importance=3),
    Column("nonzero_after", "after", style=",", importance=6),
    Column("largest_multiple", "largest multiple", style=",", importance=2),
    Column("entropy_bits", "by entropy", "bit", style=",.0f", importance=7),
)


@dataclass(frozen=True)
class RoundResult(Tabular):
    """A model whose weights are multiples of their tensor's step."""

    model: nn.Module
    penalty: float
    tensors: tuple[RoundedTensor, ...]

    def table(self) -> Table:
        """A row per parameter."""
        total = sum(tensor.entropy_bits for tensor in self.tensors)
        title = f"penalty {self.penalty:g}: {total / 8:,.0f} bytes by entropy"
        return Table(COLUMNS, [vars(tensor) for tensor in self.tensors], title, label="tab:rounding")


@checks.arguments(
    penalty=checks.number,
    relative_step=checks.number,
    retrain=checks.optional(checks.function(1)),
    refresh=checks.count,
    settle=checks.optional(checks.count),
)
def quantize_rate_distortion(
    model: nn.Module,
    *,
    penalty: float = 0.02,
    relative_step: float = 0.7,
    retrain: Retrain | None = None,
    refresh: int = 50,
    settle: int | None = None,
) -> RoundResult:
    """A copy of the model with every floating-point parameter on a grid; what is zero stays zero.

    Parameters
    ----------
    penalty: squared error, in squares of the step, that one bit is worth; 0 is plain rounding
    relative_step: step of each tensor's grid in root mean squares of its non-zero elements; the step is
        kept in half precision, so that the multiples are exact
    retrain: model with rounding in it -> trained model, or what `fit` returns. Rounded in every forward
        pass, the float values behind are trained; without it, weights are only rounded
    refresh: forward passes in training after which the frequencies are counted anew
    settle: forward passes in training after which all weights stay where they are rounded to. For the first
        two fifths of them weights are real numbers; then each tensor's step is measured anew, and weights
        settle, those nearest to a multiple first, while the others make up for it (Zhou et al. 2017,
        "Incremental Network Quantization", arXiv:1702.03044). None: all are rounded in each pass, to the end

    Masks are folded first. Raises InputError for a penalty below 0, a step not above 0, either of 1e9
    and more, and parameters that are not finite.
    """
    _check(penalty, relative_step, refresh, settle)
    require_weights(model)
    require_python(model)
    plain = plain_copy(model)
    before = {name: int(torch.count_nonzero(p)) for name, p in plain.named_parameters()}
    make = partial(_Grid, relative_step=relative_step, penalty=penalty, refresh=refresh, settle=settle)
    grids = _install(plain, make)
    trained: nn.Module = plain
    if retrain is not None:
        trained = model_of(retrain(plain))
        grids = {name: _grid_of(trained, name) for name in grids}
    steps = {name: float(grid.step) for name, grid in grids.items()}
    folded = fold_parametrizations(clone(trained)).eval()
    rows = []
    for name, parameter in folded.named_parameters():
        if name in steps:
            levels = (parameter.detach() / steps[name]).round()
            rows.append(
                RoundedTensor(
                    name,
                    parameter.numel(),
                    steps[name],
                    before[name],
                    int(torch.count_nonzero(levels)),
                    int(levels.abs().max()),
                    entropy_bits(torch.unique(levels, return_counts=True)[1].cpu().numpy()),
                )
            )
    return RoundResult(folded, penalty, tuple(rows))


def _check(penalty: float, relative_step: float, refresh: int, settle: int | None) -> None:
    if not 0 <= penalty < MOST:
        raise InputError(f"penalty must not be negative, and below {MOST:g}, found {penalty}")
    if not 0 < relative_step < MOST:
        raise InputError(f"relative_step must be positive and below {MOST:g}, found {relative_step}")
    for name, passes in (("refresh", refresh), ("settle", settle)):
        if passes is not None and passes < 1:
            raise InputError(f"{name} must be at least 1, found {passes}")


def _grid_of(model: nn.Module, name: str) -> "_Grid":
    module, key = split_name(model, name)
    grid = module.parametrizations[key][0]  # type: ignore[index]
    assert isinstance(grid, _Grid)
    return grid


def _install(model: nn.Module, make: "Callable[..., _Grid]") -> "dict[str, _Grid]":
    """Put a grid on every floating-point parameter that is not too small for any step, in place."""
    grids: dict[str, _Grid] = {}
    for name, parameter in list(model.named_parameters()):
        if not parameter.is_floating_point():
            continue
        nonzero = parameter.detach()[parameter.detach() != 0]
        if not bool(torch.isfinite(nonzero).all()):
            raise InputError(f"{name} holds values that are not finite, which no grid has")
        if not _has_step(nonzero):
            continue
        grids[name] = make(parameter.detach())
        parametrize_all(model, *split_name(model, name), grids[name])
    return grids


def _has_step(nonzero: Tensor) -> bool:
    """Whether there is anything to measure a step by."""
    return len(nonzero) > 0 and SMALLEST_HALF <= float(nonzero.abs().max()) < torch.inf


def _step(nonzero: Tensor, relative: float) -> float:
    """A step in half precision that is not zero and leaves no more multiples than there may be."""
    wanted = relative * float(nonzero.double().square().mean().sqrt())
    least = float(nonzero.abs().max()) / (MOST_LEVELS - 1)
    return float(torch.tensor(max(wanted, least, SMALLEST_HALF)).clamp(max=LARGEST_HALF).half())


def placed(values: Tensor, where: Tensor, shape: torch.Size) -> Tensor:
    """A tensor of this shape with `values` at the flat indices `where`, and zeros elsewhere."""
    flat = torch.zeros(shape.numel(), dtype=values.dtype, device=values.device)
    return flat.index_put((where,), values).view(shape)


def next_to_settle(distance: Tensor, settled: Tensor, left: float) -> Tensor:
    """Which weights are rounded for good next: those nearest to a multiple, ever fewer at a time.

    distance: of each weight to its multiple; settled: which are so already; left: share of the time until
    all are, 0 and less at its end
    """
    count = round(len(settled) * (1 - max(0.0, left) ** 2)) - int(settled.sum())
    return distance.masked_fill(settled, torch.inf).argsort(stable=True)[: max(0, count)]


class _Grid(nn.Module):
    """A parametrization: the vector of elements that may be other than zero -> the rounded tensor."""

    def __init__(
        self, weight: Tensor, *, relative_step: float, penalty: float, refresh: int, settle: int | None
    ) -> None:
        super().__init__()
        self.shape, self.penalty, self.refresh, self.passes = weight.shape, penalty, refresh, 0
        self.relative_step, self.settle = relative_step, settle
        self.where: Tensor
        self.bits: Tensor
        self.step: Tensor
        self.register_buffer("where", weight.flatten().nonzero().flatten())
        self.register_buffer("step", torch.ones((), dtype=weight.dtype, device=weight.device))
        self.settled: Tensor
        self.levels: Tensor
        self.register_buffer("settled", torch.zeros_like(self.where, dtype=torch.bool))
        self.register_buffer("levels", torch.zeros_like(self.where, dtype=weight.dtype))
        self.register_buffer("bits", torch.zeros(2 * MOST_LEVELS + 1, device=weight.device))
        self._fit(self.right_inverse(weight))

    @torch.no_grad()
    def _fit(self, values: Tensor) -> None:
        """Fit step and frequencies to these values."""
        nonzero = values[values != 0]
        if _has_step(nonzero):
            self.step.fill_(_step(nonzero, self.relative_step))
        for _ in range(5):  # rounding changes the frequencies, and they the rounding
            self._count(self._levels(values))

    def forward(self, values: Tensor) -> Tensor:
        trained = self.training and torch.is_grad_enabled()
        if trained and self._free(values.detach()):
            return placed(values, self.where, self.shape)
        levels = torch.where(self.settled, self.levels, self._levels(values.detach()))
        if trained:
            self.passes += 1
            if self.passes % self.refresh == 0:
                self._count(levels)
            if self.settle is not None:
                self._settle(values.detach() / self.step, levels)
                settled = torch.where(self.settled, levels * self.step, values)
                return placed(settled, self.where, self.shape)
        rounded = values + (levels * self.step - values).detach()
        return placed(rounded, self.where, self.shape)

    def _free(self, values: Tensor) -> bool:
        """Whether this pass of training comes before any weight settles; the last such fits the grid."""
        free = 0 if self.settle is None else round(FREE * self.settle)
        if self.passes >= free:
            return False
        self.passes += 1
        if self.passes == free:
            self._fit(values)
        return True

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight.flatten()[self.where]

    def _levels(self, values: Tensor) -> Tensor:
        """For each value the multiple of the step with the least cost: nearest, one towards zero, or zero."""
        scaled = values / self.step
        nearest = scaled.round().clamp(-MOST_LEVELS, MOST_LEVELS)
        best, least = nearest, self._cost(scaled, nearest)
        for other in (nearest - nearest.sign(), torch.zeros_like(nearest)):
            cost = self._cost(scaled, other)
            best, least = torch.where(cost < least, other, best), torch.minimum(cost, least)
        return best

    def _cost(self, scaled: Tensor, levels: Tensor) -> Tensor:
        return (scaled - levels).square() + self.penalty * self.bits[(levels + MOST_LEVELS).long()]

    def _settle(self, scaled: Tensor, levels: Tensor) -> None:
        """Every few passes fix those next to a multiple, until all are."""
        assert self.settle is not None
        if self.passes % EVERY and self.passes < self.settle:
            return
        left = (1 - self.passes / self.settle) / (1 - FREE)
        chosen = next_to_settle((scaled - levels).abs(), self.settled, left)
        self.settled[chosen] = True
        self.levels[chosen] = levels[chosen]

    def _count(self, levels: Tensor) -> None:
        """Bits of each multiple by its frequency in the whole tensor, those not seen as if seen half."""
        counts = torch.bincount((levels + MOST_LEVELS).long(), minlength=2 * MOST_LEVELS + 1).float()
        counts[MOST_LEVELS] += self.shape.numel() - len(levels)
        shares = counts.clamp(min=0.5) / counts.sum()
        self.bits.copy_(-shares.log2().to(self.bits.dtype))


keep_old_names(__name__)
