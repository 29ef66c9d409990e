"""allocate_bits(): how many bits each layer gets, so that all together cost the least within a budget.

What a layer's rounding costs at each number of bits is measured on its own, the other layers whole, and taken
to add up. Which bits cost least is then found exactly, up to a 2^-16 of the largest size.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import gcd
from typing import Any, Literal, Unpack

import numpy as np
from torch import Tensor, nn

from capacity import checks
from capacity.columns import KEY, Column
from capacity.errors import InputError, brief
from capacity.tables import Table, Tabular
from compression.feedback.aims import aimed_steps
from compression.feedback.grids import GRID, GRID_CHECKS, GridOptions, stored_bits
from compression.feedback.hessians import Calibration, Walk
from compression.feedback.layers import exact_matrices
from compression.feedback.rounding import check_bits, check_grid, grid_for, round_matrices, scales_in
from compression.feedback.sweeping import output_error
from compression.feedback.worths import output_worths
from compression.options import with_options
from compression.targets import Target

CHOICES = (2, 3, 4, 5, 6, 7, 8)
MOST_UNITS = 2**16  # parts of the largest size that are told apart
Sensitivity = Literal["fisher", "output"]


@dataclass(frozen=True)
class AllocatedLayer:
    """A layer's bits, what they should cost, and what each other choice would.

    Costs are nats of a sample's loss to second order by Fisher's information, or ‖Wx - Ŵx‖² / ‖Wx‖².
    """

    name: str
    elements: int
    bits: int
    stored_bits: int
    cost: float
    costs: Mapping[int, float]


@dataclass(frozen=True)
class BitAllocation(Tabular):
    """Bits by layer for `round_with_feedback`; `left` are matrices that are not rounded, and why."""

    layers: tuple[AllocatedLayer, ...]
    sensitivity: Sensitivity
    left: Mapping[str, str]

    @property
    def bits(self) -> dict[str, int]:
        """What `round_with_feedback` takes as `bits`."""
        return {layer.name: layer.bits for layer in self.layers}

    @property
    def cost(self) -> float:
        """The predicted cost of all layers."""
        return sum(layer.cost for layer in self.layers)

    @property
    def average_bits(self) -> float:
        """Bits for each weight of these layers, scales included."""
        return sum(layer.stored_bits for layer in self.layers) / sum(layer.elements for layer in self.layers)

    @property
    def bytes(self) -> int:
        """Bytes of these layers' integers and scales."""
        return -(-sum(layer.stored_bits for layer in self.layers) // 8)

    def table(self) -> Table:
        """A row per layer."""
        unit = "nat" if self.sensitivity == "fisher" else "of the outputs' energy"
        columns = (
            Column("name", "layer", importance=KEY),
            Column("elements", "weights", style=",", importance=3),
            Column("bits", "bits", style=",", importance=6),
            Column("cost", "predicted cost", unit, style=".3g", importance=5),
        )
        title = f"{self.average_bits:.2f} bits for each weight, scales included: {self.bytes:,} bytes"
        return Table(columns, [vars(layer) for layer in self.layers], title, label="tab:bits")


@checks.arguments(
    average_bits=checks.optional(checks.number),
    budget_bytes=checks.optional(checks.integer),
    sensitivity=checks.word("fisher", "output"),
    **GRID_CHECKS,
)
@with_options(GRID)
def allocate_bits(
    model: nn.Module,
    batches: Calibration | Iterable[Any],
    *,
    average_bits: float | None = None,
    budget_bytes: int | None = None,
    choices: Sequence[int] | Mapping[str, Sequence[int]] = CHOICES,
    sensitivity: Sensitivity = "fisher",
    **grid: Unpack[GridOptions],
) -> BitAllocation:
    """The bits of each layer at which rounding costs least, within a budget; nothing is rounded yet.

    Parameters
    ----------
    batches: as for `round_with_feedback`; gone through once or a few times, and once with gradients
    average_bits, budget_bytes: one of them: what integers and scales of all layers gone through may take, for
        each weight or in all
    choices: bits that each layer may have; or a dict of them by layer, which leaves out all others
    sensitivity: "fisher", what the layer's output errors cost in nats of a sample's loss to second order, by
        labels that the network draws (as in `code_with_feedback`); "output", ‖Wx - Ŵx‖² / ‖Wx‖²
    group_size, asymmetric: as for `round_with_feedback`

    Raises InputError for a budget below what the fewest bits take, with what that is, for bits that cannot
    be, unknown layers, and weights or inputs that are not finite.

    Reference: Dong et al. 2020, "HAWQ-V2", arXiv:1911.03852, for the sum of layers' costs under a budget.

    >>> model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> import torch
    >>> found = allocate_bits(model, [torch.randn(16, 8)], average_bits=7.0, choices=(2, 4, 8))
    >>> found.average_bits <= 7.0, sorted(found.bits)
    (True, ['0', '2'])
    """
    if (average_bits is None) == (budget_bytes is None):
        raise InputError("give either average_bits or budget_bytes")
    check_grid(grid)
    calibration = replace(Calibration.of(batches), sequential=False)
    walk = Walk.on_copy(model, calibration, list(choices) if isinstance(choices, Mapping) else None)
    options = {name: _options(target, choices) for name, target in walk.choice.chosen.items()}
    worths: Mapping[str, Tensor] = {}
    if sensitivity == "fisher":
        worths = output_worths(walk.model, walk.choice.chosen, calibration.batches)
    offered = [
        _offer(target, hessian, options[target.name], worths.get(target.name), grid)
        for target, _, hessian in aimed_steps(walk)
    ]
    room = _room(offered, average_bits, budget_bytes)
    picked = cheapest([o.sizes for o in offered], [list(o.costs.values()) for o in offered], room)
    rows = tuple(offer.taken(place) for offer, place in zip(offered, picked, strict=True))
    return BitAllocation(rows, sensitivity, walk.left)


def _options(target: Target, choices: Sequence[int] | Mapping[str, Sequence[int]]) -> list[int]:
    """The bits that a layer may have, rising."""
    wanted = target.among(choices) if isinstance(choices, Mapping) else choices
    several = checks.each(checks.integer)("choices", wanted)
    if not several:
        raise InputError(f"choices must be a list of bits such as (2, 4, 8), found {brief(wanted)}")
    return sorted({check_bits(f"choices of {target.name!r}", bits) for bits in several})


@dataclass(frozen=True)
class _Offer:
    """A layer, what it takes at each number of bits, and what that costs."""

    name: str
    elements: int
    sizes: list[int]
    costs: dict[int, float]

    def taken(self, place: int) -> AllocatedLayer:
        bits = list(self.costs)[place]
        return AllocatedLayer(
            self.name, self.elements, bits, self.sizes[place], self.costs[bits], dict(self.costs)
        )


def _offer(
    target: Target, hessian: Tensor, choices: Sequence[int], worth: Tensor | None, grid: GridOptions
) -> _Offer:
    """What a layer's rounding with feedback costs at each number of bits."""
    weights = exact_matrices(target)
    energy = float(output_error(weights, hessian).sum()) or 1.0
    costs = {}
    for bits in choices:
        chosen = grid_for(target, weights, hessian.diagonal(dim1=1, dim2=2), bits, grid)
        rounded = round_matrices(weights, hessian, chosen)
        errors = output_error(weights - rounded, hessian)
        costs[bits] = float(errors.sum()) / energy if worth is None else float((errors * worth).sum()) / 4
    scales, asymmetric = scales_in(target, grid), grid["asymmetric"]
    sizes = [stored_bits(target.elements, scales, bits, asymmetric=asymmetric) for bits in choices]
    return _Offer(target.name, target.elements, sizes, costs)


def _room(offered: Sequence[_Offer], average_bits: float | None, budget_bytes: int | None) -> int:
    """The budget in bits; raises InputError for one that cannot be kept."""
    weights = sum(offer.elements for offer in offered)
    least = sum(offer.sizes[0] for offer in offered)
    if average_bits is not None:
        room, nearest = average_bits * weights, f"average_bits={least / weights:.4f}"
        asked = f"average_bits={average_bits}"
    else:
        assert budget_bytes is not None
        room, nearest = 8 * budget_bytes, f"{-(-least // 8):,} bytes"
        asked = f"budget_bytes={budget_bytes:,}"
    if not room >= least:
        raise InputError(
            f"{asked} is below what the fewest bits of {len(offered)} layers take, scales included: the "
            f"nearest that can be reached is {nearest}"
        )
    return int(min(room, sum(offer.sizes[-1] for offer in offered)))


def cheapest(sizes: Sequence[Sequence[int]], costs: Sequence[Sequence[float]], room: int) -> list[int]:
    """Which option of each layer: the least total cost of those whose total size is at most `room`.

    Options of a layer come in rising size, and the first of all must fit. Exact where sizes differ by
    multiples of a 2^-16 of the largest total; else sizes count as up to so much larger.

    >>> cheapest([[1, 2], [1, 3]], [[5.0, 1.0], [9.0, 0.0]], 4)
    [0, 1]
    """
    more = [[size - options[0] for size in options] for options in sizes]
    left = room - sum(options[0] for options in sizes)
    unit = max(gcd(*(m for options in more for m in options)), -(-sum(o[-1] for o in more) // MOST_UNITS), 1)
    units = [[-(-m // unit) for m in options] for options in more]
    most = left // unit
    best, taken = np.zeros(most + 1), []
    for steps, prices in zip(units, costs, strict=True):
        now, choice = np.full(most + 1, np.inf), np.zeros(most + 1, dtype=np.uint8)
        for place, (step, price) in enumerate(zip(steps, prices, strict=True)):
            if step > most:
                continue
            reached = best[: most + 1 - step] + price
            better = reached < now[step:]
            now[step:][better], choice[step:][better] = reached[better], place
        best = now
        taken.append(choice)
    picked: list[int] = []
    for choice, steps in zip(reversed(taken), reversed(units), strict=True):
        place = int(choice[most])
        picked.append(place)
        most -= steps[place]
    return picked[::-1]
