"""What measures of a network do when its weights change and its function does not."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from analysis.generalization_study.measures import measures
from analysis.generalization_study.trials import network

INPUTS, UNITS, CLASSES = 6, 8, 3
Change = Callable[[nn.Sequential, float, torch.Generator], nn.Sequential]
BY_SIZE = ("capacity", "inverse_rho", "parameters")
BY_NORM = ("path_norm", "spectral_norm", "frobenius_norm")
BY_FUNCTION = ("negative_margin",)


def layers(model: nn.Sequential) -> list[Tensor]:
    """Weights and biases of both layers: (U, d), (U,), (K, U), (K,)."""
    return [p.detach().double() for p in model.parameters()]


def built(first: Tensor, bias: Tensor, second: Tensor, outputs: Tensor) -> nn.Sequential:
    """A network of one hidden layer with these weights."""
    model = nn.Sequential(nn.Linear(INPUTS, len(bias)), nn.ReLU(), nn.Linear(len(bias), CLASSES))
    with torch.no_grad():
        for parameter, values in zip(model.parameters(), (first, bias, second, outputs), strict=True):
            parameter.copy_(values)
    return model


def permuted(model: nn.Sequential, factor: float, generator: torch.Generator) -> nn.Sequential:
    first, bias, second, outputs = layers(model)
    order = torch.randperm(len(bias), generator=generator)
    return built(first[order], bias[order], second[:, order], outputs)


def rescaled(model: nn.Sequential, factor: float, generator: torch.Generator) -> nn.Sequential:
    first, bias, second, outputs = layers(model)
    return built(factor * first, factor * bias, second / factor, outputs)


def unit_split(model: nn.Sequential, factor: float, generator: torch.Generator) -> nn.Sequential:
    """Each unit twice, each with half of what it passes on."""
    first, bias, second, outputs = layers(model)
    return built(
        torch.cat([first, first]), torch.cat([bias, bias]), torch.cat([second, second], 1) / 2, outputs
    )


def padded(model: nn.Sequential, factor: float, generator: torch.Generator) -> nn.Sequential:
    """As many units more, of random weights, that nothing reads."""
    first, bias, second, outputs = layers(model)
    more = torch.randn(first.shape, generator=generator, dtype=first.dtype)
    silent = torch.zeros_like(second)
    return built(torch.cat([first, more]), torch.cat([bias, bias]), torch.cat([second, silent], 1), outputs)


def before_and_after(change: Change, factor: float, seed: int) -> tuple[dict[str, float], dict[str, float]]:
    """All measures of a network and of the changed one, whose outputs are the same."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(60, INPUTS, generator=generator)
    labels = torch.randint(CLASSES, (60,), generator=generator)
    model = network(INPUTS, 1, UNITS, CLASSES, seed)
    other = change(model, factor, generator)
    with torch.no_grad():
        assert torch.allclose(model(inputs), other(inputs), atol=1e-5)
        return measures(model, model, inputs, labels), measures(other, other, inputs, labels)


SEEDS = st.integers(0, 200)
FACTORS = st.sampled_from([0.125, 0.5, 3.0, 10.0])
FEW = settings(max_examples=3, deadline=None)


@pytest.mark.parametrize("change", [permuted, rescaled, unit_split, padded])
@FEW
@given(seed=SEEDS, factor=FACTORS)
def test_what_looks_at_the_function_stays(change: Change, seed: int, factor: float) -> None:
    before, after = before_and_after(change, factor, seed)
    for name in BY_FUNCTION:
        assert after[name] == pytest.approx(before[name], rel=1e-3, abs=1e-5)


@FEW
@given(seed=SEEDS, factor=FACTORS)
def test_order_of_units_moves_neither_sizes_nor_norms(seed: int, factor: float) -> None:
    before, after = before_and_after(permuted, factor, seed)
    for name in (*BY_SIZE, "active_parameters", *BY_NORM):
        assert after[name] == pytest.approx(before[name], rel=1e-5)
    assert after["file_bits"] == pytest.approx(before["file_bits"], rel=0.15)  # a coder reads in order


@FEW
@given(seed=SEEDS, factor=FACTORS)
def test_scale_moves_the_frobenius_norm_but_no_norm_of_paths_and_no_size(seed: int, factor: float) -> None:
    before, after = before_and_after(rescaled, factor, seed)
    for name in (*BY_SIZE, "active_parameters", "path_norm", "spectral_norm"):
        assert after[name] == pytest.approx(before[name], rel=1e-4)
    assert abs(after["frobenius_norm"] / before["frobenius_norm"] - 1) > 0.05
    assert after["file_bits"] == pytest.approx(before["file_bits"], rel=0.15)  # a step for each tensor


@FEW
@given(seed=SEEDS)
def test_split_units_raise_capacity_and_parameters_and_lower_the_path_norm(seed: int) -> None:
    before, after = before_and_after(unit_split, 1.0, seed)
    hidden = UNITS * (INPUTS + 1)
    assert (before["capacity"], after["capacity"]) == (hidden + UNITS, 2 * (hidden + UNITS))
    assert after["parameters"] == 2 * before["parameters"] - CLASSES
    assert after["path_norm"] == pytest.approx(before["path_norm"] / 2**0.5, rel=1e-4)
    assert after["spectral_norm"] == pytest.approx(before["spectral_norm"], rel=1e-4)
    assert after["file_bits"] > before["file_bits"]


@FEW
@given(seed=SEEDS)
def test_units_that_nothing_reads_raise_sizes_but_not_the_path_norm(seed: int) -> None:
    before, after = before_and_after(padded, 1.0, seed)
    assert after["capacity"] > before["capacity"] and after["parameters"] > before["parameters"]
    assert after["path_norm"] == pytest.approx(before["path_norm"], rel=1e-5)
    assert after["frobenius_norm"] > before["frobenius_norm"] and after["file_bits"] > before["file_bits"]
