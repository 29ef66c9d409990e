"""Memorization against Cover's exact counts, and a control that separates optimiser from capacity."""

from itertools import product
from math import comb

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from capacity import InputError, Memorization, MemorizationPoint, cover_fraction, memorization, separable


@given(st.integers(1, 40), st.integers(1, 12))
def test_cover_s_recursion(points: int, weights: int) -> None:
    """C(N + 1, K) = C(N, K) + C(N, K - 1), from which Cover derives the sum."""

    def count(n: int, k: int) -> float:
        return cover_fraction(n, k) * 2**n if k else 0.0

    assert count(points + 1, weights) == pytest.approx(count(points, weights) + count(points, weights - 1))
    assert cover_fraction(2 * weights, weights) == 0.5 and cover_fraction(weights, weights) == 1.0


@pytest.mark.parametrize(("points", "weights"), [(3, 2), (5, 3), (6, 4), (7, 2), (8, 3)])
def test_every_labeling_counted_one_by_one(points: int, weights: int) -> None:
    x = np.random.default_rng(points).normal(size=(points, weights))
    found = sum(separable(x, np.array(signs)) for signs in product([-1.0, 1.0], repeat=points))
    assert found == 2 * sum(comb(points - 1, k) for k in range(weights))


def test_separable_by_hand() -> None:
    x = np.array([[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]])
    assert separable(x, np.array([-1, -1, -1, 1])) and not separable(x, np.array([-1, 1, 1, -1]))


def test_a_perceptron_follows_cover() -> None:
    done = memorization(lambda: nn.Linear(3, 1, bias=False), 3, [2, 3, 6, 9], trials=150, restarts=0, seed=1)
    assert done.capacity_bits == 3 and done.lm_point == 3
    for point in done.curve:
        assert point.possible_share == point.cover and point.decided_trials == 2**point.points
        assert point.interval == (point.cover, point.cover)
    middle, low, high = done.mk_point()
    assert low <= 6 <= high and low <= middle <= high
    assert list(done.to_frame()["points"]) == [2, 3, 6, 9] and r"\toprule" in done.to_latex()
    assert "LM point 3 (1.00 C)" in str(done) and "Cover" in str(done)


def test_more_points_are_sampled() -> None:
    done = memorization(lambda: nn.Linear(6, 1), 6, [13], trials=60, restarts=0)
    point = done.curve[0]
    low, high = point.interval
    assert point.decided_trials == 60 and low <= cover_fraction(13, 7) <= high
    assert point.memorized <= point.possible  # training finds no more than there is


def test_the_control_tells_optimiser_from_capacity() -> None:
    def deaf() -> nn.Module:
        """A network whose every training fails: its gradient is cut."""

        class Deaf(nn.Linear):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return torch.sign(super().forward(x))

        return nn.Sequential(Deaf(2, 1))

    done = memorization(deaf, 2, [2], trials=20, restarts=0)
    assert done.curve[0].planted < 20 and done.optimizer_failed == (2,)
    assert "the optimiser, not the capacity, failed" in str(done)


def test_restarts_find_what_one_start_misses() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1))

    one = memorization(build, 2, [7], trials=16, restarts=0)
    many = memorization(build, 2, [7], trials=16, restarts=2)
    assert one.curve[0].memorized == one.curve[0].restarted == many.curve[0].memorized
    assert many.curve[0].restarted > one.curve[0].restarted
    assert memorization(build, 2, [7], trials=16, restarts=0) == one


def test_crossing_one_half() -> None:
    curve = tuple(
        MemorizationPoint(n, 100, m, m, None, 0, 100, None) for n, m in ((2, 100), (4, 75), (6, 25))
    )
    done = Memorization("net", 3, 3, curve)
    assert done.mk_point()[0] == 5.0 and done.lm_point == 2 and done.lm_interval == (2, 4)
    assert np.isnan(Memorization("net", 3, 3, curve[:2]).mk_point()[0])


@pytest.mark.parametrize(
    ("build", "points", "message"),
    [
        (lambda: nn.Linear(2, 1), [0], "at least 1"),
        (lambda: nn.Linear(2, 2), [3], "one output"),
        (lambda: nn.LSTM(2, 1), [3], "one output for each sample: .* found tuple"),
    ],
)
def test_bad_input(build, points: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        memorization(build, 2, points, trials=1)
    with pytest.raises(InputError, match="at least 1"):
        cover_fraction(0, 1)


@pytest.mark.parametrize(
    ("inputs", "signs", "message"),
    [
        ([[0.0, np.nan], [1, 2]], [1, -1], "inputs must be finite"),
        ([[0.0, 1.0], [1, 2]], [0, 1], "signs must be -1 and 1, found"),
        ([["a", "b"], ["c", "d"]], [1, -1], "inputs must be numbers"),
    ],
)
def test_what_no_plane_can_separate_is_refused(inputs: list, signs: list, message: str) -> None:
    with pytest.raises(InputError, match=message):
        separable(np.array(inputs), np.array(signs))


def test_cover_s_formula_of_many_points() -> None:
    assert cover_fraction(1_000_000, 500_000) == pytest.approx(0.5, rel=1e-9)
    assert cover_fraction(1_000_000, 2_000_000) == 1
    for weights in (1_950, 2_048, 2_100):
        assert cover_fraction(4_097, weights) == pytest.approx(
            2 * sum(comb(4_096, k) for k in range(weights)) / 2**4_097, rel=1e-9
        )
