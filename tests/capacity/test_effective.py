"""effective=True: hand-computed cases, depth, and brute force on random graphs."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from capacity import InputError, dense_capacity, measure


def dense_net(inputs: int, units: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in zip([inputs, *units], units, strict=False):
        layers += [nn.Linear(before, after), nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.5)
    return model


def silence(layer: nn.Linear | nn.Conv2d, *units: int) -> None:
    with torch.no_grad():
        for unit in units:
            layer.weight[unit] = 0
            if layer.bias is not None:
                layer.bias[unit] = 0


@given(st.integers(1, 6), st.integers(2, 6), st.integers(1, 6), st.data())
@settings(max_examples=30, deadline=None)
def test_silenced_units_leave_the_capacity_of_the_smaller_net(a: int, b: int, c: int, data) -> None:
    model = dense_net(a, [b, c, 2])
    gone = data.draw(st.integers(0, b - 1))
    silence(model[0], *range(gone))
    assert measure(model, (a,), effective=True).capacity_bits == dense_capacity(a, [b - gone, c, 2])


@pytest.mark.slow
def test_report_a_squeezed_by_masks() -> None:
    with torch.no_grad():
        model = dense_net(25088, [4096, 4096, 256, 10])
        silence(model[0], *range(0, 2000, 20))
    assert measure(model, (25088,), effective=True).capacity_bits == 100_263_992


def test_a_unit_that_reaches_nothing_stores_nothing() -> None:
    model = dense_net(3, [4, 2])
    with torch.no_grad():
        model[2].weight[:, 1] = 0
    report = measure(model, (3,), effective=True)
    assert report.capacity_bits == dense_capacity(3, [3, 2])
    assert [layer.parameters for layer in report.layers] == [12, 8]


def test_a_constant_unit_emits_nothing() -> None:
    model = dense_net(3, [4, 2])
    with torch.no_grad():
        model[0].weight[0] = 0  # its bias alone makes a constant, which the next bias can hold
    assert measure(model, (3,), effective=True).capacity_bits == dense_capacity(3, [3, 2])


def test_a_cut_network_stores_nothing() -> None:
    model = dense_net(3, [4, 4, 2])
    silence(model[2], 0, 1, 2, 3)
    report = measure(model, (3,), effective=True)
    assert report.capacity_bits == 0 and report.parameters == 0


def test_channels_behind_batch_norm_and_pooling() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(3, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 2),
    )  # fmt: skip
    with torch.no_grad():
        for module in model:
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.fill_(1), module.bias.fill_(1)
        model[1].weight[2] = 0  # channel 2 becomes the constant beta
        model[1].bias.fill_(3)
        model[1].running_mean.fill_(100)  # all rectifiers closed for typical data: still live
    silence(model[4], 0)
    report = {layer.name: layer for layer in measure(model, (1, 8, 8), effective=True).layers}
    assert report["0"].parameters == 2 * 10 and report["4"].input_bits == 2 * 16
    assert report["4"].parameters == 4 * 3 and report["7"].input_bits == 4


class Residual(nn.Module):
    """first feeds the shortcut and inner; last sees their sum."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner, self.last = (nn.Linear(3, 3, bias=False) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        before = torch.relu(self.first(x))
        return self.last(before + torch.relu(self.inner(before)))


def test_a_shortcut_keeps_a_silenced_unit_alive() -> None:
    model = Residual()
    silence(model.inner, 0)
    report = {layer.name: layer for layer in measure(model, (3,), effective=True).layers}
    assert report["first"].parameters == 9 and report["inner"].parameters == 6
    assert report["last"].input_bits == 3  # unit 0 still carries the shortcut
    silence(model.first, 0)
    report = {layer.name: layer for layer in measure(model, (3,), effective=True).layers}
    assert report["last"].input_bits == 2 and report["inner"].input_bits == 2


def test_paths_that_end_in_differences_and_saturation_are_live() -> None:
    class Difference(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.out = (nn.Linear(2, 2, bias=False) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            return self.out(torch.relu(1 - self.one(x)) + torch.sigmoid(1e6 * self.two(x)) - 1)

    assert measure(Difference(), (2,), effective=True).parameters == 12


def test_two_hundred_layers_neither_overflow_nor_vanish() -> None:
    for factor in (1e-3, 1e3):
        model = dense_net(8, [8] * 200)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(factor)
        assert measure(model, (8,), effective=True).parameters == 200 * 72


class Graph(nn.Module):
    """Dense layers, each over a concatenation of earlier outputs, with a shortcut where widths agree."""

    def __init__(
        self, plan: list[tuple[int, list[int], bool]], ends: list[int], seed: int, density: float
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.plan, self.ends, self.layers = plan, ends, nn.ModuleList()
        widths = [3]
        for width, sources, _ in plan:
            layer = nn.Linear(sum(widths[s] for s in sources), width, bias=False, dtype=torch.float64)
            shape = layer.weight.shape
            with torch.no_grad():
                layer.weight.copy_(torch.randn(shape, generator=generator, dtype=torch.float64))
                layer.weight.mul_(torch.rand(shape, generator=generator) < density)
            self.layers.append(layer)
            widths.append(width)

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for layer, (width, sources, shortcut) in zip(self.layers, self.plan, strict=True):
            value = torch.tanh(layer(torch.cat([values[s] for s in sources], 1)))
            if shortcut and values[sources[-1]].shape[1] == width:
                value = value + values[sources[-1]]
            values.append(value)
        return torch.cat([values[e] for e in self.ends], 1)


@st.composite
def graphs(draw) -> Graph:
    count = draw(st.integers(1, 4))
    plan = []
    for place in range(count):
        sources = draw(st.lists(st.integers(0, place), min_size=1, max_size=2, unique=True))
        plan.append((draw(st.integers(1, 3)), sources, draw(st.booleans())))
    ends = draw(st.lists(st.integers(1, count), min_size=1, max_size=2, unique=True))
    return Graph(plan, ends, draw(st.integers(0, 99)), draw(st.sampled_from([0.3, 0.6, 1.0])))


@given(graphs())
@settings(max_examples=60, deadline=None)
def test_agrees_with_brute_force(model: Graph) -> None:
    """A non-zero weight is live if setting it to a random value can change the output."""
    x = torch.randn(16, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = {}
        before = model(x)
        for number, layer in enumerate(model.layers):
            live, flat = 0, layer.weight.view(-1)
            for place in flat.nonzero().flatten().tolist():
                kept = flat[place].item()
                flat[place] = 0.123456
                live += bool((model(x) != before).any())
                flat[place] = kept
            expected[f"layers.{number}"] = live
    found = {layer.name: layer.parameters for layer in measure(model, (3,), effective=True).layers}
    assert found == expected


@given(graphs())
@settings(max_examples=20, deadline=None)
def test_capacity_never_grows_when_a_weight_is_removed(model: Graph) -> None:
    before = measure(model, (3,), effective=True)
    assert before.capacity_bits <= measure(model, (3,)).capacity_bits
    layer = model.layers[0]
    with torch.no_grad():
        layer.weight.view(-1)[0] = 0
    assert measure(model, (3,), effective=True).capacity_bits <= before.capacity_bits


def test_nan_weights_and_meta_models_are_refused() -> None:
    model = dense_net(3, [2, 2])
    with torch.no_grad():
        model[2].weight[0, 0] = torch.nan
    with pytest.raises(InputError, match=r"layer '2': weight holds NaN"):
        measure(model, (3,), effective=True)
    with pytest.raises(InputError, match="meta device"):
        measure(nn.Linear(3, 2, device="meta"), (3,), effective=True)


def test_what_is_left_out_though_it_is_not_zero_is_told() -> None:
    model = dense_net(3, [4, 2])
    assert measure(model, (3,), effective=True).notes == ()
    with torch.no_grad():
        model[0].weight[0] = 0
    (note,) = measure(model, (3,), effective=True).notes
    assert note.startswith("3 of 23 parameters that are not zero: on no path that data take to an output")
