"""What swallows a NaN is alive all the same: each kind of operation, module and output, and brute force."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from capacity import measure
from capacity.effective import UNDECIDED
from capacity.live import live_masks, used_masks
from compression.shrinking.silencing import zero_dead_parameters


class Between(nn.Module):
    """Two dense layers with a function of the hidden units between them."""

    def __init__(self, function) -> None:
        super().__init__()
        self.first, self.last, self.function = nn.Linear(4, 6), nn.Linear(6, 2), function

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.first(x)))


def in_place(h: Tensor) -> Tensor:
    h[h < 0] = 0
    h *= 2
    return h.clamp_(-1, 1)


SATURATING = {
    "hardtanh": nn.Hardtanh(), "relu6": nn.ReLU6(inplace=True), "hardsigmoid": nn.Hardsigmoid(),
    "hardswish": nn.Hardswish(), "clamp": lambda h: h.clamp(0, 1),
    "where": lambda h: torch.where(h > 0, h, 0.0),
    "where zeros": lambda h: torch.where(h > 0, h, torch.zeros_like(h)),
    "fmax": lambda h: torch.fmax(h, torch.zeros(())), "nan_to_num": torch.nan_to_num,
    "maximum": lambda h: torch.maximum(h, torch.zeros(())), "threshold": nn.Threshold(0.1, 0.0),
    "masked_fill": lambda h: h.masked_fill(h < 0, 0.0), "in place": in_place,
    "rounded": lambda h: h + h.round(),
    "max pooling": lambda h: h + F.max_pool1d(h[:, None], 3, 1, 1)[:, 0],
    "largest": lambda h: h.amax(1, keepdim=True).expand_as(h), "softshrink": nn.Softshrink(),
    "sorted": lambda h: h.sort(1).values, "top": lambda h: h.topk(6, 1).values, "softmax": nn.Softmax(1),
    "no gradient": lambda h: h.detach(),
    "through numpy": lambda h: torch.from_numpy(h.detach().numpy().copy()),
    "step": lambda h: (h > 0).float(), "categories": lambda h: F.one_hot(h.argmax(1), 6).float(),
    "counts": lambda h: h.mul(10).long().float(),
}  # fmt: skip


@pytest.mark.parametrize("name", SATURATING)
def test_nothing_is_dead_where_nothing_is_zero(name: str) -> None:
    torch.manual_seed(0)
    model = Between(SATURATING[name])
    plain, found = measure(model, (4,)), measure(model, (4,), effective=True)
    assert (found.parameters, found.capacity_bits) == (plain.parameters, plain.capacity_bits) == (44, 36)
    hidden = "last: comparisons or casts hide which of its inputs live: all count as alive"
    assert (hidden in found.notes) == (name in ("step", "categories", "counts"))


@pytest.mark.parametrize("name", [name for name in SATURATING if name not in (
    "no gradient", "through numpy", "step", "categories", "counts", "largest", "sorted", "top", "softmax",
    "max pooling")])  # fmt: skip
def test_a_unit_cut_off_is_dead_behind_any_activation(name: str) -> None:
    torch.manual_seed(0)
    model = Between(SATURATING[name])
    with torch.no_grad():
        model.last.weight[:, 2] = 0
        model.first.weight[4] = 0
    masks = live_masks(model, (4,))
    assert masks["first.weight"].any(1).tolist() == [True, True, False, True, False, True]
    assert masks["last.weight"].any(0).tolist() == [True, True, False, True, False, True]
    assert masks["first.bias"].tolist() == [True, True, False, True, False, True]
    assert not any(UNDECIDED in note for note in measure(model, (4,), effective=True).notes)


class Functional(nn.Module):
    """A layer's weight used without calling the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.o = nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.o(torch.relu(F.linear(x, self.a.weight, self.a.bias)))


class Listed(nn.Module):
    """Parameters in a list and in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(torch.randn(6, 6))])
        self.named = nn.ParameterDict({"out": nn.Parameter(torch.randn(6, 4))})

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x @ self.weights[0]) @ self.named["out"]


class Standardized(nn.Conv2d):
    """A convolution with a forward of its own."""

    def forward(self, x: Tensor) -> Tensor:
        weight = (self.weight - self.weight.mean((1, 2, 3), True)) / self.weight.std((1, 2, 3), keepdim=True)
        return F.conv2d(x, weight, self.bias)


class Twice(nn.Module):
    """A layer that returns one tensor twice."""

    def __init__(self) -> None:
        super().__init__()
        self.own, self.out = nn.Parameter(torch.randn(6)), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        one, two = self._pair(x * self.own)
        return self.out(one + two)

    def _pair(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class Doubled(nn.LSTM):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        found = super().forward(x)[0]
        return found, found


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.recurrent, self.out = Doubled(6, 3, batch_first=True), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        one, two = self.recurrent(x[:, None])
        return self.out(one + two)


class Routed(nn.Module):
    """The way through depends on the data."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.experts = nn.Linear(6, 2), nn.ModuleList(nn.Linear(6, 3) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.experts[0](x) if float(self.gate(x)[0, 0]) > 0 else self.experts[1](x)


class Cast(nn.Module):
    """Numbers that become token ids inside."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.last = nn.Embedding(8, 5), nn.Linear(30, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.table(x.long().clamp(0, 7)).flatten(1))


class OneHot(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(12, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(F.one_hot(x.long().clamp(0, 1), 2).flatten(1).to(x.dtype))))


class Policy(nn.Module):
    """Outputs that are distributions."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.mean, self.choice = nn.Linear(6, 5), nn.Linear(5, 2), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> tuple[torch.distributions.Distribution, ...]:
        h = torch.tanh(self.body(x))
        normal = torch.distributions.Normal(self.mean(h), 1.0)
        return torch.distributions.Independent(normal, 1), torch.distributions.Categorical(
            logits=self.choice(h)
        )


def weight_normed() -> nn.Module:
    first = nn.utils.weight_norm(nn.Linear(6, 8))
    return nn.Sequential(first, nn.ReLU(), nn.Linear(8, 3))


def standardized() -> nn.Module:
    return nn.Sequential(Standardized(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4))


def pooled() -> nn.Module:
    body = [nn.Conv2d(1, 3, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 5), nn.Unflatten(1, (1, 5))]
    return nn.Sequential(*body, nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(1, 2))


MODULES = {
    "functional": (Functional, (6,)), "lists": (Listed, (6,)), "weight norm": (weight_normed, (6,)),
    "own forward": (standardized, (3, 8, 8)),
    "one tensor twice": (Twice, (6,)), "recurrent twice": (Pair, (6,)), "casts": (Cast, (6,)),
    "one-hot": (OneHot, (6,)), "distributions": (Policy, (6,)),
    "attention": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (3, 8)),
    "pooling": (pooled, (1, 8, 8)),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODULES)
def test_modules_of_other_forms_are_alive(name: str) -> None:
    torch.manual_seed(0)
    make, size = MODULES[name]
    model = make().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.01 * (parameter == 0)
    plain, found = measure(model, size), measure(model, size, effective=True)
    assert (found.parameters, found.capacity_bits) == (plain.parameters, plain.capacity_bits)
    assert found.capacity_bits > 0 and not any("reached" in note for note in found.notes)
    assert all(bool((parameter != 0).all()) for parameter in zero_dead_parameters(model, size).parameters())


def test_where_the_way_depends_on_the_data_all_is_alive_and_said_so() -> None:
    torch.manual_seed(0)
    report = measure(Routed(), (6,), effective=True)
    assert any("could not be decided" in note for note in report.notes)
    assert sum(int(mask.sum()) for mask in live_masks(Routed(), (6,)).values()) == 14 + 42


ACTIVATIONS = [
    nn.Hardtanh(), nn.ReLU6(), nn.Tanh(), nn.ReLU(inplace=True), nn.Softshrink(0.1), torch.nan_to_num,
    lambda h: torch.where(h > 0, h, torch.zeros_like(h)), lambda h: torch.fmax(h, torch.zeros(())),
    lambda h: h.clamp(0, 1),
]  # fmt: skip
CONSTANT = [nn.Hardsigmoid(), nn.Sigmoid(), lambda h: (h + 1).clamp(0, 2)]  # which make something of nothing
STEPS = [
    "dense",
    "mixed",
    "conv",
    "concat",
    "shortcut",
    "max",
    "mean",
    "mask",
    "batch norm",
    "layer norm",
    "places",
    "table",
]


class Masked(nn.Module):
    """A mask in the forward."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("keep", (torch.rand(channels, 1) < 0.7).double())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.keep


class Table(nn.Module):
    """Numbers cast to integers, which choose a row."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Embedding(4, 3, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return self.rows((2 * x).long().clamp(0, 3)).mean(-1)


class Places(nn.Module):
    """A layer that sees numbers of the model's own only, added to what comes."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("places", torch.tensor([1.0, 0.0, -2.0], dtype=torch.float64))
        self.table = nn.Linear(3, 4, bias=False, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table(self.places)


class Web(nn.Module):
    """Steps over maps of (channels, 4), each with an activation; constants only where asked for."""

    def __init__(self, steps: list[tuple[str, int, int]], constants: bool, density: float) -> None:
        super().__init__()
        self.steps, self.layers = steps, nn.ModuleList()
        channels, real = [2], {"bias": constants, "dtype": torch.float64}
        self.acts = ACTIVATIONS + CONSTANT * constants
        for kind, source, other in steps:
            width = channels[source % len(channels)]
            layer: nn.Module = nn.Identity()
            if kind == "dense":
                layer = nn.Linear(4, 4, **real)
            elif kind in ("mixed", "conv", "concat"):
                width += channels[other % len(channels)] if kind == "concat" else 0
                size = 3 if kind == "conv" else 1
                layer = nn.Conv1d(width, 1 + other % 3, size, padding=size // 2, **real)
                width = 1 + other % 3
            elif kind == "max":
                layer = nn.MaxPool1d(3, 1, 1)
            elif kind == "mean":
                layer = nn.AvgPool1d(3, 1, 1)
            elif kind == "mask":
                layer = Masked(width)
            elif kind == "batch norm":
                layer = nn.BatchNorm1d(width, dtype=torch.float64)
                layer.running_mean.normal_(0, float(constants))
            elif kind == "layer norm":
                layer = nn.LayerNorm(4, **real)
            elif kind == "places":
                layer = Places()
            elif kind == "table" and constants:
                layer = Table()
            self.layers.append(layer)
            channels.append(width)
        self.last = nn.Linear(4 * channels[-1], 2, **real)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                parameter.copy_(torch.randn_like(parameter) * (torch.rand(parameter.shape) < density))
                if not constants and name.endswith("bias"):
                    parameter.zero_()
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for layer, (kind, source, other) in zip(self.layers, self.steps, strict=True):
            value = values[source % len(values)]
            if kind == "concat":
                value = torch.cat([value, values[other % len(values)]], 1)
            after = self.acts[(source + other) % len(self.acts)](layer(value).clone())
            if kind == "shortcut" and values[other % len(values)].shape == after.shape:
                after = after + values[other % len(values)]
            values.append(after)
        return self.last(values[-1].flatten(1))


@st.composite
def webs(draw, constants: bool, norms: bool = True) -> Web:
    left_out = (set() if constants else {"table"}) | (set() if norms else {"batch norm", "layer norm"})
    kinds = [kind for kind in STEPS if kind not in left_out]
    steps = draw(
        st.lists(
            st.tuples(st.sampled_from(kinds), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=6
        )
    )
    torch.manual_seed(draw(st.integers(0, 999)))
    return Web(steps, constants, draw(st.sampled_from([0.3, 0.6, 0.9])))


def inputs_of_many_sizes() -> Tensor:
    drawn = torch.randn(64, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return drawn * torch.logspace(-1, 1.5, 64, dtype=torch.float64).view(-1, 1, 1)


def check_that_the_dead_change_nothing(model: Web) -> None:
    x, masks = inputs_of_many_sizes(), live_masks(model, (2, 4))
    with torch.no_grad():
        for _ in range(4):
            before = model(x)
            kept = {name: parameter.clone() for name, parameter in model.named_parameters()}
            for name, parameter in model.named_parameters():
                dead = (parameter != 0) & ~masks[name]
                parameter.copy_(torch.where(dead, torch.randn_like(parameter) * 3, parameter))
            assert torch.equal(model(x), before)
            for name, parameter in model.named_parameters():
                parameter.copy_(kept[name] * (0.5 + torch.rand_like(parameter)))


def check_that_what_is_unused_can_be_zero(model: Web) -> None:
    x, masks = inputs_of_many_sizes(), used_masks(model, (2, 4))
    with torch.no_grad():
        before = model(x)
        for name, parameter in model.named_parameters():
            parameter.mul_(masks[name])
        torch.testing.assert_close(model(x), before, rtol=1e-9, atol=1e-9)


def check_that_the_live_change_something(model: Web) -> None:
    x, masks = inputs_of_many_sizes(), live_masks(model, (2, 4))
    parameters = {n: p for n, p in model.named_parameters() if isinstance(
        model.get_submodule(n.rpartition(".")[0]), nn.Linear | nn.Conv1d)}  # fmt: skip
    left = {(n, i) for n, p in parameters.items() for i in masks[n].flatten().nonzero().flatten().tolist()}
    with torch.no_grad():
        for _ in range(400):  # in a chain of layers that clip, most draws let a weight say nothing
            for p in parameters.values():
                p.copy_(torch.randn_like(p) * (p != 0))
            before = model(x)
            for name, place in sorted(left):
                flat = parameters[name].view(-1)
                value = flat[place].item()
                flat[place] = value + 0.7
                left -= {(name, place)} if bool((model(x) != before).any()) else set()
                flat[place] = value
            if not left:
                break
    assert not left


@given(webs(constants=False))
@settings(max_examples=40, deadline=None)
def test_the_dead_change_nothing(model: Web) -> None:
    check_that_the_dead_change_nothing(model)


@given(webs(constants=True))
@settings(max_examples=30, deadline=None)
def test_what_is_unused_can_be_zero(model: Web) -> None:
    check_that_what_is_unused_can_be_zero(model)


@given(webs(constants=False, norms=False))  # a norm can make a constant of what varies
@settings(max_examples=20, deadline=None)
def test_the_live_change_something(model: Web) -> None:
    check_that_the_live_change_something(model)


@pytest.mark.slow
@given(webs(constants=False), webs(constants=True))
@settings(max_examples=1000, deadline=None)
def test_a_thousand_graphs(silent: Web, filled: Web) -> None:
    check_that_the_dead_change_nothing(silent)
    check_that_what_is_unused_can_be_zero(filled)
