"""Can two techniques be told apart? Paired by seed and by test point: bootstrap, McNemar's test, ranks.

Two techniques start from the same baseline and answer the same test points. Both seeds and points are a
sample, so both are resampled, in pairs: what remains is the uncertainty about another training and another
test set together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
import torch

from capacity.errors import InputError
from compression.evaluation import mcnemar

RESAMPLES = 2_000


@dataclass(frozen=True)
class Pair:
    """Two techniques: difference of top-1 errors (first - second, as fractions) and its 95 % interval.

    `p_values` are those of McNemar's exact test, one a seed. They are told apart if the interval does not
    contain zero.
    """

    first: str
    second: str
    difference: float
    interval: tuple[float, float]
    p_values: tuple[float, ...]

    @property
    def significant(self) -> bool:
        low, high = self.interval
        return low > 0 or high < 0

    def __str__(self) -> str:
        low, high = self.interval
        verdict = "differ" if self.significant else "cannot be told apart"
        tests = ", ".join(f"{p:.2g}" for p in self.p_values)
        return (
            f"{self.first} and {self.second} {verdict}: {100 * self.difference:+.2f} points of error, "
            f"95 % [{100 * low:+.2f}, {100 * high:+.2f}], McNemar p by seed {tests}"
        )


@dataclass(frozen=True)
class Ranking:
    """Techniques from least to most error, each with the 95 % interval of its rank (1 is best)."""

    names: tuple[str, ...]
    ranks: Mapping[str, tuple[int, int]]
    pairs: tuple[Pair, ...]

    def pair(self, first: str, second: str) -> Pair:
        """The comparison of these two, in this order."""
        for pair in self.pairs:
            if (pair.first, pair.second) == (first, second):
                return pair
            if (pair.first, pair.second) == (second, first):
                low, high = pair.interval
                return Pair(first, second, -pair.difference, (-high, -low), pair.p_values)
        raise InputError(f"no pair of {first!r} and {second!r}")

    def doubts(self) -> list[Pair]:
        """Neighbours in the ranking that cannot be told apart."""
        found = [self.pair(better, worse) for better, worse in pairwise(self.names)]
        return [pair for pair in found if not pair.significant]


def rank(right: Mapping[str, np.ndarray], *, seed: int = 0) -> Ranking:
    """Compare techniques by which test points each classified correctly.

    Parameters
    ----------
    right: technique -> (seeds, points) booleans, seeds and points in the same order for all
    seed: of the resampling, which draws seeds and points with replacement

    Raises InputError for fewer than two techniques, and shapes that differ.

    >>> ranking = rank({"worse": np.zeros((2, 50), bool), "better": np.ones((2, 50), bool)})
    >>> ranking.names, ranking.pair("worse", "better").interval
    (('better', 'worse'), (1.0, 1.0))
    """
    shapes = {name: np.shape(values) for name, values in right.items()}
    if len(shapes) < 2 or len(set(shapes.values())) != 1:
        raise InputError(f"ranking needs two techniques or more on the same seeds and points, found {shapes}")
    names = list(right)
    errors = 1 - np.array([right[name].mean() for name in names])
    samples = _resampled(np.stack([right[name] for name in names]), np.random.default_rng(seed))
    pairs = tuple(
        _pair(names[i], names[j], right, errors[i] - errors[j], samples[:, i] - samples[:, j])
        for i, j in combinations(range(len(names)), 2)
    )
    places = samples.argsort(axis=1, kind="stable").argsort(axis=1) + 1
    low, high = np.quantile(places, [0.025, 0.975], axis=0, method="nearest")
    ranks = {name: (int(low[k]), int(high[k])) for k, name in enumerate(names)}
    order = np.argsort(errors, kind="stable")
    return Ranking(tuple(names[k] for k in order), ranks, pairs)


def _resampled(right: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """(resamples, techniques) errors of (techniques, seeds, points), seeds and points drawn anew."""
    _, seeds, points = right.shape
    errors = np.empty((RESAMPLES, len(right)))
    flat = right.astype(np.float32)
    for row in range(RESAMPLES):
        weights = np.bincount(generator.integers(points, size=points), minlength=points).astype(np.float32)
        chosen = generator.integers(seeds, size=seeds)
        errors[row] = 1 - (flat @ weights)[:, chosen].mean(axis=1) / points
    return errors


def _pair(
    first: str, second: str, right: Mapping[str, np.ndarray], difference: float, samples: np.ndarray
) -> Pair:
    low, high = np.quantile(samples, [0.025, 0.975])
    both: Sequence[tuple[np.ndarray, np.ndarray]] = list(zip(right[first], right[second], strict=True))
    tests = tuple(mcnemar(torch.from_numpy(a), torch.from_numpy(b)).p_value for a, b in both)
    return Pair(first, second, float(difference), (float(low), float(high)), tests)
