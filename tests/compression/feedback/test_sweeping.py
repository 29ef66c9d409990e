"""The sweep over columns: against the surgeon with a fresh inverse at each step, and its own identities."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from compression.feedback.sweeping import damped, descend, factor_of, output_error, refit, sweep


def problem(rows: int, columns: int, seed: int = 0, groups: int = 1) -> tuple[Tensor, Tensor]:
    """Weights, and H of inputs that depend on each other."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(groups, columns, columns, generator=generator).double()
    x = torch.randn(groups, 4 * columns, columns, generator=generator).double() @ mixed
    weights = torch.randn(groups, rows, columns, generator=generator).double()
    return weights, 2 * x.transpose(1, 2) @ x / x.shape[1]


def rounding(values: Tensor, diagonal: Tensor, column: int) -> Tensor:
    return values[..., 0].round()


def surgeon(row: np.ndarray, hessian: np.ndarray, fixed: object) -> np.ndarray:
    """Optimal brain surgeon with columns fixed from the first to the last, each time with a fresh inverse."""
    row = row.copy()
    for column in range(len(row)):
        inverse = np.linalg.inv(hessian[column:, column:])
        value = fixed(row[column], column)
        row[column:] -= (row[column] - value) / inverse[0, 0] * inverse[:, 0]
        row[column] = value
    return row


@pytest.mark.parametrize("block", [1, 3, 128])
def test_the_sweep_is_the_surgeons(block):
    weights, hessian = problem(5, 7, groups=2)
    found, loss = sweep(weights, factor_of(hessian), rounding, block=block)
    for group in range(2):
        for row in range(5):
            wanted = surgeon(weights[group, row].numpy(), hessian[group].numpy(), lambda v, _: np.round(v))
            assert np.allclose(found[group, row].numpy(), wanted, atol=1e-8)
    assert torch.allclose(loss, output_error(weights - found, hessian))
    dropped = torch.tensor([True, False, True, True, False, False, True])
    cut, _ = sweep(weights, factor_of(hessian), lambda v, d, c: v[..., 0] * ~dropped[c], block=block)
    wanted = surgeon(weights[1, 2].numpy(), hessian[1].numpy(), lambda v, c: 0.0 if dropped[c] else v)
    assert np.allclose(cut[1, 2].numpy(), wanted, atol=1e-8)


def test_one_column_is_the_closed_form():
    weights, hessian = problem(1, 4)
    found, loss = sweep(weights, factor_of(hessian), lambda v, d, c: v[..., 0] * (c != 0))
    inverse = torch.linalg.inv(hessian[0])
    wanted = weights[0, 0] - weights[0, 0, 0] / inverse[0, 0] * inverse[0]
    assert torch.allclose(found[0, 0], wanted)
    assert loss.item() == pytest.approx((weights[0, 0, 0] ** 2 / inverse[0, 0]).item())  # L_q of 1993


@settings(max_examples=20)
@given(st.integers(1, 6), st.integers(2, 12), st.integers(0, 100))
def test_the_error_is_what_the_sweep_says_and_below_that_of_rounding_on_average(rows, columns, seed):
    weights, hessian = problem(rows, columns, seed)
    factor = factor_of(hessian)
    assert torch.allclose(factor.transpose(1, 2) @ factor @ hessian, torch.eye(columns).double(), atol=1e-5)
    found, loss = sweep(3 * weights, factor, rounding)
    assert torch.allclose(loss, output_error(3 * weights - found, hessian), rtol=1e-6)
    bound = 0.25 / factor.diagonal(dim1=1, dim2=2).square()  # no column is off by more than a half
    assert bool((loss <= bound.sum(1, keepdim=True) * (1 + 1e-9)).all())


@settings(max_examples=20)
@given(st.integers(1, 5), st.integers(2, 9), st.integers(0, 100))
def test_refitting_reaches_least_squares_and_never_rises(rows, columns, seed):
    weights, hessian = problem(rows, columns, seed)
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(1, rows, columns, generator=generator) < 0.6
    start, _ = sweep(weights, factor_of(hessian), lambda v, d, c: v[..., 0] * mask[..., c])
    few, many = (refit(weights, start, mask, hessian, steps=steps) for steps in (2, 200))
    errors = [output_error(weights - values, hessian) for values in (weights * mask, start, few, many)]
    assert bool((errors[2] <= errors[1] + 1e-9).all())
    for row in range(rows):
        kept = mask[0, row]
        best = torch.zeros(columns).double()
        if kept.any():
            best[kept] = torch.linalg.solve(hessian[0][kept][:, kept], (hessian[0] @ weights[0, row])[kept])
        least = output_error((weights[0, row] - best)[None, None], hessian)[0, 0]
        assert all(bool(error[0, row] >= least - 1e-9) for error in errors)
        assert errors[3][0, row].item() == pytest.approx(least.item(), rel=1e-4, abs=1e-8)
    assert not (many * ~mask).any()


def test_inputs_that_are_zero_or_alike_are_no_obstacle():
    x = torch.tensor([[1.0, 1.0, 0.0], [2.0, 2.0, 0.0]]).double()
    hessian = (2 * x.t() @ x / 2)[None]
    weights = torch.tensor([[[0.6, 0.6, 0.6]]]).double()
    found, _ = sweep(weights, factor_of(damped(hessian)), rounding)
    assert found.sum().item() in (1.0, 2.0)
    assert found[0, 0, 0] + found[0, 0, 1] == 1.0  # 1.2 of one input; rounded alone they are 2
    assert bool(torch.isfinite(factor_of(hessian)).all())
    assert bool((damped(torch.zeros(1, 2, 2), 0.5).diagonal(dim1=1, dim2=2) == 0.5).all())


@settings(max_examples=15)
@given(st.integers(1, 4), st.integers(2, 8), st.integers(0, 100), st.sampled_from([1, 3, 128]))
def test_descending_lowers_the_error_until_no_single_change_does(rows, columns, seed, block):
    weights, hessian = problem(rows, columns, seed)
    weights *= 3
    values, _ = sweep(weights, factor_of(hessian), rounding)
    errors = [output_error(weights - values, hessian)]
    for _ in range(30):
        values = descend(weights, values, hessian, rounding, block=block)
        errors.append(output_error(weights - values, hessian))
    assert all(bool((b <= a + 1e-9).all()) for a, b in itertools.pairwise(errors))
    assert torch.equal(values, values.round())
    for column in range(columns):
        for step in (-1, 1):
            other = values.clone()
            other[..., column] += step
            assert bool((output_error(weights - other, hessian) >= errors[-1] - 1e-9).all())
