"""When to stop squeezing: at the knee of the curve, past the peak of what is learned, or at a real loss.

Each rule is a callable for `squeeze(..., stop=...)`, and its `keep` says which of the finished steps is the
one to use.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log2
from typing import Any

import numpy as np
from torch import Tensor

from capacity import checks
from capacity._generalization import left_bits
from capacity.errors import InputError, unknown
from compression._moved import keep_old_names
from compression.epochs import require_batches
from compression.evaluation import mcnemar, predictions
from compression.squeezing import Metrics, Step


def knee(capacities: Sequence[float], errors: Sequence[float]) -> int:
    """Index of the point of a curve farthest below the straight line from its first to its last point.

    The curve is that of the error against the logarithm of the capacity, each scaled to [0, 1]; with
    fewer than three points, or no point below the line, it is the last index.

    Reference: Satopaa et al. 2011, "Finding a 'Kneedle' in a Haystack", section III.

    >>> knee([1000, 500, 250, 125, 62], [0.02, 0.02, 0.02, 0.03, 0.3])
    3
    """
    if len(capacities) != len(errors) or min(capacities, default=1) <= 0:
        raise InputError(
            f"a knee needs as many errors as capacities, all positive: found {len(errors)} errors "
            f"and capacities {list(capacities)}"
        )
    x, y = np.log(np.asarray(capacities, float)), np.asarray(errors, float)
    last = len(x) - 1
    if last < 2 or x[0] == x[-1] or y[-1] <= y[0]:
        return last
    way, rise = (x - x[0]) / (x[-1] - x[0]), (y - y[0]) / (y[-1] - y[0])
    place = int(np.argmax(way - rise))
    return place if way[place] - rise[place] > 1e-12 else last


@dataclass(frozen=True)
class Knee:
    """Stop once the error lies `rise` above that at the knee of the error/capacity curve.

    rise: as a fraction; 0.01 is a point of top-1 error
    """

    rise: float = 0.01
    error: str = "top1_error"
    capacity: str = "capacity_bits"

    def __post_init__(self) -> None:
        text = checks.instance(str)
        checks.fields(self, {"rise": checks.number, "error": text, "capacity": text})

    def keep(self, metrics: Sequence[Metrics]) -> int:
        """Index of the step at the knee."""
        return knee(_column(metrics, self.capacity), _column(metrics, self.error))

    def __call__(self, first: Step, latest: Step, metrics: Sequence[Metrics]) -> bool:
        errors, place = _column(metrics, self.error), self.keep(metrics)
        return place < len(errors) - 1 and errors[-1] > errors[place] + self.rise


@dataclass(frozen=True)
class Peak:
    """Stop when a metric has not risen for `patience` steps.

    By default the share of the labels' bits that is learned, the network's capacity paid: unlike rho = N/C,
    which rises without end as the network vanishes, it is no more than 0 for one that guesses. Where the
    metrics do not hold it, it is computed from their correct, total, classes and capacity_bits (and
    label_bits, by default those of equally frequent classes).
    """

    metric: str = "learned_share"
    patience: int = 1

    def __post_init__(self) -> None:
        checks.fields(self, {"metric": checks.instance(str), "patience": checks.count})

    def keep(self, metrics: Sequence[Metrics]) -> int:
        """Index of the step with the highest value."""
        return int(np.argmax(self._values(metrics)))

    def __call__(self, first: Step, latest: Step, metrics: Sequence[Metrics]) -> bool:
        if self.patience < 1:
            raise InputError(f"patience must be at least 1, found {self.patience}")
        return len(metrics) - 1 - self.keep(metrics) >= self.patience

    def _values(self, metrics: Sequence[Metrics]) -> list[float]:
        if self.metric != "learned_share" or all(self.metric in entry for entry in metrics):
            return _column(metrics, self.metric)
        names = ("correct", "total", "classes", "capacity_bits")
        correct, total, classes, bits = (_column(metrics, name) for name in names)
        label_bits = [
            float(entry.get("label_bits") or log2(max(count, 2)))
            for entry, count in zip(metrics, classes, strict=True)
        ]
        return [
            1 - (n * left_bits(1 - right / n, int(k), h) + c) / (n * h)
            for right, n, k, c, h in zip(correct, total, classes, bits, label_bits, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class McNemarStop:
    """Stop when McNemar's test says that the latest step gets more points wrong than step 0 did.

    data: batches as for `evaluate`, not shuffled; both models predict all of them. Use validation data:
        a test split that decides when to stop is no longer independent.
    alpha: level of the two-sided exact test, for all looks together: of so many `looks` each has its part
        (Bonferroni); where their number is not known the k-th has alpha / (k (k + 1))
    """

    data: Iterable[tuple[Tensor, Tensor]]
    alpha: float = 0.05
    looks: int | None = None

    def __post_init__(self) -> None:
        require_batches("data", self.data)
        checks.fields(self, {"alpha": checks.number, "looks": checks.optional(checks.integer)})

    def keep(self, metrics: Sequence[Metrics]) -> int:
        """Index of the last step before the one that was stopped at."""
        return max(0, len(metrics) - 2)

    def __call__(self, first: Step, latest: Step, metrics: Sequence[Metrics]) -> bool:
        if not 0 < self.alpha < 1 or (self.looks is not None and self.looks < 1):
            raise InputError(f"alpha must lie in (0, 1) and looks be at least 1: {self.alpha}, {self.looks}")
        if latest.index == first.index:
            return False
        before, targets = predictions(first.model, self.data)
        after, again = predictions(latest.model, self.data)
        if not bool((targets == again).all()):
            raise InputError(
                "McNemarStop compares the same points in the same order: its data must not be shuffled"
            )
        test = mcnemar(before == targets, after == targets)
        return test.lost > test.gained and test.p_value < self.level(latest.index - first.index)

    def level(self, look: int) -> float:
        """That of the test at this look, from 1 on.

        >>> McNemarStop([]).level(1), McNemarStop([], looks=5).level(3)
        (0.025, 0.01)
        """
        return self.alpha / (look * (look + 1) if self.looks is None else self.looks)


def _column(metrics: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    for entry in metrics:
        if name not in entry:
            raise unknown("metric", name, entry)
        if not isinstance(entry[name], int | float) or not math.isfinite(entry[name]):
            raise InputError(
                f"metric {name!r} is {entry[name]!r}, so no rule can stop by it: it must be a finite number"
            )
    return [float(entry[name]) for entry in metrics]


keep_old_names(__name__)
