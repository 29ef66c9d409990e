"""What data needs: goldens, brute force over orders of ties, k classes, regression, bad input."""

from itertools import pairwise, permutations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from capacity import InputError, dense_capacity, measure, recommend, requirement

CORNERS = [[0, 0], [0, 1], [1, 0], [1, 1]]


@pytest.mark.parametrize(
    ("labels", "maximum", "expected"), [([0, 0, 0, 1], 4, 2), ([0, 1, 1, 0], 8, 4), ([0, 1, 1, 1], 4, 2)]
)
def test_and_xor_or(labels: list[int], maximum: int, expected: int) -> None:
    need = requirement(CORNERS, labels)
    assert (need.maximum_bits, need.expected_bits) == (maximum, expected)


@pytest.mark.parametrize("classes", [2, 3, 10, 100])
def test_blocks_of_classes_along_the_sum(classes: int) -> None:
    features = np.arange(4 * classes)[:, None] * [1, 1, 1]
    need = requirement(features, np.arange(4 * classes) // 4)
    assert need.thresholds == classes - 1 and need.classes == classes
    assert need.maximum_bits == (classes - 1) * 4 + classes - 1
    assert need.expected_bits == int(np.ceil(np.log2(classes))) * 3
    striped = requirement(features, np.arange(4 * classes) % classes)
    assert striped.thresholds == 4 * classes - 1


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=7))
@settings(max_examples=60, deadline=None)
def test_ties_stand_in_the_order_with_the_fewest_changes(rows: list[tuple[int, int]]) -> None:
    sums, labels = [s for s, _ in rows], [c for _, c in rows]
    if len(set(labels)) < 2:
        return
    groups = [[c for s, c in rows if s == value] for value in sorted(set(sums))]
    orders = product(*(set(permutations(group)) for group in groups))
    lines = ([c for part in order for c in part] for order in orders)
    fewest = min(sum(a != b for a, b in pairwise(line)) for line in lines)
    assert requirement([[s] for s in sums], labels).thresholds == fewest


@given(st.integers(0, 9))
def test_neither_the_order_of_rows_nor_the_names_of_classes_matter(seed: int) -> None:
    generator = np.random.default_rng(seed)
    features, labels = generator.integers(0, 4, (30, 3)), generator.integers(0, 5, 30)
    order, names = generator.permutation(30), generator.permutation(100)[:5]
    assert (
        requirement(features, labels).thresholds
        == requirement(features[order], names[labels][order]).thresholds
    )


def test_many_classes_and_words_as_labels() -> None:
    labels = np.arange(200) % 100
    assert requirement(np.arange(200)[:, None], labels).thresholds == 199
    assert requirement(CORNERS, np.array(["no", "no", "no", "yes"])).expected_bits == 2


def test_regression_within_a_tolerance() -> None:
    features, targets = np.arange(10)[:, None], np.arange(10) / 10
    assert requirement(features, targets, tolerance=0.0).thresholds == 9
    assert requirement(features, targets, tolerance=0.1 + 1e-9).thresholds == 3  # three targets to a segment
    need = requirement(features, targets, tolerance=1.0)
    assert need.thresholds == 0 and need.classes is None and need.expected_bits == 0


def test_a_need_that_levels_off_and_one_that_grows() -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(2000, 5))
    simple = requirement(features, features.sum(1) > 0)
    noise = requirement(features, generator.integers(0, 2, 2000))
    assert simple.thresholds == 1 and simple.levels_off and simple.growth < 0.1
    assert not noise.levels_off and noise.growth > 0.9
    assert [part.rows for part in noise.progression] == [100, 200, 400, 800, 1600, 2000]
    assert requirement(features, features.sum(1) > 0, seed=0) == simple
    assert "levels off" in str(simple) and "only be memorized" in str(noise)


def test_pictures_are_flattened_and_bytes_do_not_overflow() -> None:
    pictures = torch.full((4, 1, 30, 30), 255, dtype=torch.uint8)
    pictures[2:] = 254
    need = requirement(pictures, torch.tensor([0, 0, 1, 1]))
    assert need.features == 900 and need.thresholds == 1


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (CORNERS, [0, 1], r"shapes \(4, 2\) and \(2,\)"),
        (CORNERS, [1, 1, 1, 1], "data of one class"),
        ([[1.0]], [1], "at least 2 rows"),
        ([[1.0], [np.nan]], [0, 1], "row 1 holds NaN"),
        ([[1.0], [2.0]], [0.0, np.nan], "label 1 is NaN"),
        ([["a"], ["b"]], [0, 1], "features must be numbers"),
        (CORNERS, np.eye(4), r"labels.argmax\(1\)"),
        (CORNERS, np.array([0, None, 1, 1], dtype=object), "found NoneType, int"),
    ],
)
def test_bad_input(features, labels, message: str) -> None:
    with pytest.raises(InputError, match=message):
        requirement(features, labels)
    with pytest.raises(InputError, match="tolerance"):
        requirement(CORNERS, [0, 1, 1, 0], tolerance=-1)
    with pytest.raises(InputError, match="repeats must be at least 1"):
        requirement(CORNERS, [0, 1, 1, 0], repeats=0)


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.bool, torch.float64])
def test_labels_of_every_type(kind: torch.dtype) -> None:
    assert requirement(CORNERS, torch.tensor([0, 1, 1, 0]).to(kind)).expected_bits == 4


@given(st.integers(1, 20), st.integers(2, 400))
@settings(deadline=None, max_examples=30)
def test_the_size_to_start_from_is_the_smallest_that_fits(features: int, rows: int) -> None:
    generator = np.random.default_rng(rows)
    labels = np.arange(rows) % 2
    need = requirement(generator.normal(size=(rows, features)), labels)
    report = measure(nn.Sequential(nn.Linear(features, 9), nn.ReLU(), nn.Linear(9, 1)), (features,))
    found = recommend(report, need)
    units = found.hidden_units
    assert dense_capacity(features, [units, 1]) >= need.expected_bits
    assert units == 1 or dense_capacity(features, [units - 1, 1]) < need.expected_bits
    assert found.times_the_need == report.capacity_bits / need.expected_bits


def test_the_recommendation_in_words() -> None:
    big = measure(nn.Sequential(nn.Linear(2, 50), nn.ReLU(), nn.Linear(50, 1)), (2,))
    text = str(recommend(big, requirement(CORNERS, [0, 1, 1, 0])))
    assert "50 times the capacity that the feature-sum heuristic expects" in text
    assert "(200 of 4 bits" in text and "a size to start from: one hidden layer of 1 unit," in text
    assert "rests on label changes along the feature sum alone and promises no accuracy" in text
    tiny = measure(nn.Linear(2, 1), (2,))
    text = str(recommend(tiny, requirement(CORNERS, [0, 1, 1, 0])))
    assert "0.75 times the capacity" in text and "would do" not in text
    flat = requirement([[1], [2]], [1.0, 1.0], tolerance=1.0)
    with pytest.raises(InputError, match="needs no bits"):
        recommend(tiny, flat)
