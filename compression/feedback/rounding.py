"""round_with_feedback(): weights on grids of few bits, the error of each made good by those not yet rounded.

Reference: Frantar et al. 2023, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", arXiv:2210.17323, with its order of columns by curvature; the grids are fixed before, so that
`quantize(scheme="weight-only")` with the same group size stores the very same integers.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from capacity.cloning import initialized, plain_copy, unwrapped
from capacity.columns import KEY, Column
from capacity.errors import InputError
from capacity.inputs import as_integer
from capacity.tables import Table, Tabular
from compression.candidates import checked_value
from compression.feedback.hessians import Calibration, Walk
from compression.feedback.layers import matrices_of, weight_of
from compression.feedback.sweeping import factor_of, output_error, sweep
from compression.targets import Target

BITS = (2, 8)  # the fewest and the most
NARROWER = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6, 0.5)  # ranges that are tried, in shares of the widest


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

    @property
    def average_bits(self) -> float:
        """Bits of integers and of scales (16 each) for each rounded weight."""
        bits = sum(layer.bits * layer.elements + 16 * layer.scales for layer in self.layers)
        return bits / sum(layer.elements for layer in self.layers)

    def table(self) -> Table:
        """A row per layer."""
        title = f"{self.average_bits:.2f} bits for each weight of {len(self.layers)} layers, scales included"
        return Table(COLUMNS, [vars(layer) for layer in self.layers], title, label="tab:feedback-rounding")


def round_with_feedback(
    model: nn.Module,
    batches: Calibration | Iterable[Any],
    *,
    bits: int | Mapping[str, int] = 4,
    group_size: int | None = None,
    layers: Sequence[str] | None = None,
) -> FeedbackRoundResult:
    """A copy of the model with weights rounded to 2^bits values of each scale, without retraining.

    Parameters
    ----------
    batches: as for `compression.Taylor`, gone through once for each layer; labels are not needed. Or a
        `Calibration`, which says more
    bits: 2 to 8; or a dict of them by layer, which leaves out those that stay as they are
    group_size: at most so many weights of an output share a scale instead of all of them, as in `quantize`
    layers: dense and convolutional ones; by default all that are called, output layers too

    Grids are symmetric about zero, and what is zero stays zero. Each range is the share of the widest that
    gives the least error, inputs weighted by their energy.

    Raises InputError for other bits, unknown layers, weights or inputs that are not finite, and where no
    layer can be rounded.

    >>> layer = nn.Linear(2, 1, bias=False)
    >>> _ = layer.weight.data.copy_(torch.tensor([[0.7, 0.06]]))
    >>> x = torch.tensor([[1.0, 1.0], [1.0, 0.9]])
    >>> round_with_feedback(layer, [x], bits=4).model.weight.tolist()  # 0.06 is no reason for 0.1
    [[0.699999988079071, 0.10000000149011612]]
    """
    copied = plain_copy(initialized(unwrapped(model))).eval()
    if group_size is not None:
        as_integer("group_size", group_size, least=1)
    named = list(bits) if isinstance(bits, Mapping) else layers
    walk = Walk.through(copied, Calibration.of(batches), named)
    wanted = {name: _bits_of(target, bits) for name, target in walk.choice.chosen.items()}
    rows = [_round(target, hessian, wanted[target.name], group_size) for target, hessian in walk.steps()]
    return FeedbackRoundResult(copied, tuple(rows), group_size, walk.left)


def _bits_of(target: Target, bits: int | Mapping[str, int]) -> int:
    if isinstance(bits, Mapping):
        bits = target.among(bits)
    if not BITS[0] <= as_integer(f"bits of {target.name!r}", bits, least=0) <= BITS[1]:
        raise InputError(f"bits must lie between {BITS[0]} and {BITS[1]}, found {bits}")
    return int(bits)


@torch.no_grad()
def _round(target: Target, hessian: Tensor, bits: int, group_size: int | None) -> RoundedLayer:
    """Round one weight in place."""
    weights = matrices_of(target.module, checked_value(target).detach()).double().cpu()
    size = group_columns(target.shape, group_size, weights.shape[2])
    scales = scales_of(weights, hessian.diagonal(dim1=1, dim2=2), bits, size)
    rounded = round_matrices(weights, hessian, scales, bits)
    target.value().copy_(weight_of(target.module, rounded, target.shape))
    plain = _nearest(weights, scales, bits)
    energy = float(output_error(weights, hessian).sum()) or 1.0
    errors = [float(output_error(weights - other, hessian).sum()) / energy for other in (rounded, plain)]
    return RoundedLayer(target.name, target.elements, bits, scales[..., ::size].numel(), errors[0], errors[1])


def group_columns(shape: torch.Size, group_size: int | None, columns: int) -> int:
    """Columns that share a scale: as many whole kernels as fit into `group_size` and divide the inputs."""
    if group_size is None:
        return columns
    kernel = prod(shape[2:])
    inputs = columns // kernel
    most = max(1, group_size // kernel)
    return kernel * max(n for n in range(1, inputs + 1) if inputs % n == 0 and n <= most)


def scales_of(weights: Tensor, energy: Tensor, bits: int, size: int) -> Tensor:
    """The scale of each weight, (groups, rows, columns), `size` neighbouring columns having the same.

    energy: of each input (groups, columns); of the ranges tried, the one with the least error is taken
    """
    grouped = weights.unflatten(2, (-1, size))
    widest = torch.maximum(
        grouped.amin(3) / -(2 ** (bits - 1)), grouped.amax(3) / (2 ** (bits - 1) - 1)
    ).clamp(min=2.0**-20)
    best, least = widest, torch.full_like(widest, torch.inf)
    for share in NARROWER:
        scale = widest * share
        error = (grouped - _nearest(grouped, scale[..., None], bits)).square()
        cost = (error * energy[:, None].unflatten(2, (-1, size))).sum(3)
        best, least = torch.where(cost < least, scale, best), torch.minimum(cost, least)
    return best.float().double()[..., None].expand_as(grouped).flatten(2)


def round_matrices(weights: Tensor, hessian: Tensor, scales: Tensor, bits: int) -> Tensor:
    """Multiples of the scales, -2^(bits-1) to 2^(bits-1)-1 of them, that stand for (groups, rows, columns).

    Columns are rounded in falling order of their curvature, so that the errors of those that matter can be
    made good by the most others.
    """
    order = hessian.diagonal(dim1=1, dim2=2).argsort(dim=1, descending=True, stable=True)
    columns = order[:, None].expand_as(weights)
    turned = hessian.gather(1, order[:, :, None].expand_as(hessian))
    turned = turned.gather(2, order[:, None].expand_as(hessian))
    steps, sorted_weights = scales.gather(2, columns), weights.gather(2, columns)
    alive = sorted_weights != 0

    def nearest(values: Tensor, diagonal: Tensor, column: int) -> Tensor:
        return _nearest(values[..., 0], steps[..., column], bits) * alive[..., column]

    rounded, _ = sweep(sorted_weights, factor_of(turned), nearest)
    return torch.empty_like(rounded).scatter_(2, columns, rounded)


def _nearest(values: Tensor, scales: Tensor, bits: int) -> Tensor:
    return (values / scales).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * scales
