"""Bounds from the bits of a file: formulas, properties, an independent tail, and a simulation."""

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import beta, binom

from capacity import InputError, certificate
from capacity.certificates import binary_kl_nats, binomial_error_bound, code_bits, kl_error_bound


@pytest.mark.parametrize(("count", "total"), [(0, 10), (3, 100), (50, 1000), (999, 1000), (7, 7)])
def test_without_a_file_it_is_clopper_and_pearson(count: int, total: int) -> None:
    exact = 1.0 if count == total else beta.ppf(0.95, count + 1, total - count)
    assert binomial_error_bound(count, total, math.log(0.05)) == pytest.approx(exact, rel=1e-9)


def test_golden_bounds_of_published_sizes() -> None:
    """400 bytes at 2 % and 800 at 1.57 % on MNIST, worked out in the plan by hand: 8.4 % and 11.6 %."""
    assert certificate(1200, 60_000, 400).kl_error_bound == pytest.approx(0.084, abs=5e-4)
    assert certificate(942, 60_000, 800).kl_error_bound == pytest.approx(0.116, abs=5e-4)


def test_the_formula() -> None:
    found = certificate(30, 2000, 50, choices=8, confidence=0.9)
    assert found.code_bits == 8 * 50 + (2 * 5 + 1) + 3
    budget = (found.code_bits * math.log(2) + math.log(10)) / 2000
    assert binary_kl_nats(0.015, found.kl_error_bound) == pytest.approx(budget, rel=1e-9)
    tail = binom.logcdf(30, 2000, found.error_bound)
    assert tail == pytest.approx(math.log(0.1) - found.code_bits * math.log(2), rel=1e-9)


@given(st.integers(1, 10**7))
def test_lengths_are_told_by_a_prefix_free_code(size: int) -> None:
    """Elias' gamma code: its lengths satisfy Kraft's inequality, and grow with the size."""
    assert code_bits(size) - 8 * size == 2 * math.floor(math.log2(size)) + 1


def test_kraft() -> None:
    assert sum(2.0 ** -(code_bits(size) - 8 * size) for size in range(1, 2**14)) < 1


@given(st.integers(1, 3000), st.floats(0, 1), st.integers(1, 2000), st.integers(1, 50))
def test_more_errors_bytes_and_choices_guarantee_less(total, share, size, choices) -> None:
    errors = round(share * total)
    found = certificate(errors, total, size, choices=choices)
    assert found.training_error <= found.error_bound <= found.kl_error_bound + 1e-9 <= 1 + 1e-9
    for worse in (
        certificate(min(errors + 1, total), total, size, choices=choices),
        certificate(errors, total, size + 1, choices=choices),
        certificate(errors, total, size, choices=choices + 1),
        certificate(errors, total, size, choices=choices, confidence=0.99),
    ):
        assert worse.error_bound >= found.error_bound - 1e-9


@given(st.integers(0, 400), st.integers(401, 800), st.floats(-600, -0.1))
def test_the_tail_agrees_with_scipy_s_where_that_does_not_underflow(errors, total, log_failure) -> None:
    bound = binomial_error_bound(errors, total, log_failure)
    assume(bound < 1 - 1e-6)  # nearer to one, rounding of the rate itself moves the tail
    assert binom.logcdf(errors, total, bound) == pytest.approx(log_failure, rel=1e-6, abs=1e-6)


def test_it_holds_in_simulations() -> None:
    """Picked for few errors from all files of a code of two bytes, the truth stays under the bound."""
    generator = np.random.default_rng(0)
    truth = generator.uniform(0.05, 0.5, 256)  # error rates of 256 files, of a byte each
    broken = 0

    @cache
    def bound(errors: int) -> float:
        return certificate(errors, 200, 1).error_bound

    for _ in range(2000):
        errors = generator.binomial(200, truth)
        best = int(errors.argmin())
        broken += truth[best] > bound(int(errors[best]))
    assert broken <= 0.05 * 2000
    naive_bound = cache(lambda errors: binomial_error_bound(errors, 200, math.log(0.05)))
    naive = sum(
        truth[int((errors := generator.binomial(200, truth)).argmin())] > naive_bound(int(errors.min()))
        for _ in range(2000)
    )
    assert naive > 0.05 * 2000  # without paying for the bits it does not hold


def test_kl_bound_of_certain_failure() -> None:
    assert kl_error_bound(1.0, 10, -1.0) == 1.0 and certificate(10, 10, 1).error_bound == 1.0
    assert certificate(0, 10, 100).is_vacuous and not certificate(0, 1000, 10).is_vacuous


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"errors": 11, "total": 10, "file_bytes": 1}, "at most total"),
        ({"errors": 0.5, "total": 10, "file_bytes": 1}, "errors must be a whole number"),
        ({"errors": 1, "total": 10, "file_bytes": 0}, "file_bytes must be at least 1"),
        ({"errors": 1, "total": 10, "file_bytes": 9, "choices": 0}, "choices must be at least 1"),
        ({"errors": 1, "total": 10, "file_bytes": 9, "confidence": 95}, "confidence must lie between"),
    ],
)
def test_bad_input(arguments: dict, text: str) -> None:
    with pytest.raises(InputError, match=text):
        certificate(**arguments)
