"""scale_channels(): the same function, the exponent that brute force finds, less error; what is left."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from capacity import InputError
from compression import Calibration, scale_channels
from compression.feedback.grids import grid_of
from compression.feedback.scaling import EXPONENTS


class Block(nn.Module):
    """Attention of two heads and gated units, each behind a norm."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first, self.second = nn.RMSNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.gate, self.up, self.down = nn.Linear(width, 12), nn.Linear(width, 12), nn.Linear(12, width)

    def forward(self, x: Tensor) -> Tensor:
        read = self.first(x)
        q, k, v = (layer(read).unflatten(-1, (2, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        x = x + self.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        read = self.second(x)
        return x + self.down(F.silu(self.gate(read)) * self.up(read))


def salient(width: int, rows: int = 60, seed: int = 0) -> Tensor:
    """Inputs of which a few channels are much larger."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.ones(width)
    sizes[:: max(2, width // 2)] = 20
    return torch.randn(rows, width, generator=generator) * sizes


def block() -> tuple[Block, Tensor]:
    torch.manual_seed(0)
    model = Block().eval()
    with torch.no_grad():
        model.first.weight[2], model.second.weight[3] = 15.0, 12.0
    return model, salient(8, 40).view(4, 10, 8) / 20


def test_norms_values_and_gated_units_are_divided_and_the_function_stays() -> None:
    model, x = block()
    result = scale_channels(model, [x], bits=3)
    sources = {group.readers: group.source for group in result.groups}
    assert sources == {("q", "k", "v"): "first", ("o",): "v", ("gate", "up"): "second", ("down",): "up"}
    assert not result.left
    assert any(group.exponent > 0 for group in result.groups)
    for batch in (x, salient(8, 40, seed=1).view(4, 10, 8)):
        whole = model(batch).detach()
        assert torch.allclose(result.model(batch), whole, rtol=1e-3, atol=1e-4 * float(whole.abs().max()))
    moved = {name for name, value in model.state_dict().items()
             if not torch.equal(value, result.model.state_dict()[name])}  # fmt: skip
    assert moved and "divided in" in str(result)


def test_no_group_errs_more_and_less_where_channels_stand_out() -> None:
    model, x = block()
    groups = scale_channels(model, [x], bits=3).groups
    assert all(group.scaled_error <= group.plain_error for group in groups)
    torch.manual_seed(0)
    layer = nn.Sequential(nn.RMSNorm(16), nn.Linear(16, 12))
    with torch.no_grad():
        layer[0].weight[5] = 20.0
    (group,) = scale_channels(layer, [torch.randn(50, 16)], bits=3).groups
    assert group.scaled_error < 0.9 * group.plain_error and group.exponent > 0


@settings(max_examples=12)
@example(2, 4, True, 31)  # the smallest channel is less than 1e-4 of the largest
@given(st.integers(2, 6), st.sampled_from([None, 4]), st.booleans(), st.integers(0, 50))
def test_the_exponent_is_the_best_of_all_by_the_outputs_themselves(bits, group, asymmetric, seed) -> None:
    torch.manual_seed(seed)
    model, x = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 5)), torch.randn(30, 8)
    with torch.no_grad():
        model[0].weight.copy_(torch.rand(8) * 4 + torch.tensor([20.0, 0, 0, 0, 0, 0, 0, 0]))
    grid = {"group_size": group, "asymmetric": asymmetric}
    (found,) = scale_channels(model, Calibration([x], damping=0.0), bits=bits, **grid).groups
    read, weight = model[0](x).detach().double(), model[1].weight.detach().double()
    sizes, errors = read.square().mean(0).mul(2).sqrt(), {}
    sizes = sizes.clamp(min=1e-4 * float(sizes.max()))  # a channel of nearly nothing counts as this large
    for exponent in EXPONENTS:
        scales = sizes**exponent
        scales = scales / (scales.max() * scales.min()).sqrt()
        energy = 2 * (read / scales).square().mean(0)[None]
        rounded = grid_of((weight * scales)[None], energy, bits, group or 8, asymmetric=asymmetric)
        near = rounded.nearest((weight * scales)[None])[0] / scales
        errors[exponent] = float((read @ (weight - near).T).square().sum() / (read @ weight.T).square().sum())
    assert found.plain_error == pytest.approx(errors[0.0], rel=1e-4)
    assert found.scaled_error == pytest.approx(min(errors.values()), rel=1e-4)
    assert errors[found.exponent] == pytest.approx(min(errors.values()), rel=1e-4)


def test_convolutions_through_a_rectifier() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3)).eval()
    with torch.no_grad():
        model[1].weight[1], model[1].bias[4] = 9.0, 5.0
    x = torch.randn(5, 2, 8, 8)
    result = scale_channels(model, [x], bits=2)
    assert [(group.readers, group.source) for group in result.groups] == [(("3",), "1")]
    assert result.groups[0].exponent > 0 and set(result.left) == {"0"}
    assert torch.allclose(result.model(x), model(x), atol=1e-4)


class Residual(nn.Module):
    """What the norm makes is read by more than the layer behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.layer = nn.LayerNorm(6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        read = self.norm(x)
        return read + self.layer(read)


def test_what_is_read_elsewhere_stays_and_is_named() -> None:
    torch.manual_seed(0)
    model = Residual()
    result = scale_channels(model, [torch.randn(20, 6)])
    assert not result.groups and "divided so that the outputs stay" in result.left["layer"]
    assert all(
        torch.equal(value, model.state_dict()[name]) for name, value in result.model.state_dict().items()
    )


def test_a_sigmoid_between_and_groups_are_left() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Sigmoid(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 2))
    assert set(scale_channels(model, [torch.randn(9, 4)]).left) == {"0", "2", "4"}
    convolutions = nn.Sequential(nn.Conv1d(2, 4, 1), nn.Conv1d(4, 4, 3, groups=4))
    assert "groups" in scale_channels(convolutions, [torch.randn(3, 2, 8)]).left["1"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"bits": 9}, "bits must lie between"),
        ({"group_size": 0}, "group_size"),
        ({"layers": ["nine"]}, "nine"),
    ],
)
def test_what_cannot_be_is_refused(arguments, words) -> None:
    with pytest.raises(InputError, match=words):
        scale_channels(Residual(), [torch.randn(20, 6)], **arguments)
