"""A size to start from: what the recorded experiments say, in words and numbers, and two networks first."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from capacity import InputError, Pilot, dense_capacity, measure, pilot, recommend, requirement
from capacity.recommendation import recorded, units_for

CORNERS = [[0, 0], [0, 1], [1, 0], [1, 1]]


def network(features: int, units: int) -> nn.Module:
    return nn.Sequential(nn.Linear(features, units), nn.ReLU(), nn.Linear(units, 1))


@given(st.integers(1, 100), st.integers(2, 20), st.integers(1, 5000))
def test_the_units_that_reach_so_many_bits_are_the_fewest(features: int, classes: int, bits: int) -> None:
    units, outputs = units_for(features, classes, bits), classes if classes > 2 else 1
    assert dense_capacity(features, [units, outputs]) >= bits
    assert units == 1 or dense_capacity(features, [units - 1, outputs]) < bits


@given(st.floats(0, 1), st.integers(90, 1000))
def test_what_is_advised_follows_the_recorded_line(gap: float, rows: int) -> None:
    advice = recorded("pilot")
    units, low, high = advice.units({"rows": rows, "pilot_gap": gap})
    exact = 2 ** (advice.intercept + advice.slope * np.log2(1 + rows * gap))
    assert units == round(min(max(exact, 1), 256)) and 1 <= low <= units <= high <= 256
    assert advice.units({"rows": rows, "pilot_gap": gap + 0.1})[0] >= units  # a larger gain, a larger size


def test_two_small_networks_tell_what_is_linear_from_what_is_not() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (200, 2))
    easy, hard = pilot(x, x.sum(1) > 0), pilot(x, np.sin(7 * x[:, 0]) > x[:, 1])
    assert easy.gap < 0.03 < hard.gap and easy.rows == 120 and hard.large_error < hard.small_error
    assert Pilot(10, 0.1, 0.2).gap == 0


def test_in_words() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 2))
    need = requirement(x, x.sum(1) > 0.3 * rng.normal(size=400))
    text = str(recommend(measure(network(2, 50), (2,)), need))
    assert "times the capacity that the feature-sum heuristic expects" in text and "would do" not in text
    assert "start there" in text and "not shown to be nearer than 64 units always" in text
    found = recommend(measure(network(2, 50), (2,)), need, pilot=Pilot(240, 0.3, 0.1))
    assert found.low_units < found.hidden_units < found.high_units and not found.beyond
    for part in (
        "A size to start from",
        "90 % range",
        "the range held 34 of 37",
        "a factor of 2.4 on average",
    ):
        assert part in str(found)
    assert found.times_the_need == found.capacity_bits / need.expected_bits
    wide = replace(need, features=900)
    assert "beyond what was tried: 900 features" in str(
        recommend(measure(network(2, 5), (2,)), wide, pilot=Pilot(240, 0.3, 0.1))
    )


def test_what_no_experiment_covers() -> None:
    x = np.arange(30.0)[:, None]
    report = measure(network(1, 3), (1,))
    assert "No experiment says" in str(recommend(report, requirement(x, np.arange(30) / 30, tolerance=0.1)))
    with pytest.raises(InputError, match="needs no bits"):
        recommend(report, requirement([[1], [2]], [1.0, 1.0], tolerance=1.0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (partial(pilot, CORNERS, [0, 1, 1, 0]), "at least 25 rows"),
        (partial(pilot, np.zeros((30, 2)), np.zeros(30)), "nothing to learn"),
        (partial(pilot, np.zeros((30, 2)), np.zeros(20)), "a label for each row"),
    ],
)
def test_bad_input(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


ROWS = np.random.default_rng(5).normal(size=(60, 3))


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (ROWS, np.zeros(60), r"all labels are 0\.0: there is nothing to learn"),
        (ROWS, np.arange(60), "60 classes are more than the 36 rows that a pilot trains on"),
        (np.ones((60, 3)), np.arange(60) % 2, "all rows are the same"),
        (ROWS, ROWS[:, 0], "fractions such as"),
        (ROWS, np.where(np.arange(60) == 3, np.nan, 1.0), "is NaN"),
        (ROWS, np.array([None, *["a"] * 59], dtype=object), "found NoneType, str"),
        (ROWS, np.eye(3)[np.arange(60) % 3], "labels of shape"),
    ],
)
def test_labels_and_rows_that_no_pilot_can_use(features, labels, message: str) -> None:
    with pytest.raises(InputError, match=message):
        pilot(features, labels)
