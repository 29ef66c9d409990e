"""Equal sums are equal in every unit, order and number type; against exact fractions."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_iris

from capacity import InputError, requirement
from capacity.sums import find_step, ranks_of_sums, table_of

STEPS = (1.0, 0.1, 0.01, 2.54, 1 / 255, 1 / 3)


def exact_ranks(table: np.ndarray) -> list[int]:
    sums = [sum(map(Fraction, row)) for row in table.tolist()]
    places = {value: place for place, value in enumerate(sorted(set(sums)))}
    return [places[value] for value in sums]


def test_iris_needs_the_same_whatever_its_form() -> None:
    x, y = load_iris(return_X_y=True)
    forms = [
        x,
        x[:, ::-1],
        10 * x,
        2.54 * x,
        x / 10,
        np.rint(10 * x).astype(int),
        np.float32(x),
        np.asfortranarray(x),
    ]
    forms += [torch.tensor(x).requires_grad_(), (10 * torch.tensor(x)).to(torch.bfloat16), np.float16(10 * x)]
    assert [requirement(form, y).thresholds for form in forms] == [16] * len(forms)


@given(
    st.lists(st.lists(st.integers(-60, 200), min_size=3, max_size=3), min_size=2, max_size=12),
    st.sampled_from(STEPS), st.permutations(range(3)),
    st.sampled_from([np.float64, np.float32]),
)  # fmt: skip
@settings(deadline=None, max_examples=200)
def test_multiples_of_a_step_are_summed_exactly(rows, step: float, order, kind) -> None:
    counts = np.array(rows)
    table = (counts * step)[:, order].astype(kind)
    assert ranks_of_sums(table_of(table)).tolist() == exact_ranks(counts)


@given(st.integers(0, 1000), st.sampled_from([np.float64, np.float32, np.float16]))
@settings(deadline=None, max_examples=30)
def test_numbers_without_a_step_keep_their_order(seed: int, kind) -> None:
    table = np.random.default_rng(seed).normal(size=(40, 6)).astype(kind)
    assert find_step(table_of(table)) is None
    assert ranks_of_sums(table_of(table)).tolist() == exact_ranks(table)
    assert ranks_of_sums(table_of(table[:, ::-1])).tolist() == exact_ranks(table)


def test_a_permuted_row_has_the_same_sum() -> None:
    generator = np.random.default_rng(0)
    row = generator.normal(size=500)
    table = np.stack([generator.permutation(row) for _ in range(20)] + [row + 1])
    assert ranks_of_sums(table_of(table)).tolist() == [0] * 20 + [1]


def test_one_column_is_compared_to_the_last_bit() -> None:
    column = np.array([[1.0], [np.nextafter(1.0, 2)], [np.pi]])
    assert ranks_of_sums(table_of(column)).tolist() == [0, 1, 2]


def test_integers_of_every_type_are_exact() -> None:
    for kind in (np.uint8, np.int8, np.int64, np.uint64, bool):
        high = 1 if kind is bool else np.iinfo(kind).max
        table = np.array([[high, high], [high, high - 1], [0, 0]], dtype=kind)
        assert ranks_of_sums(table_of(table)).tolist() == [2, 1, 0], kind


def test_the_step_is_found_though_no_number_is_the_step() -> None:
    assert find_step(table_of([[0.6, 1.0], [1.5, 3.1]])) == pytest.approx(0.1)
    assert find_step(table_of([[0.0, 0.0]])) == 1.0
    assert find_step(table_of([[1e-3, np.pi * 1e9]])) is None


def test_pictures_as_bytes_and_as_shares_need_the_same() -> None:
    generator = np.random.default_rng(1)
    pictures = generator.integers(0, 256, (400, 1, 5, 5), dtype=np.uint8)
    labels = generator.integers(0, 3, 400)
    forms = (pictures, pictures / 255, np.float32(pictures) / np.float32(255), torch.tensor(pictures))
    assert len({requirement(form, labels) for form in forms}) == 1


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (3.0, "a row each"),
        ([[1.0], [2.0, 3.0]], "table of numbers"),
        (np.zeros((2, 0)), "no numbers"),
        ([[1.0], [np.inf]], "row 1 holds NaN or infinity"),
        (torch.tensor([[1.0], [float("nan")]], dtype=torch.bfloat16), "row 1 holds NaN"),
        ([[1j]], "features must be numbers"),
    ],
)
def test_bad_input(features, message: str) -> None:
    with pytest.raises(InputError, match=message):
        table_of(features)
