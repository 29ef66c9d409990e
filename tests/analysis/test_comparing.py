"""Paired statistics: what differs, what cannot be told apart, ranks; against scipy and by construction."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap

from analysis.lab.measurement.deployment import packed, unpacked
from analysis.lab.measurement.ranking import rank
from capacity import InputError


def answers(error: float, seeds: int = 3, points: int = 400, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((seeds, points)) >= error


def test_a_clear_difference_is_told_apart_and_ranked() -> None:
    right = {"bad": answers(0.4), "good": answers(0.05, seed=1), "middle": answers(0.2, seed=2)}
    found = rank(right)
    assert found.names == ("good", "middle", "bad")
    assert found.ranks == {"good": (1, 1), "middle": (2, 2), "bad": (3, 3)} and not found.doubts()
    pair = found.pair("bad", "good")
    assert pair.difference == pytest.approx(right["good"].mean() - right["bad"].mean())
    assert pair.significant and max(pair.p_values) < 1e-6 and "differ" in str(pair)
    turned = found.pair("good", "bad")
    assert turned.interval == (-pair.interval[1], -pair.interval[0])


def test_the_same_error_cannot_be_told_apart() -> None:
    found = rank({"one": answers(0.1), "two": answers(0.1, seed=7)})
    assert found.ranks == {"one": (1, 2), "two": (1, 2)}
    assert [str(pair).split(":")[0] for pair in found.doubts()] == [
        f"{found.names[0]} and {found.names[1]} cannot be told apart"
    ]


def test_one_seed_gives_the_interval_that_scipy_bootstraps_over_points() -> None:
    one, two = answers(0.3, seeds=1), answers(0.2, seeds=1, seed=3)
    low, high = rank({"one": one, "two": two}).pairs[0].interval
    gaps = two[0].astype(float) - one[0]
    theirs = bootstrap((gaps,), np.mean, method="percentile", n_resamples=4000, random_state=0)
    assert low == pytest.approx(theirs.confidence_interval.low, abs=0.01)
    assert high == pytest.approx(theirs.confidence_interval.high, abs=0.01)


def test_seeds_that_disagree_widen_the_interval() -> None:
    points = 4000
    steady = np.stack([answers(0.1, 1, points, seed=s)[0] for s in range(4)])
    moody = np.stack([answers(e, 1, points, seed=9)[0] for e in (0.02, 0.18, 0.05, 0.15)])
    base = np.ones((4, points), bool)
    width = {}
    for name, values in (("steady", steady), ("moody", moody)):
        low, high = rank({"base": base, name: values}).pairs[0].interval
        width[name] = high - low
    assert width["moody"] > 3 * width["steady"]


@given(st.lists(st.booleans(), min_size=1, max_size=70))
def test_packed_answers_come_back(bits: list[bool]) -> None:
    import torch

    assert unpacked(packed(torch.tensor(bits)), len(bits)).tolist() == bits


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000))
def test_the_same_seed_gives_the_same_interval(seed: int) -> None:
    right = {"one": answers(0.3, points=50), "two": answers(0.2, points=50, seed=3)}
    assert rank(right, seed=seed).pairs == rank(right, seed=seed).pairs


def test_bad_input() -> None:
    with pytest.raises(InputError, match="two techniques or more"):
        rank({"one": answers(0.1)})
    with pytest.raises(InputError, match="same seeds and points"):
        rank({"one": answers(0.1), "two": answers(0.1, points=3)})
