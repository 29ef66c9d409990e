"""How well a measure follows generalization: by rank, and beyond what the settings tell.

Rank correlation can come from a setting that moves both: more epochs raise the norms and the gap alike. The
second score asks what the measure says of a pair of networks beyond any two of their settings.

Reference: Kendall 1945 (tau-b, with ties); Jiang et al. 2020, section 2.2.3, equations 7 to 11.
"""

from collections.abc import Sequence
from functools import cache
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

Numbers = NDArray[np.float64]


def kendall(measure: Numbers, error: Numbers) -> float:
    """Kendall's tau-b; 0 where one of the two is the same everywhere.

    >>> kendall(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])) > 0
    True
    """
    from scipy.stats import kendalltau

    tau = float(kendalltau(measure, error).statistic)
    return 0.0 if np.isnan(tau) else tau


class Pairs:
    """All ordered pairs of networks, grouped by both networks' values of at most two factors at a time.

    Parameters
    ----------
    frame: a row for each network
    factors: names of its columns of settings
    """

    def __init__(self, frame: "pd.DataFrame", factors: Sequence[str]) -> None:
        codes = {name: _pair_codes(frame[name].to_numpy()) for name in factors}
        sets = [(), *combinations(factors, 1), *combinations(factors, 2)]
        self._groups = [_groups(len(frame), [codes[name] for name in chosen]) for chosen in sets]

    def score(self, measure: Numbers, error: Numbers) -> float:
        """Least share, over the sets of factors, of the order of errors that the measure's order tells.

        V is the sign of a difference in a pair. The score is the least I(V_measure; V_error | U) /
        H(V_error | U), U being both networks' values of the factors in a set: 0 where some two settings
        already tell all that the measure does, 1 where the measure settles every pair.
        """
        by_measure, by_error = _signs(measure), _signs(error)
        return min(_share(by_measure, by_error, groups) for groups in self._groups)


def conditional_score(frame: "pd.DataFrame", measure: str, error: str, factors: Sequence[str]) -> float:
    """The score of one column of measures for one of errors: see `Pairs.score`."""
    return Pairs(frame, factors).score(*(frame[name].to_numpy(dtype=float) for name in (measure, error)))


def _signs(values: Numbers) -> NDArray[np.int64]:
    """Signs of the differences of all ordered pairs, 0 to 2."""
    first, second = _pairs(len(values))
    return np.sign(values[first] - values[second]).astype(np.int64) + 1


def _pair_codes(values: NDArray[np.generic]) -> NDArray[np.int64]:
    """A number for both values of each ordered pair."""
    names, codes = np.unique(values, return_inverse=True)
    first, second = _pairs(len(values))
    return np.asarray(codes[first] * len(names) + codes[second], dtype=np.int64)


@cache
def _pairs(count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    first, second = np.nonzero(~np.eye(count, dtype=bool))
    return first, second


def _groups(networks: int, given: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """A number for each ordered pair, the same where all given codes are."""
    groups = np.zeros(networks * (networks - 1), dtype=np.int64)
    for codes in given:
        groups = np.unique(groups * (codes.max() + 1) + codes, return_inverse=True)[1].reshape(-1)
    return groups


def _share(measure: NDArray[np.int64], error: NDArray[np.int64], groups: NDArray[np.int64]) -> float:
    """I(measure; error | group) / H(error | group); 0 where nothing is left to tell."""
    counts = np.bincount((groups * 3 + measure) * 3 + error, minlength=9 * (groups.max() + 1))
    joint = counts.reshape(-1, 3, 3) / len(measure)
    given, of_error = _entropy(joint.sum((1, 2))), _entropy(joint.sum(1))
    left = of_error - given
    shared = of_error + _entropy(joint.sum(2)) - _entropy(joint) - given
    return max(shared / left, 0.0) if left > 1e-12 else 0.0


def _entropy(shares: Numbers) -> float:
    positive = shares[shares > 0]
    return float(-(positive * np.log2(positive)).sum())
