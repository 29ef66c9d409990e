"""The four rules: golden values, formulas, and what must always hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capacity import InputError, dense_capacity, memorizable_rows
from capacity.rules import dense_parameters

sizes = st.lists(st.integers(1, 50), min_size=1, max_size=6)


@pytest.mark.parametrize(
    ("inputs", "units", "bits"),
    [
        (2, [1], 3),
        (2, [2, 1], 8),
        (2, [2, 2, 1], 10),
        (3, [5, 2], 25),
        (3, [3, 3, 1], 18),
        *[
            (25088, [4096 - 100 * k, 4096, 256, 10], bits)
            for k, bits in enumerate([102772992, 100263992, 97754992, 95245992, 92736992, 90227992, 87718992])
        ],
    ],
)
def test_golden_values(inputs: int, units: list[int], bits: int) -> None:
    assert dense_capacity(inputs, units) == bits


def test_report_a_published_eight_times_too_much() -> None:
    assert 8 * dense_capacity(25088, [4096, 4096, 256, 10]) == 822_183_936


@given(st.integers(1, 50), sizes)
def test_previous_is_the_formula(inputs: int, units: list[int]) -> None:
    widths = [inputs, *units]
    formula = (inputs + 1) * units[0] + sum(
        min(widths[k], (widths[k] + 1) * widths[k + 1]) for k in range(1, len(units))
    )
    assert dense_capacity(inputs, units) == formula


@given(st.integers(1, 50), sizes)
def test_running_is_the_minimum_over_all_earlier_layers(inputs: int, units: list[int]) -> None:
    formula = (inputs + 1) * units[0] + sum(
        min(*units[:k], (units[k - 1] + 1) * units[k]) if k > 1 else min(units[0], (units[0] + 1) * units[1])
        for k in range(1, len(units))
    )
    assert dense_capacity(inputs, units, convention="running") == formula


@given(st.integers(1, 50), sizes)
def test_conventions_are_ordered(inputs: int, units: list[int]) -> None:
    running, previous, uncapped = (
        dense_capacity(inputs, units, convention=name) for name in ("running", "previous", "uncapped")
    )
    assert running <= previous <= uncapped
    assert uncapped == sum(dense_parameters(a, b) for a, b in zip([inputs, *units], units, strict=False))


def test_memorizable_rows() -> None:
    assert memorizable_rows(18, 4) == 9
    with pytest.raises(InputError, match="classes"):
        memorizable_rows(18, 1)


@pytest.mark.parametrize(("inputs", "units"), [(0, [1]), (2, []), (2, [1, 0]), (2, [1.5])])
def test_sizes_must_be_positive_integers(inputs: int, units: list[int]) -> None:
    with pytest.raises(InputError, match=r"positive integers|must be a whole number"):
        dense_capacity(inputs, units)


def test_an_unknown_convention_is_named_with_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'previous'"):
        dense_capacity(2, [1], convention="previus")
