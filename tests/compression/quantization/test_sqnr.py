"""Signal over rounding noise: six decibels a bit, half a step at most, zeros stay."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations

from compression.quantization.sqnr import rounded, signal_to_noise_db


def test_signal_to_noise_falls_by_six_decibels_a_bit() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(576, 64), nn.ReLU(),
        nn.Dropout(), nn.Linear(64, 10),
    )  # fmt: skip
    data = [(torch.randn(50, 1, 8, 8), torch.zeros(50, dtype=torch.long)) for _ in range(4)]
    eight = signal_to_noise_db(model, data=data)
    four = signal_to_noise_db(model, data=data, weight_bits=4)
    assert set(eight) == {"0", "4", "7"}
    for name in eight:
        assert eight[name] - four[name] == pytest.approx(24.1, abs=4)


def test_a_layer_on_the_grid_has_no_noise() -> None:
    model = nn.Sequential(nn.Linear(3, 1, bias=False))
    model[0].weight.data = torch.tensor([[127.5, -64.0, 1.0]])
    data = [(torch.ones(2, 3), torch.zeros(2, dtype=torch.long))]
    assert signal_to_noise_db(model, data=data)["0"] > 40
    model[0].weight.data = torch.zeros(1, 3)
    assert signal_to_noise_db(model, data=data)["0"] == float("inf")


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=20), st.sampled_from([4, 8]))
def test_rounding_is_within_half_a_step_and_keeps_zero(values: list[float], bits: int) -> None:
    weight = torch.tensor([values])
    step = float(weight.abs().max().clamp(min=1e-12)) / (2 ** (bits - 1) - 0.5)
    error = (rounded(weight, bits) - weight).abs()
    assert float(error.max()) <= 0.5 * step * 1.001 + 1e-9
    assert bool((rounded(weight, bits)[weight == 0] == 0).all())


@pytest.mark.parametrize(
    "change",
    [
        parametrizations.weight_norm,
        nn.utils.weight_norm,
        lambda layer: layer.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 1.0,)),
        lambda layer: layer.register_forward_hook(lambda module, inputs, output: output * 1.0),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_is_made_of_parts_or_hooked_is_rounded_like_a_plain_weight(
    change: Callable[[nn.Linear], object],
) -> None:
    """Parts set aside, its weight and what it is given are the same: so is what rounding costs."""
    data = [(torch.randn(64, 8), torch.zeros(64, dtype=torch.long))]
    layer = nn.Linear(8, 4)
    plain = signal_to_noise_db(nn.Sequential(layer), data=data)["0"]
    change(layer)
    assert signal_to_noise_db(nn.Sequential(layer), data=data)["0"] == pytest.approx(plain, abs=0.1)
    assert 30 < plain < 70
