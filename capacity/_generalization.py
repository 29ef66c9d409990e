"""How well the bits are used: rho and G, for the network and for each layer.

rho = N / C: correctly classified points per bit of capacity.
G = N · H / C: bits of label learned per bit of capacity, with H the label entropy.

Both grow without end as C falls, and count points that chance would get right: a network of one weight has
the highest. `learned_share` pays for both: told by the network, and where it errs by a flag and the right
class, labels take n · h(e) bits, h(e) = H2(e) + e · log2(k - 1), beside the bits of the network itself. The
share of the n · H bits of the labels that needs neither is learned. Chance learns nothing.

Reference: Rissanen 1978, "Modeling by shortest data description" (two-part code); Fano 1961 for h(e).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, log2
from typing import TYPE_CHECKING, Any

from capacity import checks
from capacity.columns import KEY, Column, percent
from capacity.errors import InputError
from capacity.report import CapacityReport
from capacity.tables import Table, Tabular

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


COLUMNS = (
    Column("name", "layer", importance=KEY),
    Column("points_per_bit", "rho", "points/bit", r"$\rho$", style=",.4g", better="higher", importance=2),
    Column("bits_per_bit", "G", "bit/bit", "$G$", style=",.4g", better="higher"),
)


@dataclass(frozen=True)
class Generalization(Tabular):
    """Correct points per bit. Never without what it counts: N, the split, the classes, the convention.

    `ratio` is rho in points per bit, `bits_per_bit` is G; `layers` holds (name, rho, G) for each layer
    with capacity: the same points over that layer's bits.
    """

    correct: int
    total: int
    capacity_bits: int
    label_bits: float
    split: str
    classes: int | None
    convention: str
    layers: tuple[tuple[str, float, float], ...]

    @property
    def learned_share(self) -> float:
        """Share of the labels' bits saved by the network, its capacity paid; below 0 where it costs more."""
        return self.learned_beyond(self.capacity_bits)

    def learned_beyond(self, model_bits: float) -> float:
        """Share of the labels' bits saved, so many paid for the network: 8 times the bytes of its file, say.

        NaN where the number of classes is not known or the labels hold nothing.
        """
        if self.classes is None or not self.label_bits > 0:
            return math.nan
        residual = self.total * left_bits(1 - self.accuracy, self.classes, self.label_bits)
        return 1 - (residual + model_bits) / (self.total * self.label_bits)

    @property
    def ratio(self) -> float:
        """rho = N / C in points per bit."""
        return self.correct / self.capacity_bits

    @property
    def bits_per_bit(self) -> float:
        """G = N · H / C in bits of label per bit of capacity."""
        return self.correct * self.label_bits / self.capacity_bits

    @property
    def ratio_interval(self) -> tuple[float, float]:
        """95 % interval of rho, from the Wilson interval of the accuracy."""
        low, high = self.accuracy_interval
        return low * self.total / self.capacity_bits, high * self.total / self.capacity_bits

    @property
    def accuracy(self) -> float:
        return self.correct / self.total

    @property
    def accuracy_interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the accuracy."""
        return wilson_interval(self.correct, self.total)

    def table(self) -> Table:
        """A row per layer and one for the network: points per bit and bits per bit."""
        low, high = self.accuracy_interval
        classes = "" if self.classes is None else f", {self.classes} classes"
        title = (
            f"Generalization on the {self.split} split{classes}: N = {self.correct:,} of {self.total:,} "
            f"({100 * self.accuracy:.2f} %, 95 % [{100 * low:.2f}, {100 * high:.2f}]), "
            f"H = {self.label_bits:.3g} bit, convention {self.convention!r}"
        )
        notes = ["rho and G are highest for the smallest network, whatever it learned"]
        if not math.isnan(self.learned_share):
            share = percent(self.learned_share, 1) if self.learned_share > 0 else "none"
            notes.append(
                f"share of the labels' {self.total * self.label_bits:,.0f} bits that is learned, the "
                f"network's {self.capacity_bits:,} bits of capacity paid: {share} (by chance: none)"
            )
        rows = [*self.layers, ("network", self.ratio, self.bits_per_bit)]
        names = ("name", "points_per_bit", "bits_per_bit")
        named = [dict(zip(names, row, strict=True)) for row in rows]
        return Table(COLUMNS, named, title, notes, label="tab:generalization")


@checks.arguments(
    report=checks.instance(CapacityReport),
    correct=checks.integer,
    total=checks.integer,
    label_bits=checks.number,
    split=checks.instance(str),
    classes=checks.optional(checks.integer),
)
def generalization(
    report: CapacityReport,
    *,
    correct: int,
    total: int,
    label_bits: float,
    split: str = "test",
    classes: int | None = None,
) -> Generalization:
    """rho and G of a measured network, from how many points of a split it classified correctly.

    Parameters
    ----------
    report: what `measure` returned
    correct, total: points classified correctly, and points scored, in `split`
    label_bits: entropy of the labels in bits, see `label_entropy`
    split, classes: what was scored, printed with every result

    Raises InputError for counts that cannot be, or a network without capacity.

    >>> from torch import nn
    >>> from capacity.measuring import measure
    >>> generalization(measure(nn.Linear(2, 1), (2,)), correct=6, total=8, label_bits=1.0).ratio
    2.0
    """
    if not 0 <= correct <= total or total < 1:
        raise InputError(f"correct must lie between 0 and total >= 1, found {correct} of {total}")
    if not 0 <= label_bits < inf:
        raise InputError(f"label_bits must be an entropy >= 0, and finite, found {label_bits}")
    if classes is not None and classes < 1:
        raise InputError(f"classes must be at least 1, found {classes}")
    if report.capacity_bits < 1:
        raise InputError("the network stores 0 bits: nothing to relate the correct points to")
    layers = tuple(
        (layer.name, correct / layer.capacity_bits, correct * label_bits / layer.capacity_bits)
        for layer in report.layers
        if layer.capacity_bits
    )
    return Generalization(
        correct, total, report.capacity_bits, label_bits, split, classes, report.convention, layers
    )


def left_bits(error: float, classes: int, label_bits: float) -> float:
    """Bits that a label takes which is told right but for this error: H2(e) + e · log2(k - 1), at most H.

    Where chance errs no more, the network tells nothing, and H is left.

    >>> left_bits(0.0, 10, 3.3), left_bits(0.9, 10, 3.3), round(left_bits(0.5, 4, 2.0), 3)
    (0.0, 3.3, 1.792)
    """
    if error >= 1 - 1 / classes:
        return label_bits
    flag = -sum(share * log2(share) for share in (error, 1 - error) if share > 0)
    return min(flag + (error * log2(classes - 1) if error > 0 else 0.0), label_bits) + 0.0


@checks.arguments(labels=checks.table)
def label_entropy(labels: "Sequence[int] | NDArray[Any] | Tensor") -> float:
    """H = -Σ p·log2 p of the labels' frequencies, in bits.

    labels: one for each sample or position, in any shape

    Raises InputError for no labels, NaN, several types, fractions and one-hot rows.

    >>> label_entropy([0, 0, 1, 1]), label_entropy([3, 3])
    (1.0, 0.0)
    """
    import numpy as np

    from capacity.classes import array_of, class_codes, is_one_hot

    values = array_of(labels)
    if values.size == 0:
        raise InputError("labels are empty: their entropy is undefined")
    if is_one_hot(values):
        raise InputError(f"labels are one-hot rows of shape {values.shape}: pass labels.argmax(1)")
    values = values.reshape(-1)
    counts = np.bincount(class_codes(values)[1])
    return float(sum(-share * log2(share) for share in (counts / values.size).tolist())) + 0.0


@checks.arguments(correct=checks.count, total=checks.count, confidence=checks.number)
def wilson_interval(correct: int, total: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion.

    Reference: Wilson 1927, as implemented in scipy.stats.binomtest.
    """
    from scipy.stats import binomtest

    if not (0 <= correct <= total and total >= 1 and 0 < confidence < 1):
        raise InputError(
            f"correct must lie between 0 and total >= 1 and confidence between 0 and 1, found {correct} of "
            f"{total} and {confidence}"
        )
    interval = binomtest(correct, total).proportion_ci(confidence_level=confidence, method="wilson")
    return float(interval.low), float(interval.high)


@checks.arguments(values=checks.each(checks.real), confidence=checks.number)
def mean_half_width(values: "Sequence[float]", *, confidence: float = 0.95) -> float:
    """Half the width of Student's t interval of the mean; NaN for fewer than two values, and where one is."""
    import numpy as np
    from scipy.special import stdtrit  # what scipy.stats.t.ppf calls, without its second of imports

    numbers = np.asarray([float(value) for value in values])
    count = len(numbers)
    if not 0 < confidence < 1:
        raise InputError(f"confidence must lie between 0 and 1, found {confidence}")
    if count < 2:
        return float("nan")
    return float(stdtrit(count - 1, (1 + confidence) / 2) * np.std(numbers, ddof=1) / np.sqrt(count))
