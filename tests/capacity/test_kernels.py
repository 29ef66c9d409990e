"""Products at all their bits where results are compared; settings that come back."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from capacity.kernels import gradients_in_evaluation, single_precision
from compression.verification import outputs

BACKENDS: Any = torch.backends
KINDS = (
    BACKENDS.mkldnn.matmul, BACKENDS.cuda.matmul, BACKENDS.cudnn.conv, BACKENDS.cudnn.rnn,
)  # fmt: skip


def settings() -> list[str]:
    return [kind.fp32_precision for kind in KINDS]


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = settings()
    yield
    torch.set_float32_matmul_precision("highest")
    for kind, value in zip(KINDS, before, strict=True):
        kind.fp32_precision = value


def test_comparisons_are_made_at_all_bits_whatever_the_user_set() -> None:
    """TensorFloat-32 would move outputs by some 1e-3, more than what a comparison allows."""
    torch.set_float32_matmul_precision("medium")  # on processors with AMX: bfloat16
    seen, before = [], settings()

    class Asking(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append((torch.get_float32_matmul_precision(), settings()[0]))
            with torch.backends.cudnn.flags(enabled=False):  # as code does whose gradients cuDNN lacks
                return super().forward(x)

    layer = Asking(256, 64)
    x = torch.randn(8, 256)
    ((found,),) = outputs(layer, [((x,), {})])
    assert seen == [("highest", "ieee")]
    exact = x.double() @ layer.weight.double().T + layer.bias.double()
    assert float((found - exact).detach().abs().max()) < 1e-5
    assert torch.get_float32_matmul_precision() == "medium"
    assert settings()[:2] == before[:2] and before[0] == "bf16"


def test_what_does_not_round_is_left_alone() -> None:
    before = settings()
    with single_precision():
        assert settings() == before
    assert settings() == before and before[0] == "none"


@pytest.mark.parametrize("value", ["bf16", "tf32"])
def test_settings_by_the_newer_interface_come_back_too(value: str) -> None:
    KINDS[0].fp32_precision = value
    before = settings()
    with single_precision():
        assert settings()[0] == "ieee"
    assert settings() == before


def test_settings_come_back_after_an_error() -> None:
    torch.set_float32_matmul_precision("high")
    before = settings()
    with pytest.raises(ZeroDivisionError), single_precision():
        raise ZeroDivisionError
    assert settings() == before


@pytest.mark.parametrize(("layer", "enabled"), [(nn.LSTM(2, 2), False), (nn.Linear(2, 2), True)])
def test_only_recurrent_layers_go_without_cudnn(layer: nn.Module, enabled: bool) -> None:
    with gradients_in_evaluation(nn.Sequential(layer)):
        assert torch.backends.cudnn.enabled == enabled
    assert torch.backends.cudnn.enabled
