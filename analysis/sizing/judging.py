"""How well a number of the data foretells the smallest adequate size, each data set left out in turn.

Sizes are foretold as log2(units) = intercept + slopes · log2(1 + values), by least squares over the other
data sets. The distance of a foretold from an adequate size is counted in octaves: 1 is a factor of two.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import atanh, ceil, inf, sqrt, tanh

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, spearmanr

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """log2(units) = intercept + slopes · log2(1 + values)."""

    intercept: float
    slopes: tuple[float, ...]

    def octaves(self, values: Array) -> Array:
        """log2(units) for rows of values, (data sets, number of values)."""
        return np.asarray(self.intercept + values @ np.array(self.slopes))


@dataclass(frozen=True)
class Foretold:
    """For each data set, from the others only: log2(units), half its 90 % range in octaves, the predictor."""

    octaves: Array
    half_ranges: Array
    predictors: tuple[str, ...]


def fit_line(values: Array, octaves: Array) -> Line:
    """Least squares; values (data sets, number of values), which may be none: then the mean."""
    columns = np.column_stack([np.ones(len(octaves)), values])
    coefficients = np.linalg.lstsq(columns, octaves, rcond=None)[0]
    return Line(float(coefficients[0]), tuple(float(slope) for slope in coefficients[1:]))


def foretell(values: Array, octaves: Array) -> Array:
    """For each data set the log2(units) that a line through all others gives it.

    From the residuals of one line through all, each over 1 - leverage; a data set without which the line is
    not determined gets the others' mean.
    """
    columns = np.column_stack([np.ones(len(octaves)), values])
    leverage = np.einsum("ij,ji->i", columns, np.linalg.pinv(columns))
    residuals = octaves - fit_line(values, octaves).octaves(values)
    count = len(octaves)
    means = (octaves.sum() - octaves) / (count - 1)
    alone = leverage > 1 - 1e-9
    return np.where(alone, means, octaves - residuals / np.where(alone, 1, 1 - leverage))


def choose(tables: Mapping[str, Array], octaves: Array) -> str:
    """The predictor with the least mean distance in octaves, data sets left out one by one."""
    distances = {name: np.abs(foretell(v, octaves) - octaves).mean() for name, v in tables.items()}
    return min(distances, key=distances.__getitem__)


def foretell_by_the_best(tables: Mapping[str, Array], octaves: Array) -> Foretold:
    """The predictor that is best among the others, its line through them, and the range they call for."""
    everyone = np.arange(len(octaves))
    sizes, ranges, names = [], [], []
    for k in everyone:
        others = everyone != k
        parts = {name: values[others] for name, values in tables.items()}
        names.append(choose(parts, octaves[others]))
        values = tables[names[-1]]
        sizes.append(float(fit_line(values[others], octaves[others]).octaves(values[k])))
        ranges.append(half_range(foretell(values[others], octaves[others]) - octaves[others]))
    return Foretold(np.array(sizes), np.array(ranges), tuple(names))


def half_range(distances: Array, *, share: float = 0.9) -> float:
    """Octaves to both sides that hold this share of further data sets, from distances of those left out.

    Infinite for so few that none would do.

    Reference: Vovk, Gammerman and Shafer 2005 (conformal prediction); Barber, Candès, Ramdas and Tibshirani
    2021, "Predictive inference with the jackknife+".

    >>> half_range(np.arange(1.0, 20.0))
    18.0
    """
    place = ceil((len(distances) + 1) * share - 1e-9)
    return float(np.sort(np.abs(distances))[place - 1]) if place <= len(distances) else inf


def rank_correlation(a: Array, b: Array, *, confidence: float = 0.95) -> tuple[float, float, float]:
    """Spearman's rho and its interval; NaN where one of the two is constant.

    Reference: Bonett and Wright 2000, "Sample size requirements for estimating Pearson, Kendall and
    Spearman correlations", Psychometrika 65.
    """
    if np.ptp(a) == 0 or np.ptp(b) == 0 or len(a) < 4:
        return (float("nan"),) * 3
    correlation = float(spearmanr(a, b).statistic)
    if abs(correlation) >= 1:
        return correlation, correlation, correlation
    half = float(norm.ppf((1 + confidence) / 2)) * sqrt((1 + correlation**2 / 2) / (len(a) - 3))
    return correlation, tanh(atanh(correlation) - half), tanh(atanh(correlation) + half)
