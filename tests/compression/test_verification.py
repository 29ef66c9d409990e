"""Outputs of two networks compared: equal, rounded, different, not finite, of another shape."""

import math

import pytest
import torch
from torch import nn

from capacity import InputError
from compression.shrinking import shrink
from compression.shrinking.silencing import zero_dead_parameters
from compression.verification import (
    MAGNITUDES,
    outputs,
    probes,
    relative_difference,
    tolerance,
)


def test_probes_are_the_example_and_noise_of_each_magnitude() -> None:
    model = nn.Linear(4000, 2)
    found = probes(model, (4000,))
    assert bool((found[0][0][0] == 1).all()) and len(found) == 1 + len(MAGNITUDES)
    for ((noise,), _), magnitude in zip(found[1:], MAGNITUDES, strict=True):
        assert noise.shape == (1, 4000)
        assert float(noise.std()) == pytest.approx(magnitude, rel=0.05)


def test_integers_stay_in_the_range_of_the_example() -> None:
    for (tokens,), _ in probes(nn.Embedding(10, 3), torch.tensor([[2, 9, 4]])):
        assert tokens.dtype == torch.int64 and 2 <= int(tokens.min()) <= int(tokens.max()) <= 9


def test_modes_and_the_global_generator_are_left_alone() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.BatchNorm1d(3))
    model[2].eval()
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    outputs(model, probes(model, (3,)))
    assert bool(torch.rand(1) == expected)
    assert [module.training for module in model] == [True, True, False]


def test_differences() -> None:
    one = torch.tensor([1.0, -2.0, math.nan, math.inf])
    assert relative_difference([[one]], [[one.clone()]]) == 0
    assert relative_difference([[one]], [[torch.tensor([1.5, -2.0, math.nan, math.inf])]]) == 0.25
    assert relative_difference([[one]], [[torch.tensor([1.0, -2.0, 0.0, math.inf])]]) == math.inf
    assert relative_difference([[one]], [[torch.zeros(3)]]) == math.inf
    assert relative_difference([[torch.zeros(0)]], [[torch.zeros(0)]]) == 0


def test_the_tolerance_follows_the_coarsest_type() -> None:
    single = tolerance(nn.Linear(2, 2))
    assert tolerance(nn.Linear(2, 2).double()) < single < tolerance(nn.Linear(2, 2).half())


def test_outputs_that_are_no_numbers_verify_nothing() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        model[2].bias.fill_(torch.inf)
    for work in (lambda: shrink(model, (4,), amount=0.5), lambda: zero_dead_parameters(model, (4,))):
        with pytest.raises(InputError, match="outputs are NaN or infinite, on an example and on random"):
            work()
