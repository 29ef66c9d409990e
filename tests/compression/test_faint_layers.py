"""A layer made smaller and the next one larger by as much is the same function: so is what becomes of it."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from capacity import InputError
from compression import (
    code_with_feedback,
    decode,
    encode,
    quantize_rate_distortion,
    round_with_feedback,
    share_weights,
)

torch.manual_seed(0)
DATA = [(torch.randn(64, 8), torch.randint(0, 4, (64,))) for _ in range(2)]
X = torch.randn(100, 8)


def scaled(by: float) -> nn.Sequential:
    torch.manual_seed(1)
    layers = [nn.Linear(8, 64, bias=False), nn.Linear(64, 32, bias=False), nn.Linear(32, 4, bias=False)]
    with torch.no_grad():
        layers[1].weight.mul_(by)
        layers[2].weight.div_(by)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2]).eval()


WAYS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "shared": lambda model: share_weights(model, bits=4).model,
    "rounded where bits are cheap": lambda model: quantize_rate_distortion(model, penalty=0.0).model,
    "rounded with feedback": lambda model: round_with_feedback(model, DATA, bits=8).model,
    "in groups": lambda model: round_with_feedback(model, DATA, bits=4, group_size=8).model,
    "coded with feedback": lambda model: code_with_feedback(model, DATA, penalty=1e-10).model,
}


def noise_db(model: nn.Module, other: nn.Module) -> float:
    with torch.no_grad():
        right, found = model(X).double(), other(X).double()
    return 10 * math.log10(float(right.square().sum() / (right - found).square().sum()))


@pytest.mark.parametrize("name", WAYS)
def test_how_small_a_layer_is_costs_nothing(name: str, tmp_path) -> None:
    """Steps had ends at 2^-14 and 2^-20, where layers of small weights became coarse and then nothing."""
    usual = noise_db(scaled(1.0), WAYS[name](scaled(1.0)))
    for by in (2.0**-8, 2.0**-14):
        model = scaled(by)
        small = WAYS[name](model)
        assert abs(noise_db(model, small) - usual) < 1.5
        encode(small, tmp_path / "net.dcz")
        assert torch.equal(decode(tmp_path / "net.dcz", model)(X), small(X))


def test_below_half_precision_nothing_becomes_zero() -> None:
    model = scaled(2.0**-24)
    for name in ("shared", "rounded with feedback", "in groups"):
        assert noise_db(model, WAYS[name](model)) > 15
    result = quantize_rate_distortion(model, penalty=0.0)
    assert torch.equal(result.model[2].weight, model[2].weight)  # no step of half precision is so small
    assert "2.weight" not in [row.name for row in result.tensors] and len(result.tensors) == 2
    with pytest.raises(InputError, match=r"^2: .*at most .*smallest step.*leave it out"):
        code_with_feedback(model, DATA, penalty=1e-10)
    assert code_with_feedback(model, DATA, penalty=1e-10, layers=["0", "4"]).tensors
