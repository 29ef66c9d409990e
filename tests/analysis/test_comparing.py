"""Paired statistics: what differs, what cannot be told apart, ranks; against scipy and by construction."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import bootstrap, ttest_rel

from analysis.lab.measurement.deployment import packed, unpacked
from analysis.lab.measurement.ranking import holm, paired_test, rank
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


def simulated(
    generator: np.random.Generator, seeds: int, spread: float, gap: float = 0, *, points: int = 200,
    own: float = 0.7, easy: float = 2.5,
) -> np.ndarray:  # fmt: skip
    """(techniques, seeds, points) mistakes of two techniques; their logits differ by seed, point and gap."""
    logits = generator.normal(-easy, 2, points) + generator.normal(0, spread, (2, seeds, 1))
    logits = logits + generator.normal(0, own, (2, 1, points))
    logits[0] += gap
    return generator.random(logits.shape) < expit(logits)


def told_apart(count: int, seeds: int, spread: float, gap: float = 0) -> float:
    """Share of simulations whose two techniques are told apart; without a gap they have the same error."""
    generator = np.random.default_rng(seeds)
    pairs = (simulated(generator, seeds, spread, gap).astype(float) for _ in range(count))
    return float(np.mean([paired_test(one - two).p_value < 0.05 for one, two in pairs]))


@pytest.mark.parametrize(("seeds", "spread"), [(1, 0.0), (2, 1.0), (3, 0.3), (5, 0.6)])
def test_equal_techniques_are_told_apart_in_five_of_a_hundred_at_most(seeds: int, spread: float) -> None:
    assert told_apart(2000, seeds, spread) <= 0.06


@pytest.mark.parametrize("spread", [1.0, 1.5])
def test_nor_where_seeds_and_points_vary_as_much(spread: float) -> None:
    """Half of the mistakes, few points: where degrees of freedom by Satterthwaite give too many."""
    generator = np.random.default_rng(1)
    found = []
    for _ in range(2000):
        one, two = simulated(generator, 5, spread, points=60, own=1.5, easy=0).astype(float)
        found.append(paired_test(one - two).p_value < 0.05)
    assert np.mean(found) <= 0.06


def test_degrees_of_freedom_lie_between_those_of_seeds_and_of_points() -> None:
    generator = np.random.default_rng(2)
    for seeds, points in ((2, 30), (5, 60), (10, 8)):
        one, two = simulated(generator, seeds, 0.5, points=points).astype(float)
        degrees = [found for _, found in paired_test(one - two).errors]
        assert min(seeds, points) - 1 <= degrees[0] <= max(seeds, points) - 1 and degrees[1] == seeds - 1
    assert paired_test(np.ones((2, 1))).p_value < 1e-9 and paired_test(np.ones((1, 2))).p_value < 1e-9


def test_a_gap_of_eleven_points_takes_five_seeds_to_be_found_mostly() -> None:
    """On 200 test points, with seeds that move errors by two points."""
    generator = np.random.default_rng(0)
    wrong = np.mean([simulated(generator, 3, 0.3, 1.0).mean((1, 2)) for _ in range(300)], axis=0)
    assert wrong[0] - wrong[1] == pytest.approx(0.11, abs=0.01)
    shares = [told_apart(300, seeds, 0.3, 1.0) for seeds in (3, 5, 10)]
    assert 0.3 < shares[0] < 0.5 and shares[1] > 0.8 and shares[2] > 0.98


def test_among_four_equal_techniques_no_pair_is_told_apart_but_in_six_of_a_hundred() -> None:
    generator = np.random.default_rng(7)
    wrong = 0
    for _ in range(300):
        sets = np.concatenate([simulated(generator, 3, 0.6) for _ in range(2)])[:, :, :60]
        pairs = combinations(sets.astype(float), 2)
        wrong += min(holm([paired_test(one - two).p_value for one, two in pairs])) < 0.05
    assert wrong / 300 <= 0.06


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_multiplies_the_least_and_keeps_the_order(p_values: list[float]) -> None:
    found = holm(p_values)
    assert min(found) == min(1.0, len(p_values) * min(p_values))
    assert all(p <= q <= 1 for p, q in zip(p_values, found, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert np.all(np.diff(np.array(found)[order]) >= 0)


@given(st.integers(2, 6), st.integers(0, 100))
def test_where_only_seeds_vary_it_is_the_paired_t_test(seeds: int, seed: int) -> None:
    one, two = np.random.default_rng(seed).normal(size=(2, seeds))
    found = paired_test(np.repeat((one - two)[:, None], 30, axis=1))
    theirs = ttest_rel(one, two)
    assert found.p_value == pytest.approx(theirs.pvalue)
    low, high = theirs.confidence_interval(0.95)
    assert found.interval == pytest.approx((max(low, -1), min(high, 1)))


def test_equal_predictions_share_a_rank_and_one_answer_tells_nothing() -> None:
    same = answers(0.2)
    found = rank({"one": same, "worse": answers(0.6, seed=3), "two": same.copy()})
    assert found.ranks == {"one": (1, 2), "two": (1, 2), "worse": (3, 3)}
    assert found.pair("one", "two").p_value == 1
    single = rank({"a": np.array([[True]]), "b": np.array([[False]])}).pairs[0]
    assert single.p_value == 1 and single.interval == (-1, 1)


def test_bad_input() -> None:
    with pytest.raises(InputError, match="two techniques or more"):
        rank({"one": answers(0.1)})
    with pytest.raises(InputError, match="same seeds and points"):
        rank({"one": answers(0.1), "two": answers(0.1, points=3)})
