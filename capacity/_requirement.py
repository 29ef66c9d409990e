"""How many bits does the data need? A table sorted by feature sum, and its label changes counted.

A network that adds up its inputs sees a table as one column: the sums. Every change of the label along the
sorted sums is a threshold that has to be stored, so with t changes and d features

    maximum_bits  = t · (d + 1) + t        each threshold a perceptron of its own, and its output weight
    expected_bits = ceil(log2(t + 1)) · d  the thresholds learned as well as a binary search finds them

A later form, of the book, lets each of log2(t + 1) perceptrons keep its bias and its output weight:

    expected_bits = ceil(log2(t + 1) · (d + 1) + log2(t + 1) + 1)

Neither is a bound: a sum hides structure, and separates what is mixed along it no worse than noise. The
program that the first form comes from warns that it is reliable for balanced two-class problems only.

Reference: Friedland, Metere and Krell 2018, arXiv:1810.02328 and its program nntailoring (the heuristic for
a data set); Friedland 2024, "Information-Driven Machine Learning", Springer (the later form).
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, log2
from typing import Any, Literal

import numpy as np

from capacity import checks, tables
from capacity._generalization import label_entropy, mean_half_width
from capacity.classes import array_of, class_codes, require_two_classes
from capacity.columns import KEY, Column, percent, with_interval
from capacity.errors import InputError
from capacity.inputs import as_integer
from capacity.sums import Table, ranks_of_sums, table_of

FRACTIONS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.0)
BALANCED = 0.6  # the largest of two classes has no more than this share
Formula = Literal["nntailoring", "book"]


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
        "thresholds", "label changes", style=",.0f", importance=3,
        value=lambda row: with_interval(row["thresholds"], row["thresholds_half_width"], ",.0f"),
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
    label_bits: float = float("nan")  # entropy H of the labels
    largest_class: float = float("nan")  # its share of the rows
    formula: Formula = "nntailoring"
    constant_features: int = 0  # of `features`

    @property
    def maximum_bits(self) -> int:
        """t · (d + 1) + t."""
        return maximum_bits(self.thresholds, self.features)

    @property
    def expected_bits(self) -> int:
        """As the formula has it: ceil(log2(t + 1)) · d, or the book's form."""
        return FORMULAS[self.formula](self.thresholds, self.features)

    @property
    def stored_label_bits(self) -> float:
        """n · H: bits that storing the labels takes; NaN for regression."""
        return self.rows * self.label_bits

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes the count mean less: its source's own warning, and what is odd about these data."""
        remarks = []
        if self.classes and self.largest_class > 0 and (self.classes > 2 or self.largest_class > BALANCED):
            size = f"{self.classes} classes, the largest with {percent(self.largest_class)} of the rows"
            remarks.append(
                f"the heuristic's source calls it reliable for two balanced classes only; here: {size}"
            )
        if self.classes == self.rows > 2:
            remarks.append("every row is a class of its own: there is nothing to learn from others")
        if self.constant_features:
            remarks.append(
                f"{self.constant_features:,} of {self.features:,} features are the same in all rows: they "
                f"tell no labels apart, and count in the need"
            )
        return tuple(remarks)

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
            f"maximum need {self.maximum_bits:,} bits, expected need {self.expected_bits:,} bits "
            f"(formula {self.formula!r})"
        )
        if self.stored_label_bits > 0:
            title += f"; storing the labels as they are takes {self.stored_label_bits:,.0f} bits"
        verdict = "levels off: the data can be generalized" if self.levels_off else "keeps growing"
        note = f"the need grows as rows^{self.growth:.2f}: it {verdict}"
        if not self.levels_off:
            note += ", so by feature sums alone these rows can only be memorized"
        rows = list(map(vars, self.progression))
        return tables.Table(COLUMNS, rows, title, (note, *self.warnings), label="tab:requirement")


def expected_bits(thresholds: float, features: int) -> int:
    """ceil(log2(t + 1)) · d.

    >>> expected_bits(1, 2), expected_bits(2, 2)
    (2, 4)
    """
    return ceil(log2(thresholds + 1)) * features


def maximum_bits(thresholds: int, features: int) -> int:
    """t · (d + 1) + t.

    >>> maximum_bits(1, 2), maximum_bits(2, 2)
    (4, 8)
    """
    return thresholds * (features + 1) + thresholds


def book_bits(thresholds: float, features: int) -> int:
    """ceil(log2(t + 1) · (d + 1) + log2(t + 1) + 1).

    >>> book_bits(1, 2), book_bits(2, 2)
    (5, 8)
    """
    cuts = log2(thresholds + 1)
    return ceil(cuts * (features + 1) + cuts + 1)


FORMULAS: dict[str, Callable[[float, int], int]] = {"nntailoring": expected_bits, "book": book_bits}


@checks.arguments(
    tolerance=checks.optional(checks.number),
    repeats=checks.integer,
    seed=checks.seed,
    formula=checks.word(*FORMULAS),
    labels=checks.table,
)
def requirement(
    features: Any,
    labels: Any,
    *,
    tolerance: float | None = None,
    repeats: int = 5,
    seed: int = 0,
    formula: Formula = "nntailoring",
) -> Requirement:
    """Bits that a data set needs, and how that need grows with its rows.

    Parameters
    ----------
    features: (rows, ...) array or tensor of numbers; everything behind the first axis is flattened
    labels: (rows,) of classes, any number of them; or of targets, with `tolerance`
    tolerance: for regression: one threshold serves targets within ± tolerance of a common value
    repeats: random parts drawn for each step of the progression (5, 10, 20, 40, 80 and 100 % of the rows)
    formula: of the expected need, "nntailoring" or "book" (see the module)

    Rows with equal sums but different classes may stand in any order; the order with the fewest changes
    is counted, so the result depends neither on the order of the rows nor on the names of the classes. Sums
    that differ by rounding only are equal (see `capacity.sums`), so it does not depend on the unit of the
    features, the order of their columns or their number type either.

    Raises InputError for lengths that differ, fewer than two rows, NaN, labels of one class, fractions as
    labels without a tolerance, or an unknown formula.

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

    progression = _progression(
        changes, rows, FORMULAS[formula], columns, as_integer("repeats", repeats), seed
    )
    entropy, largest = (float("nan"),) * 2 if classes is None else _balance(targets)
    thresholds = int(progression[-1].thresholds)
    constant = int((table.values == table.values[:1]).all(axis=0).sum())
    return Requirement(rows, columns, classes, thresholds, progression, entropy, largest, formula, constant)


def _balance(codes: np.ndarray) -> tuple[float, float]:
    """Entropy of the classes in bits, and the share of the largest."""
    return label_entropy(codes), float(np.bincount(codes).max() / len(codes))


def _checked(features: Any, labels: Any, tolerance: float | None) -> tuple[Table, np.ndarray]:
    targets = array_of(labels)
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
    names, codes = class_codes(targets)
    require_two_classes(names, "data of one class needs no bits")
    return table, codes


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


def _progression(
    changes: Any, rows: int, bits: Callable[[float, int], int], features: int, repeats: int, seed: int
) -> tuple[Progress, ...]:
    generator = np.random.default_rng(seed)
    parts = []
    for fraction in FRACTIONS:
        size = max(2, round(fraction * rows))
        draws = 1 if size == rows else repeats
        counts = [changes(generator.permutation(rows)[:size]) for _ in range(draws)]
        mean = float(np.mean(counts))
        parts.append(
            Progress(
                fraction,
                size,
                mean,
                0.0 if draws == 1 else mean_half_width(counts),
                bits(mean, features),
            )
        )
    return tuple(parts)
