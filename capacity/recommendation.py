"""A size to start from: what experiments on many data sets say of it, and how far that was off there.

The smallest adequate width of one hidden layer was found by training (`python -m analysis.sizing`).
`sizing.json` is what that command recorded: the number that foretells the width best, data sets left out one
by one, the line through it, and how wide a range held the widths of those left out. Once for numbers that a
requirement knows, once for what two small networks trained first say (`capacity.pilot`).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from math import log2
from pathlib import Path
from typing import Any

from capacity import checks
from capacity._requirement import Requirement, book_bits, expected_bits, maximum_bits
from capacity.errors import InputError
from capacity.pilots import Pilot
from capacity.report import CapacityReport
from capacity.rules import Convention, dense_capacity
from capacity.tables import Statement

RECORD = Path(__file__).with_name("sizing.json")
Facts = Mapping[Any, Any]

VALUES: dict[str, Callable[[Facts], float]] = {  # what a requirement says of its data
    "label changes": lambda f: f["thresholds"],
    "expected need": lambda f: expected_bits(f["thresholds"], f["features"]),
    "the book's need": lambda f: book_bits(f["thresholds"], f["features"]),
    "maximum need": lambda f: maximum_bits(f["thresholds"], f["features"]),
    "label bits n·H": lambda f: f["rows"] * f["label_bits"],
    "n·H per weight of a unit": lambda f: f["rows"] * f["label_bits"] / (f["features"] + 1 + f["classes"]),
    "rows": lambda f: f["rows"],
    "features": lambda f: f["features"],
    "classes": lambda f: f["classes"],
    "sqrt(features · classes)": lambda f: (f["features"] * f["classes"]) ** 0.5,
    "sqrt(features · rows)": lambda f: (f["features"] * f["rows"]) ** 0.5,
}
PILOT = {"pilot: 4 units beyond 16": lambda f: f["rows"] * max(f["pilot_gap"], 0)}


def units_for(features: int, classes: int | None, bits: int, *, convention: Convention = "previous") -> int:
    """The least units of one hidden layer whose capacity reaches so many bits, one output for each class.

    Two classes, and regression (None), have one output.

    >>> units_for(2, 2, 4), units_for(64, 10, 704)
    (1, 11)
    """
    outputs = classes if classes is not None and classes > 2 else 1
    low, high = 1, max(bits, 1)
    while low < high:
        middle = (low + high) // 2
        enough = dense_capacity(features, [middle, outputs], convention=convention) >= bits
        low, high = (low, middle) if enough else (middle + 1, high)
    return low


@dataclass(frozen=True)
class Advice:
    """What the experiments say of one way to foretell a size; recorded, not typed in.

    log2(units) = intercept + slope · log2(1 + value of `predictor`). `half_range` octaves to both sides held
    `covered` of the `data_sets`, each foretold from the others. `octaves` is the mean distance to the
    smallest adequate size (1 is a factor of two, which held for `within_two`), `gain` by how much that is
    nearer than 64 units always, and `regret` the test error beyond that of the best width, each with the
    half-width of its 95 % interval. `verdict` judges the gain. `limits` holds the least and most rows,
    features and classes tried.
    """

    predictor: str
    intercept: float
    slope: float
    half_range: float
    covered: int
    data_sets: int
    widths: tuple[int, ...]
    octaves: tuple[float, float]
    within_two: int
    gain: tuple[float, float]
    regret: tuple[float, float]
    verdict: str
    limits: Mapping[str, tuple[float, float]]

    @property
    def beats_64(self) -> bool:
        """Whether it was shown to come nearer than 64 units always."""
        return self.verdict == "better"

    def units(self, facts: Facts) -> tuple[int, int, int]:
        """The size, and the ends of its range, within the widths that were tried."""
        octaves = self.intercept + self.slope * log2(1 + (VALUES | PILOT)[self.predictor](facts))
        low, high = log2(min(self.widths)), log2(max(self.widths))
        steps = (octaves, octaves - self.half_range, octaves + self.half_range)
        size, least, most = (round(2 ** min(max(step, low), high)) for step in steps)
        return size, least, most

    def beyond(self, facts: Facts) -> str:
        """What lies outside the experiments; empty where nothing does."""
        outside = [
            f"{facts[name]:,} {name} ({low:,} to {high:,} tried)"
            for name, (low, high) in self.limits.items()
            if not low <= facts[name] <= high
        ]
        return f"; beyond what was tried: {', '.join(outside)}" if outside else ""

    def __str__(self) -> str:
        off, regret = self.octaves[0], self.regret
        against = "nearer than" if self.beats_64 else "not shown to be nearer than"
        return (
            f"on {self.data_sets} data sets, each foretold from the others, it was off by a factor of "
            f"{2**off:.1f} on average (within two on {self.within_two}), {against} 64 units always, and "
            f"erred {100 * regret[0]:.1f} ± {100 * regret[1]:.1f} points more than the best width; the range "
            f"held {self.covered} of {self.data_sets}"
        )


@cache
def recorded(kind: str) -> Advice:
    """What the experiments say: kind "data", of a requirement's numbers, or "pilot"."""
    facts = json.loads(RECORD.read_text(encoding="utf-8"))[kind]
    return advice_from(facts)


def advice_from(facts: Mapping[str, Any]) -> Advice:
    """An advice as its JSON has it."""
    limits = {name: (low, high) for name, (low, high) in facts["limits"].items()}
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()}
    return Advice(**plain | {"limits": limits})


@dataclass(frozen=True)
class Recommendation(Statement):
    """A network beside its data: its capacity in times of the heuristic's need, and a size to start from.

    `hidden_units` and the range `low_units` to `high_units` are what `advice` foretells; without one, for
    regression, `hidden_units` is `reaching_units`: the least of one hidden layer whose capacity reaches the
    expected need, which foretells no adequate size.
    """

    capacity_bits: int
    expected_bits: int
    maximum_bits: int
    reaching_units: int
    hidden_units: int
    low_units: int
    high_units: int
    convention: str
    scope: str
    advice: Advice | None = None
    beyond: str = ""

    @property
    def times_the_need(self) -> float:
        """Capacity over expected need."""
        return self.capacity_bits / self.expected_bits

    def __str__(self) -> str:
        times = self.times_the_need
        size = f"{times:,.0f}" if times >= 10 else f"{times:.2g}"
        text = (
            f"this network has {size} times the capacity that the feature-sum heuristic expects of your data "
            f"({self.capacity_bits:,} of {self.expected_bits:,} bits, convention {self.convention!r}, scope "
            f"{self.scope}), which {_units(self.reaching_units)} of one hidden layer would reach; that "
            f"number promises no accuracy"
        )
        if self.advice is None:
            return text + ". No experiment says what size such data call for: train several"
        name = self.advice.predictor
        if not self.advice.beats_64:
            start = (
                "No number of the data was shown to foretell a size better than 64 units always: start there"
            )
            nearest = f"nearest came {name}: {_units(self.hidden_units)}; {self.advice}{self.beyond}"
            return f"{text}. {start} ({nearest})"
        return (
            f"{text}. A size to start from: one hidden layer of {_units(self.hidden_units)} (90 % range "
            f"{self.low_units:,} to {self.high_units:,}), by {name}: {self.advice}{self.beyond}"
        )


def _units(count: int) -> str:
    return "1 unit" if count == 1 else f"{count:,} units"


@checks.arguments(
    report=checks.instance(CapacityReport),
    need=checks.instance(Requirement),
    pilot=checks.optional(checks.instance(Pilot)),
    advice=checks.optional(checks.instance(Advice)),
)
def recommend(
    report: CapacityReport,
    need: Requirement,
    *,
    pilot: Pilot | None = None,
    advice: Advice | None = None,
) -> Recommendation:
    """Relate a measured network to what its data need, and name a size to start from with its range.

    Parameters
    ----------
    pilot: two small networks trained first (`capacity.pilot`), which foretell the size far better than any
        number of the data
    advice: what experiments say; by default those recorded with the package

    Raises InputError for data that needs no bits.
    """
    if need.expected_bits < 1:
        raise InputError("the data needs no bits: its labels never change along the feature sum")
    reaching = units_for(need.features, need.classes, need.expected_bits, convention=report.convention)
    shared = (report.capacity_bits, need.expected_bits, need.maximum_bits, reaching)
    if need.classes is None:
        return Recommendation(*shared, reaching, reaching, reaching, report.convention, report.scope)
    facts = {
        name: getattr(need, name) for name in ("rows", "features", "classes", "label_bits", "thresholds")
    }
    if pilot is not None:
        facts |= {"rows": pilot.rows, "pilot_gap": pilot.gap}
    advice = advice or recorded("data" if pilot is None else "pilot")
    units = advice.units(facts)
    return Recommendation(*shared, *units, report.convention, report.scope, advice, advice.beyond(facts))
