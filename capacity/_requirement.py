"""How many bits does the data need? A table sorted by feature sum, and its label changes counted.

A network that adds up its inputs sees a table as one column: the sums. Every change of the label along the
sorted sums is a threshold that has to be stored, so with t changes and d features

    maximum_bits  = t · (d + 1) + t        each threshold a perceptron of its own, and its output weight
    expected_bits = ceil(log2(t + 1)) · d  the thresholds learned as well as a binary search finds them

Reference: Friedland, Metere and Krell 2018, arXiv:1810.02328 (the heuristic for a data set).
"""

from dataclasses import dataclass
from math import ceil, log2
from typing import Any

import numpy as np

from capacity import tables
from capacity._generalization import mean_half_width
from capacity.columns import KEY, Column, with_interval
from capacity.errors import InputError
from capacity.inputs import whole_number
from capacity.report import CapacityReport
from capacity.rules import dense_capacity
from capacity.sums import Table, ranks_of_sums, table_of

FRACTIONS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.0)


@dataclass(frozen=True)
class Progress:
    """The need of a random part of the rows: thresholds and expected bits, mean over the repeats."""

    fraction: float
    rows: int
    thresholds: float
    thresholds_half_width: float  # of the 95 % interval of the mean; 0 for all rows
    expected_bits: float


COLUMNS = (
    Column("fraction", "rows", "%", factor=100, style="g"),
    Column("rows", "rows", style=",", importance=KEY),
    Column(
        "thresholds", "label changes", style=",.1f", importance=3,
        value=lambda row: with_interval(row["thresholds"], row["thresholds_half_width"], ",.1f"),
    ),
    Column("expected_bits", "expected need", "bit", style=",.0f", importance=2),
)  # fmt: skip


@dataclass(frozen=True)
class Requirement(tables.Tabular):
    """Bits that a table of data needs. `classes` is None for regression.

    `growth` is the exponent with which thresholds grow with rows: 1 means that every new row brings its
    own (nothing but memorizing would do), 0 that the need has levelled off.
    """

    rows: int
    features: int
    classes: int | None
    thresholds: int
    progression: tuple[Progress, ...]

    @property
    def maximum_bits(self) -> int:
        """t · (d + 1) + t."""
        return self.thresholds * (self.features + 1) + self.thresholds

    @property
    def expected_bits(self) -> int:
        """ceil(log2(t + 1)) · d."""
        return expected_bits(self.thresholds, self.features)

    @property
    def growth(self) -> float:
        """Least-squares slope of log(t + 1) against log(rows) along the progression."""
        sizes = np.log([part.rows for part in self.progression])
        needs = np.log([part.thresholds + 1 for part in self.progression])
        return float(np.polyfit(sizes, needs, 1)[0]) if np.ptp(sizes) > 0 else 0.0

    @property
    def levels_off(self) -> bool:
        """Whether the need grows more slowly than the square root of the rows."""
        return self.growth < 0.5

    def table(self) -> tables.Table:
        """A row per part of the progression."""
        kind = "regression" if self.classes is None else f"{self.classes} classes"
        size = f"{self.rows:,} rows, {self.features:,} features, {kind}"
        title = (
            f"{size}, {self.thresholds:,} label changes along the feature sum\n"
            f"maximum need {self.maximum_bits:,} bits, expected need {self.expected_bits:,} bits"
        )
        verdict = "levels off: the data can be generalized" if self.levels_off else "keeps growing"
        note = f"the need grows as rows^{self.growth:.2f}: it {verdict}"
        if not self.levels_off:
            note += ", so by feature sums alone these rows can only be memorized"
        rows = list(map(vars, self.progression))
        return tables.Table(COLUMNS, rows, title, (note,), label="tab:requirement")


def expected_bits(thresholds: float, features: int) -> int:
    """ceil(log2(t + 1)) · d.

    >>> expected_bits(1, 2), expected_bits(2, 2)
    (2, 4)
    """
    return ceil(log2(thresholds + 1)) * features


def requirement(
    features: Any, labels: Any, *, tolerance: float | None = None, repeats: int = 5, seed: int = 0
) -> Requirement:
    """Bits that a data set needs, and how that need grows with its rows.

    Parameters
    ----------
    features: (rows, ...) array or tensor of numbers; everything behind the first axis is flattened
    labels: (rows,) of classes, any number of them; or of targets, with `tolerance`
    tolerance: for regression: one threshold serves targets within ± tolerance of a common value
    repeats: random parts drawn for each step of the progression (5, 10, 20, 40, 80 and 100 % of the rows)

    Rows with equal sums but different classes may stand in any order; the order with the fewest changes
    is counted, so the result depends neither on the order of the rows nor on the names of the classes. Sums
    that differ by rounding only are equal (see `capacity.sums`), so it does not depend on the unit of the
    features, the order of their columns or their number type either.

    Raises InputError for lengths that differ, fewer than two rows, NaN, or labels of one class.

    >>> requirement([[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]).expected_bits
    4
    """
    table, targets = _checked(features, labels, tolerance)
    rows, columns = table.values.shape
    sums = ranks_of_sums(table)
    classes = None if tolerance is not None else int(targets.max()) + 1

    def changes(part: np.ndarray) -> int:
        if tolerance is not None:
            return _segments(sums[part], targets[part], tolerance) - 1
        return _label_changes(sums[part], targets[part])

    progression = _progression(changes, rows, columns, whole_number("repeats", repeats), seed)
    return Requirement(rows, columns, classes, int(progression[-1].thresholds), progression)


def _checked(features: Any, labels: Any, tolerance: float | None) -> tuple[Table, np.ndarray]:
    targets = np.asarray(labels.detach().cpu() if hasattr(labels, "detach") else labels)
    table = table_of(features)
    if targets.ndim == 2 and len(targets) == len(table.values):
        raise InputError(
            f"labels have shape {targets.shape}, one is needed for each row: of one-hot rows pass "
            f"labels.argmax(1), of a single column labels[:, 0]"
        )
    if targets.ndim != 1 or len(table.values) != len(targets):
        raise InputError(
            f"features and labels must have one row each: "
            f"found shapes {np.shape(features)} and {targets.shape}"
        )
    if len(targets) < 2:
        raise InputError(f"at least 2 rows are needed, found {len(targets)}")
    if tolerance is not None:
        return table, _numeric_targets(targets, tolerance)
    if targets.dtype.kind == "f" and np.isnan(targets).any():
        raise InputError(f"label {int(np.argwhere(np.isnan(targets))[0, 0])} is NaN")
    try:
        names, codes = np.unique(targets, return_inverse=True)
    except TypeError as error:
        kinds = sorted({type(label).__name__ for label in targets.tolist()})
        raise InputError(
            f"labels must all be of one type, found {', '.join(kinds)}; drop missing ones"
        ) from error
    if len(names) < 2:
        raise InputError(f"all labels are {names[0]!r}: data of one class needs no bits")
    return table, codes.reshape(-1)


def _numeric_targets(targets: np.ndarray, tolerance: float) -> np.ndarray:
    finite = targets.dtype.kind in "biuf" and bool(np.isfinite(targets).all())
    if not tolerance >= 0 or not finite:
        raise InputError(f"regression needs finite targets and a tolerance >= 0, found {tolerance}")
    return targets.astype(np.float64)


def _label_changes(sums: np.ndarray, codes: np.ndarray) -> int:
    """Fewest label changes over all orders that sort the sums.

    Each run of equal sums is the set of its classes: inside a run of m classes there are m - 1 changes, and
    none between two runs if one can end with the class the next begins with. A run of several classes
    cannot begin and end with the same one, hence the set of classes it can end with.
    """
    order = np.argsort(sums, kind="stable")
    sums, codes = sums[order], codes[order]
    starts = np.flatnonzero(np.concatenate([[True], sums[1:] != sums[:-1]]))
    wide = int(codes.max()) > 62  # more classes than a machine word has bits
    bits = np.array([1 << int(code) for code in codes], dtype=object) if wide else np.left_shift(1, codes)
    changes, ends = 0, 0
    for run in np.bitwise_or.reduceat(bits, starts).tolist():
        shared, count = ends & run, run.bit_count()
        changes += count - (1 if shared or not ends else 0)
        only_one = shared and not shared & (shared - 1)
        ends = run & ~shared if only_one and count > 1 else run
    return changes


def _segments(sums: np.ndarray, targets: np.ndarray, tolerance: float) -> int:
    """Fewest runs along the sorted sums whose targets all lie within ± tolerance of one value."""
    order = np.lexsort((targets, sums))
    segments, low, high = 1, np.inf, -np.inf
    for target in targets[order].tolist():
        low, high = min(low, target), max(high, target)
        if high - low > 2 * tolerance:
            segments, low, high = segments + 1, target, target
    return segments


def _progression(changes: Any, rows: int, features: int, repeats: int, seed: int) -> tuple[Progress, ...]:
    generator = np.random.default_rng(seed)
    parts = []
    for fraction in FRACTIONS:
        size = max(2, round(fraction * rows))
        draws = 1 if size == rows else repeats
        found = [changes(generator.permutation(rows)[:size]) for _ in range(draws)]
        mean = float(np.mean(found))
        parts.append(
            Progress(
                fraction,
                size,
                mean,
                0.0 if draws == 1 else mean_half_width(found),
                expected_bits(mean, features),
            )
        )
    return tuple(parts)


@dataclass(frozen=True)
class Recommendation(tables.Told):
    """A network beside its data: how many times the expected need it holds, and a size to start from.

    Both rest on label changes along the feature sum. Neither promises an accuracy: structure that the sum
    does not show makes a smaller network do, and labels that the sum mixes may need a larger one.
    """

    capacity_bits: int
    expected_bits: int
    maximum_bits: int
    hidden_units: int
    convention: str
    scope: str

    @property
    def times_the_need(self) -> float:
        """Capacity over expected need."""
        return self.capacity_bits / self.expected_bits

    def __str__(self) -> str:
        times = self.times_the_need
        size = f"{times:,.0f}" if times >= 10 else f"{times:.2g}"
        units = "1 unit" if self.hidden_units == 1 else f"{self.hidden_units:,} units"
        return (
            f"this network has {size} times the capacity that the feature-sum heuristic expects of your data "
            f"({self.capacity_bits:,} of {self.expected_bits:,} bits, convention {self.convention!r}, scope "
            f"{self.scope}); a size to start from: one hidden layer of {units}, which reaches that "
            f"expectation. It rests on label changes along the feature sum alone and promises no accuracy: "
            f"train it beside larger ones"
        )


def recommend(report: CapacityReport, need: Requirement) -> Recommendation:
    """Relate a measured network to what the feature-sum heuristic expects its data to need.

    `hidden_units` is a size to start from, not one that is known to do: the least number of units in one
    hidden layer, between the features and one output per class, whose capacity (same convention) reaches
    the expected need.

    Raises InputError for data that needs no bits.
    """
    if need.expected_bits < 1:
        raise InputError("the data needs no bits: its labels never change along the feature sum")
    outputs = need.classes if need.classes is not None and need.classes > 2 else 1
    low, high = 1, need.expected_bits
    while low < high:
        middle = (low + high) // 2
        bits = dense_capacity(need.features, [middle, outputs], convention=report.convention)
        low, high = (low, middle) if bits >= need.expected_bits else (middle + 1, high)
    return Recommendation(
        report.capacity_bits, need.expected_bits, need.maximum_bits, low, report.convention, report.scope
    )
