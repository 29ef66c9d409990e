"""What data needs: goldens, brute force over orders of ties, k classes, regression, bad input."""

from itertools import pairwise, permutations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from capacity import InputError, requirement

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
        (CORNERS, np.ones(4), r"^all labels are 1\.0: data of one class"),
        (CORNERS, [0.0, 1.0, 0.25, 1.0], "fractions such as 0.25: .* takes them with a tolerance"),
        (CORNERS, torch.tensor([0.5, 1.0, 0.25, 1.0]), "fractions such as 0.5"),
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


@pytest.mark.parametrize(("labels", "bits"), [([0, 0, 0, 1], 5), ([0, 1, 1, 0], 8)])
def test_the_book_s_form(labels: list[int], bits: int) -> None:
    """AND: one change, log2(2)·3 + log2(2) + 1; XOR: two, 1.585·3 + 1.585 + 1 = 7.34."""
    need = requirement(CORNERS, labels, formula="book")
    assert need.expected_bits == bits and need.progression[-1].expected_bits == bits
    assert (
        requirement(CORNERS, labels).expected_bits
        == requirement(CORNERS, labels, formula="nntailoring").expected_bits
    )


def test_odd_data_are_named_beside_the_count() -> None:
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(30, 3)), np.arange(30) % 2
    assert requirement(features, labels).warnings == ()
    features[:, 1] = 7
    assert requirement(features, labels).constant_features == 1
    assert "1 of 3 features are the same in all rows" in " ".join(str(requirement(features, labels)).split())
    own = requirement(features, np.arange(30))
    assert any("every row is a class of its own" in warning for warning in own.warnings)
    assert requirement(np.ones((30, 2)), labels).thresholds == 1
    targets = requirement(features, rng.normal(size=30), tolerance=0.1)
    assert targets.warnings == requirement(features, labels).warnings


def test_an_unknown_formula() -> None:
    with pytest.raises(InputError, match="formula"):
        requirement(CORNERS, [0, 1, 1, 0], formula="bok")  # type: ignore[arg-type]


def test_the_source_s_warning_and_the_labels_own_bits() -> None:
    balanced = requirement(CORNERS, [0, 1, 1, 0])
    assert balanced.warnings == () and balanced.stored_label_bits == 4
    skewed = requirement(np.arange(10)[:, None], np.arange(10) > 7)
    assert "largest with 80 % of the rows" in " ".join(str(skewed).split())
    told = " ".join(str(requirement([[1], [2], [3]], [0, 1, 2])).split())
    assert "two balanced classes only; here: 3 classes" in told
    assert requirement([[1], [2]], [0.0, 1.0], tolerance=0.1).warnings == ()
