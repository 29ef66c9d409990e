"""Products at all their bits where results are compared; settings that come back."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from capacity.kernels import gradients_in_evaluation, single_precision
from compression.verification import outputs

MATMUL: Any = torch.backends.cuda.matmul
CONV: Any = torch.backends.cudnn.conv


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    yield
    torch.set_float32_matmul_precision("highest")
    CONV.fp32_precision = "tf32"


def test_comparisons_are_made_at_all_bits_whatever_the_user_set() -> None:
    """TensorFloat-32 would move outputs by some 1e-3, more than what a comparison allows."""
    torch.set_float32_matmul_precision("medium")  # on processors with AMX: bfloat16
    seen = []

    class Asking(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append((torch.get_float32_matmul_precision(), CONV.fp32_precision))
            return super().forward(x)

    layer = Asking(256, 64)
    x = torch.randn(8, 256)
    ((found,),) = outputs(layer, [((x,), {})])
    assert seen == [("highest", "ieee")]
    exact = x.double() @ layer.weight.double().T + layer.bias.double()
    assert float((found - exact).detach().abs().max()) < 1e-5
    assert torch.get_float32_matmul_precision() == "medium" and CONV.fp32_precision == "tf32"


def test_settings_by_the_newer_interface_come_back_too() -> None:
    MATMUL.fp32_precision = "tf32"
    CONV.fp32_precision = "ieee"
    with single_precision():
        assert MATMUL.fp32_precision == CONV.fp32_precision == "ieee"
    assert MATMUL.fp32_precision == "tf32" and CONV.fp32_precision == "ieee"


def test_settings_come_back_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), single_precision():
        raise ZeroDivisionError
    assert CONV.fp32_precision == "tf32"


@pytest.mark.parametrize(("layer", "enabled"), [(nn.LSTM(2, 2), False), (nn.Linear(2, 2), True)])
def test_only_recurrent_layers_go_without_cudnn(layer: nn.Module, enabled: bool) -> None:
    with gradients_in_evaluation(nn.Sequential(layer)):
        assert torch.backends.cudnn.enabled == enabled
    assert torch.backends.cudnn.enabled
