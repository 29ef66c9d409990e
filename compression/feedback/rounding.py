"""round_with_feedback(): weights on grids of few bits, the error of each made good by those not yet rounded.

Reference: Frantar et al. 2023, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", arXiv:2210.17323, with its order of columns by curvature; the grids are fixed before, so that
`quantize(scheme="weight-only")` with the same group size stores the very same integers.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from capacity import checks
from capacity.columns import KEY, Column
from capacity.errors import InputError
from capacity.inputs import as_integer
from capacity.tables import Table, Tabular
from compression.feedback.aims import aimed_steps
from compression.feedback.grids import (
    GRID,
    GRID_CHECKS,
    Grid,
    GridOptions,
    grid_of,
    group_columns,
    stored_bits,
)
from compression.feedback.hessians import Calibration, Walk
from compression.feedback.layers import exact_matrices, matrices_of, weight_of
from compression.feedback.sweeping import factor_of, output_error, sweep
from compression.options import with_options
from compression.targets import Target

BITS = (2, 8)  # the fewest and the most


@dataclass(frozen=True)
class RoundedLayer:
    """One weight: bits of each integer, how many scales, and ‖Wx - Ŵx‖² / ‖Wx‖² over the batches.

    `plain_error` is what rounding each weight by itself on the same grids would give.
    """

    name: str
    elements: int
    bits: int
    scales: int
    output_error: float
    plain_error: float


COLUMNS = (
    Column("name", "layer", importance=KEY),
    Column("elements", "weights", style=",", importance=3),
    Column("bits", "bits", style=",", importance=6),
    Column("scales", "scales", style=",", importance=2),
    Column("output_error", "output error", "%", factor=100, style=".3g", importance=5),
    Column("plain_error", "without feedback", "%", factor=100, style=".3g", importance=4),
)


@dataclass(frozen=True)
class FeedbackRoundResult(Tabular):
    """A model of floats that lie on grids of few bits; `left` are matrices that were not rounded, and why."""

    model: nn.Module
    layers: tuple[RoundedLayer, ...]
    group_size: int | None
    left: Mapping[str, str]
    asymmetric: bool = False

    @property
    def average_bits(self) -> float:
        """Bits of integers, of scales (16 each) and of where grids begin, for each rounded weight."""
        bits = sum(
            stored_bits(layer.elements, layer.scales, layer.bits, asymmetric=self.asymmetric)
            for layer in self.layers
        )
        return bits / sum(layer.elements for layer in self.layers)

    def table(self) -> Table:
        """A row per layer."""
        title = f"{self.average_bits:.2f} bits for each weight of {len(self.layers)} layers, scales included"
        return Table(COLUMNS, [vars(layer) for layer in self.layers], title, label="tab:feedback-rounding")


@checks.arguments(**GRID_CHECKS)
@with_options(GRID)
def round_with_feedback(
    model: nn.Module,
    batches: Calibration | Iterable[Any],
    *,
    bits: int | Mapping[str, int] = 4,
    layers: Sequence[str] | None = None,
    **grid: Unpack[GridOptions],
) -> FeedbackRoundResult:
    """A copy of the model with weights rounded to 2^bits values of each scale, without retraining.

    Parameters
    ----------
    batches: as for `compression.Taylor`, gone through once for each layer; labels are not needed. Or a
        `Calibration`, which says more
    bits: 2 to 8; or a dict of them by layer, such as `allocate_bits` gives, which leaves out those that stay
        as they are
    layers: dense and convolutional ones; by default all that are called, output layers too
    group_size: at most so many weights of an output share a scale instead of all of them, as in `quantize`
    asymmetric: grids reach as far as the weights do on each side of zero, not equally far; `quantize` stores
        symmetric ones only, `encode` both

    What is zero stays zero. Each range is the share of the widest that gives the least error, inputs weighted
    by their energy. Each layer's outputs are to be what they were in the network as it came, in the mean by
    its bias or by the batch norm behind it: see `compression.feedback.aims`.

    Raises InputError for other bits, unknown layers, weights or inputs that are not finite, and where no
    layer can be rounded.

    >>> layer = nn.Linear(2, 1, bias=False)
    >>> _ = layer.weight.data.copy_(torch.tensor([[0.7, 0.06]]))
    >>> x = torch.tensor([[1.0, 1.0], [1.0, 0.9]])
    >>> round_with_feedback(layer, [x], bits=4).model.weight.tolist()  # 0.06 is no reason for 0.1
    [[0.699999988079071, 0.10000000149011612]]
    """
    check_grid(grid)
    named = list(bits) if isinstance(bits, Mapping) else layers
    walk = Walk.on_copy(model, batches, named)
    wanted = {name: _bits_of(target, bits) for name, target in walk.choice.chosen.items()}
    rows = [
        _round(target, aim, hessian, (wanted[target.name], grid))
        for target, aim, hessian in aimed_steps(walk)
    ]
    return FeedbackRoundResult(walk.model, tuple(rows), grid["group_size"], walk.left, grid["asymmetric"])


def check_grid(grid: GridOptions) -> None:
    """Raise InputError for a group of no weights."""
    if grid["group_size"] is not None:
        as_integer("group_size", grid["group_size"])


def check_bits(name: str, bits: Any) -> int:
    """Raise InputError for bits that a grid cannot have."""
    if not BITS[0] <= as_integer(name, bits, least=0) <= BITS[1]:
        raise InputError(f"{name}: bits must lie between {BITS[0]} and {BITS[1]}, found {bits}")
    return int(bits)


def _bits_of(target: Target, bits: int | Mapping[str, int]) -> int:
    wanted = target.among(bits) if isinstance(bits, Mapping) else bits
    return check_bits(f"bits of {target.name!r}", wanted)


def _round(target: Target, aim: Tensor, hessian: Tensor, wanted: tuple[int, GridOptions]) -> RoundedLayer:
    """Round one weight in place; aim: what its outputs are to be those of."""
    (bits, options), weights = wanted, exact_matrices(target)
    grid = grid_for(target, aim, hessian.diagonal(dim1=1, dim2=2), bits, options)
    rounded = round_matrices(aim, hessian, grid)
    with torch.no_grad():
        target.value().copy_(weight_of(target.module, rounded, target.shape))
    energy = float(output_error(aim, hessian).sum()) or 1.0
    errors = [
        float(output_error(aim - other, hessian).sum()) / energy for other in (rounded, grid.nearest(weights))
    ]
    return RoundedLayer(target.name, target.elements, bits, scales_in(target, options), errors[0], errors[1])


def grid_for(target: Target, weights: Tensor, energy: Tensor, bits: int, options: GridOptions) -> Grid:
    """The grid of a layer's weights (groups, rows, columns), given the energy of inputs (groups, columns)."""
    size = group_columns(target.shape, options["group_size"], weights.shape[2])
    return grid_of(weights, energy, bits, size, asymmetric=options["asymmetric"])


def scales_in(target: Target, options: GridOptions) -> int:
    """How many scales a layer's weights have."""
    groups, rows, columns = matrices_of(target.module, torch.empty(target.shape, device="meta")).shape
    return groups * rows * (columns // group_columns(target.shape, options["group_size"], columns))


def round_matrices(weights: Tensor, hessian: Tensor, grid: Grid) -> Tensor:
    """Values on the grid that stand for weights (groups, rows, columns).

    Columns are rounded in falling order of their curvature, so that the errors of those that matter can be
    made good by the most others.
    """
    order = hessian.diagonal(dim1=1, dim2=2).argsort(dim=1, descending=True, stable=True)
    columns = order[:, None].expand_as(weights)
    turned = hessian.gather(1, order[:, :, None].expand_as(hessian))
    turned = turned.gather(2, order[:, None].expand_as(hessian))
    ordered, sorted_weights = grid.ordered(columns), weights.gather(2, columns)
    alive = sorted_weights != 0

    def nearest(values: Tensor, diagonal: Tensor, column: int) -> Tensor:
        return ordered.column(values[..., 0], column) * alive[..., column]

    rounded, _ = sweep(sorted_weights, factor_of(turned), nearest)
    return torch.empty_like(rounded).scatter_(2, columns, rounded)
