"""What no setting of the weights can exceed: proven bounds, beside the capacity that a convention counts.

Storage. Weights of so many bits have 2^bits settings, so the network computes no more functions than that,
and no set of labels of more bits can all be learned. It holds for any network, as its weights are stored now.

Pieces. Where every unit is piecewise linear (ReLU), real weights of any precision do not suffice either: with
layers i = 1 ... L, of k_i units of p + 1 pieces each, and W_i weights in layers 1 ... i,

    bits <= L + Σ W_i · log2(4 e p R · log2(2 e p R)),   R = Σ i · k_i

which is the VC dimension's bound in points for one output. For K classes the last layer's units are the
K(K - 1)/2 comparisons of outputs: the number of labelings bounds the bits in the same way. Shared weights
count once and units at each position. A maximum over w values is w(w - 1)/2 comparisons.

Reference: Bartlett, Harvey, Liaw and Mehrabian 2019, "Nearly-tight VC-dimension and pseudodimension bounds
for piecewise linear neural networks", JMLR 20(63), theorem 7 with d = 1 and its proof.
"""

from dataclasses import dataclass
from math import e, floor, log2
from typing import Any

import torch
from torch import nn

from capacity.cloning import evaluation_copy, unwrapped
from capacity.columns import KEY, Column
from capacity.inputs import example_input, first_line
from capacity.measuring import measure
from capacity.pieces import Piece, Pieces
from capacity.tables import Table, Tabular

COLUMNS = (
    Column("bound", "bound", importance=KEY),
    Column("bits", "bits of labels at most", style=",", importance=5, missing="none"),
    Column("reason", "holds because", prose=True, importance=4),
)


@dataclass(frozen=True)
class Bounds(Tabular):
    """Bits of labels that a network can hold at most. `piece_bits` is None where that bound does not apply.

    `reason` says why it applies or what in the network it does not cover.
    """

    capacity_bits: int
    convention: str
    storage_bits: int
    parameters: int
    piece_bits: int | None
    reason: str

    @property
    def bits(self) -> int:
        """The least of the bounds that apply."""
        return self.storage_bits if self.piece_bits is None else min(self.storage_bits, self.piece_bits)

    def table(self) -> Table:
        """A row per bound."""
        stored = f"{self.parameters:,} parameters, as they are stored now, have 2^bits settings"
        rows: list[dict[str, Any]] = [
            {"bound": "storage", "bits": self.storage_bits, "reason": stored},
            {"bound": "pieces (VC dimension)", "bits": self.piece_bits, "reason": self.reason},
        ]
        title = (
            f"Proven: no labels of more bits can all be learned. The capacity of {self.capacity_bits:,} bits "
            f"(convention {self.convention!r}) is a convention and no bound"
        )
        return Table(COLUMNS, rows, title, label="tab:bounds")


def bounds(model: nn.Module, input_size: Any, *, convention: Any = "previous") -> Bounds:
    """Proven bounds on the bits of labels that a classifier's weights can hold.

    The model is neither run nor changed: a copy on the meta device is, and each operation looked at.

    Parameters
    ----------
    model: any nn.Module; the bound by pieces needs outputs (B, classes) or (B, 1)
    input_size: as for `measure`
    convention: of the capacity printed beside

    Raises InputError as `measure` does.

    >>> bounds(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)), (2,)).piece_bits
    178
    """
    report = measure(model, input_size, convention=convention)
    bits, reason = _by_pieces(model, input_size)
    stored = report.storage_bits
    return Bounds(report.capacity_bits, report.convention, stored, report.parameters, bits, reason)


def piece_bits(layers: list[tuple[int, int, int]]) -> int:
    """The bound from (comparisons k·p, degree in weights, weights so far) of each layer, the last included.

    One layer of one output, linear in W weights, separates no more than W points in all ways.

    >>> piece_bits([(3, 1, 9), (1, 2, 13)]), piece_bits([(1, 1, 3)])
    (178, 3)
    """
    if len(layers) == 1 and layers[0][:2] == (1, 1):
        return layers[0][2]
    total = max(3, sum(units * degree for units, degree, _ in layers))
    weights = sum(count for _, _, count in layers)
    return floor(len(layers) + weights * log2(4 * e * total * log2(2 * e * total)))


def _by_pieces(model: nn.Module, input_size: Any) -> tuple[int | None, str]:
    copied = evaluation_copy(unwrapped(model), device="meta")
    args, kwargs = example_input(copied, input_size, device="meta")
    with torch.no_grad():
        pieces = Pieces(copied, (args, kwargs))
        try:
            with pieces:
                output = copied(*args, **kwargs)
        except Exception as error:
            return None, f"not known to apply: the network cannot be followed ({first_line(error)})"
        if pieces.uncovered:
            return None, f"does not apply: not piecewise linear in {', '.join(sorted(pieces.uncovered))}"
        if not isinstance(output, torch.Tensor) or output.ndim != 2:
            return None, "does not apply: the outputs are not one tensor of shape (B, classes)"
        outputs = output.shape[1]
        comparisons = max(1, outputs * (outputs - 1) // 2)
        last = Piece(comparisons, max(pieces.degree_of(output), 1), pieces.weights)
    factors = [(piece.units, piece.degree, piece.weights) for piece in (*pieces.pieces, last)]
    return piece_bits(
        factors
    ), f"weights of any precision: piecewise linear, {len(factors)} layers of comparisons"
