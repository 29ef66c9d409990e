"""Removal: whatever the network, shrink returns the same function without some units, or InputError."""

import copy
from itertools import pairwise

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.models import googlenet, shufflenet_v2_x0_5

from capacity import InputError
from compression.criteria import L1
from compression.outputs import output_layers
from compression.pruning import prune
from compression.shrinking import load_shrunk, save_shrunk, shrink
from compression.shrinking.coupling import coupled_layers
from compression.shrinking.removal import Removal
from compression.shrinking.silencing import silent_groups

ACTIVATIONS = {
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "cos": torch.cos,
    "exp": torch.exp,
    "silu": nn.functional.silu,
}
MOVES = ("none", "shuffle", "flip", "roll", "concat", "residual", "split", "gate", "softmax")
ENDS = ("NCHW", "NHWC", "mean")


class Drawn(nn.Module):
    """Two convolutions with an activation and a movement of channels between, and a dense layer."""

    def __init__(self, activation: str, move: str, end: str, norm: bool) -> None:
        super().__init__()
        self.activation, self.move, self.end = ACTIVATIONS[activation], move, end
        self.first, self.norm = nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8) if norm else nn.Identity()
        self.gate, self.beside = nn.Conv2d(8, 1, 1), nn.Conv2d(8, 8, 1)
        self.second = nn.Conv2d(16 if move == "concat" else 8, 6, 1)
        self.last = nn.Linear(6 if end == "mean" else 24, 3)

    def moved(self, x: Tensor) -> Tensor:
        match self.move:
            case "shuffle":
                return x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)
            case "flip":
                return x.flip(1)
            case "roll":
                return x.roll(1, 1)
            case "concat":
                return torch.cat([self.beside(x), x], 1)
            case "residual":
                return x + self.beside(x)
            case "split":
                one, two = x.chunk(2, 1)
                return torch.cat([two, one], 1)
            case "gate":
                return x * torch.sigmoid(self.gate(x))
            case "softmax":
                return x.softmax(1)
        return x

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.second(self.moved(self.activation(self.norm(self.first(x))))))
        if self.end == "mean":
            return self.last(x.mean((2, 3)))
        return self.last((x.permute(0, 2, 3, 1) if self.end == "NHWC" else x).flatten(1))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(sorted(ACTIVATIONS)),
    st.sampled_from(MOVES),
    st.sampled_from(ENDS),
    st.booleans(),
    st.data(),
)
def test_silent_units_go_or_stay_but_outputs_are_equal(activation, move, end, norm, data) -> None:
    torch.manual_seed(data.draw(st.integers(0, 99)))
    model = Drawn(activation, move, end, norm).eval()
    layers = data.draw(st.sampled_from([["first"], ["second"], ["first", "second"]]))
    masked = prune(model, L1(), amount=2, unit="neuron", layers=layers).model
    x = torch.randn(5, 2, 4, 4)
    try:
        result = shrink(masked, (2, 4, 4))
    except InputError:
        return
    assert torch.allclose(result.model(x), masked(x), atol=1e-5)
    assert result.parameters_after < result.parameters_before


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(sorted(ACTIVATIONS)), st.sampled_from(MOVES), st.sampled_from(ENDS), st.integers(0, 99)
)
def test_a_fraction_removes_what_can_be_cut_out_alone(activation, move, end, seed) -> None:
    torch.manual_seed(seed)
    model, x = Drawn(activation, move, end, norm=True).eval(), torch.randn(5, 2, 4, 4)
    with torch.no_grad():  # half of the units are read by nobody, so removing the weakest changes nothing
        for layer in (model.first, model.second, model.beside):
            layer.weight[::2] *= 1e-3
        model.second.weight[:, ::2] = 0
        model.beside.weight[:, ::2] = 0
        model.gate.weight[:, ::2] = 0
    try:
        small = shrink(model, (2, 4, 4), amount={"first": 0.25}).model
    except InputError as error:
        assert "'first'" in str(error)
        return
    assert small.first.out_channels == 6 and small(x).shape == model(x).shape
    if move in ("none", "gate"):  # nothing else reads the first layer
        assert torch.allclose(small(x), model(x), atol=1e-5)


def test_a_gate_of_one_channel_is_pruned_around() -> None:
    torch.manual_seed(0)
    small = shrink(Drawn("relu", "gate", "mean", norm=False), (2, 4, 4), amount={"first": 0.25}).model
    assert (small.first.out_channels, small.gate.in_channels, small.gate.out_channels) == (6, 6, 1)


def test_sigmoid_keeps_a_masked_unit_and_says_why() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.Sigmoid(), nn.Linear(8, 4))
    masked = prune(model, L1(), amount=2, unit="neuron").model
    with pytest.raises(InputError, match=r"'0': outputs would move by 0\.\d+.*send zero to zero"):
        shrink(masked, (6,))
    assert shrink(model, (6,), amount=0.25).model[0].out_features == 6


def test_a_removal_in_the_wrong_place_is_noticed() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2)).eval()
    with torch.no_grad():
        model[0].weight[:2] = 0
        model[0].bias[:2] = 0
    for silent in (True, False):
        removal = Removal(nn.Sequential(*model), (3,), silent=silent)
        for group in silent_groups(removal.small, (torch.ones(1, 3).double(),), []):
            removal.apply(group)
        removal.check()
        with torch.no_grad():
            removal.small[2].weight.copy_(removal.small[2].weight.flip(1))
        if silent:
            with pytest.raises(InputError, match="outputs would move"):
                removal.check()


class Variational(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.mean, self.spread = nn.Linear(6, 12), nn.Linear(12, 4), nn.Linear(12, 4)
        self.outer, self.last = nn.Linear(4, 12), nn.Linear(12, 6)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = torch.relu(self.inner(x))
        mean, spread = self.mean(x), self.spread(x)
        return self.last(torch.relu(self.outer(mean + spread.exp()))), mean, spread


def test_all_outputs_keep_their_width() -> None:
    model, x = Variational(), torch.randn(3, 6)
    assert set(output_layers(model, (6,)).names) == {"mean", "spread", "last"}
    small = shrink(model, (6,), amount=0.5).model
    assert [tensor.shape for tensor in small(x)] == [tensor.shape for tensor in model(x)]
    assert small.inner.out_features == 6 and small.outer.out_features == 6
    with pytest.raises(InputError, match="'mean' cannot lose units: its units are the model's outputs"):
        shrink(model, (6,), amount={"mean": 0.5})


def test_heads_beside_train_after_shrinking() -> None:
    torch.manual_seed(0)
    model = googlenet(weights=None, num_classes=4, init_weights=False, aux_logits=True)
    result = shrink(model, (3, 64, 64), amount=0.2)
    assert result.parameters_after < 0.75 * result.parameters_before and not result.left_out
    outputs = result.model.train()(torch.randn(2, 3, 64, 64))
    assert [tensor.shape for tensor in outputs] == [(2, 4)] * 3
    sum(tensor.sum() for tensor in outputs).backward()
    gradient = result.model.aux1.fc2.weight.grad  # of a sum of outputs: what the layer reads, in each row
    assert torch.equal(gradient, gradient[:1].expand_as(gradient)) and float(gradient[0].sum()) > 0


class Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = nn.Linear(6, 8), nn.Linear(8, 3)
        self.tokens = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 5))
        self.channels = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.tokens(x.transpose(1, 2)).transpose(1, 2)
        return self.last((x + self.channels(x)).mean(1))


def test_what_the_graph_cannot_follow_is_left_whole_by_name() -> None:
    result = shrink(Mixer(), (5, 6), amount=0.25)
    after = {layer.name: layer.after for layer in result.layers}
    assert after["tokens.0"] == 9 and after["channels.0"] == 12 and after["tokens.2"] == 5
    assert "tokens.2" in result.left_out and "left whole: " in str(result)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.cells, self.last = (
            nn.Linear(6, 12),
            nn.LSTM(12, 8, batch_first=True),
            nn.Linear(8, 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.cells(torch.relu(self.first(x)))[0][:, -1])


@pytest.mark.parametrize(
    ("model", "size"),
    [
        (Recurrent(), (5, 6)),
        (nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.PixelShuffle(2), nn.Conv2d(4, 8, 3)), (3, 8, 8)),
        (nn.Sequential(nn.Conv2d(3, 8, 3), nn.GLU(1), nn.Conv2d(4, 4, 3)), (3, 8, 8)),
    ],
)
def test_what_no_graph_follows_is_smaller_and_reloads(model, size: tuple[int, ...], tmp_path) -> None:
    x = torch.randn(3, *size)
    result = shrink(model, size, amount=0.25)
    assert result.parameters_after < result.parameters_before
    small = result.model.eval()
    assert small(x).shape == model(x).shape
    save_shrunk(small, tmp_path / "small")
    again = load_shrunk(copy.deepcopy(model), tmp_path / "small").eval()
    assert torch.equal(again(x), small(x))


def test_a_graph_that_cannot_be_built_is_refused_near_the_layers_where_it_failed() -> None:
    model = shufflenet_v2_x0_5(weights=None).eval()
    with pytest.raises(InputError, match=r"lose units together, near 'stage4\.1\.branch2\.5'"):
        coupled_layers(model, (3, 32, 32))
    small = shrink(model, (3, 64, 64), amount=0.2)
    assert small.parameters_after < small.parameters_before


def test_frozen_layers_and_number_types_are_kept() -> None:
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)).bfloat16()
    model[0].requires_grad_(False)
    small = shrink(model, (3,), amount=0.5).model
    assert [module.out_features for module in small[::2]] == [4, 4, 2]
    assert [p.requires_grad for p in small.parameters()] == [False, False, True, True, True, True]
    assert {p.dtype for p in small.parameters()} == {torch.bfloat16}
    assert all(one.in_features == two.out_features for two, one in pairwise(small[::2]))


class ActiveNorm(nn.BatchNorm2d):
    """A batch norm that holds its activation."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(super().forward(x))


class Squeeze(nn.Module):
    def __init__(self, norm: type[nn.Module]) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3), norm(8)
        self.reduce, self.expand, self.head = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        gate = self.expand(torch.relu(self.reduce(x.mean((2, 3), keepdim=True))))
        return self.head((x * gate.sigmoid()).mean((2, 3)))


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, ActiveNorm])
def test_squeezed_channels_go_and_no_running_statistics_move(norm: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = Squeeze(norm)
    masked = prune(model, L1(), amount=2, unit="neuron", layers=["reduce"]).model
    result = shrink(masked, (3, 8, 8))
    assert {layer.name: layer.after for layer in result.layers} == {"conv": 8, "reduce": 2, "expand": 8}
    x = torch.randn(5, 3, 8, 8)
    assert torch.allclose(result.model.eval()(x), masked.eval()(x), atol=1e-6)
    assert result.model.norm.running_mean.eq(0).all() and result.model.norm.num_batches_tracked == 0
    assert shrink(model, (3, 8, 8), amount=0.25).parameters_after < result.parameters_before
