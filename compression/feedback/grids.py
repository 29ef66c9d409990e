"""Grids of few bits: multiples of a scale that neighbouring weights share, from the least there may be."""

from dataclasses import dataclass
from math import prod
from typing import TypedDict

import torch
from torch import Tensor

from capacity import checks
from compression.counting import SMALLEST_SCALE

NARROWER = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6, 0.5)  # ranges that are tried, in shares of the widest
SCALE_BITS = 16


class GridOptions(TypedDict, total=False):
    """Which weights share a scale, and where their grid lies."""

    group_size: int | None
    asymmetric: bool


GRID: GridOptions = {"group_size": None, "asymmetric": False}
GRID_CHECKS = {"group_size": checks.optional(checks.count), "asymmetric": checks.flag}


@dataclass(frozen=True)
class Grid:
    """2^bits multiples of `scales`, from `lowest` up, of each weight; both (groups, rows, columns)."""

    scales: Tensor
    lowest: Tensor
    bits: int

    def nearest(self, values: Tensor) -> Tensor:
        """Each weight's nearest value on its grid."""
        return _nearest(values, self.scales, self.lowest, self.bits)

    def column(self, values: Tensor, column: int) -> Tensor:
        """The nearest values of one column (groups, rows)."""
        return _nearest(values, self.scales[..., column], self.lowest[..., column], self.bits)

    def ordered(self, columns: Tensor) -> "Grid":
        """The grids of the weights in another order of the columns."""
        return Grid(self.scales.gather(2, columns), self.lowest.gather(2, columns), self.bits)


def _nearest(values: Tensor, scales: Tensor, lowest: Tensor, bits: int) -> Tensor:
    return (values / scales).round().clamp(lowest, lowest + (2**bits - 1)) * scales


def grid_of(weights: Tensor, energy: Tensor, bits: int, size: int, *, asymmetric: bool = False) -> Grid:
    """The grids of weights (groups, rows, columns), `size` neighbouring columns of a row having the same.

    Symmetric ones reach from -2^(bits-1) to 2^(bits-1) - 1 multiples, asymmetric ones as far as the weights
    do on each side of zero, which always lies on them. Of the ranges tried, the one with the least error is
    taken.

    energy: of each input (groups, columns), by which its errors count

    >>> grid = grid_of(torch.tensor([[[0.1, 0.8]]]), torch.ones(1, 2), 3, 2, asymmetric=True)
    >>> (grid.lowest.min() * grid.scales.min()).item(), round(grid.scales[0, 0, 0].item(), 3)
    (0.0, 0.114)
    """
    grouped = weights.unflatten(2, (-1, size))
    if asymmetric:
        low, high = grouped.amin(3).clamp(max=0), grouped.amax(3).clamp(min=0)
        widest = ((high - low) / (2**bits - 1)).clamp(min=SMALLEST_SCALE)
        lowest = (low / widest).round().clamp(1 - 2**bits, 0)
    else:
        sides = grouped.amin(3) / -(2 ** (bits - 1)), grouped.amax(3) / (2 ** (bits - 1) - 1)
        widest = torch.maximum(*sides).clamp(min=SMALLEST_SCALE)
        lowest = torch.full_like(widest, -(2 ** (bits - 1)))
    best, least = widest, torch.full_like(widest, torch.inf)
    for share in NARROWER:
        scale = widest * share
        error = (grouped - _nearest(grouped, scale[..., None], lowest[..., None], bits)).square()
        cost = (error * energy[:, None].unflatten(2, (-1, size))).sum(3)
        best, least = torch.where(cost < least, scale, best), torch.minimum(cost, least)
    scales, least_multiples = (
        part[..., None].expand_as(grouped).flatten(2) for part in (best.float().double(), lowest)
    )
    return Grid(scales, least_multiples, bits)


def group_columns(shape: torch.Size, group_size: int | None, columns: int) -> int:
    """Columns that share a scale: as many whole kernels as fit into `group_size` and divide the inputs."""
    if group_size is None:
        return columns
    kernel = prod(shape[2:])
    inputs = columns // kernel
    most = max(1, group_size // kernel)
    return kernel * max(n for n in range(1, inputs + 1) if inputs % n == 0 and n <= most)


def stored_bits(elements: int, scales: int, bits: int, *, asymmetric: bool) -> int:
    """Bits of integers, of scales (16 each), and of where each grid begins.

    >>> stored_bits(64, 2, 4, asymmetric=True)
    296
    """
    return bits * elements + (SCALE_BITS + (bits if asymmetric else 0)) * scales
