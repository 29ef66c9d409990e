"""measure(): golden values on real modules, conventions, scopes, and a model left untouched."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import prune

from capacity import RULES, InputError, LayerRule, dense_capacity, measure
from capacity.tracing import _HollowProduct


def stack(inputs: int, units: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in zip([inputs, *units], units, strict=False):
        layers += [nn.Linear(before, after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-1])


@given(
    st.integers(1, 9), st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.sampled_from(["previous", "running", "uncapped"]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_a_stack_measures_as_the_formula(inputs: int, units: list[int], convention: str) -> None:
    report = measure(stack(inputs, units), (inputs,), convention=convention)
    assert report.capacity_bits == dense_capacity(inputs, units, convention=convention)


class Chain(nn.Module):
    """Three units; the raw inputs feed each of them, and each feeds the next."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(2, 1), nn.Linear(3, 1), nn.Linear(3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        one = torch.sigmoid(self.first(x))
        two = torch.sigmoid(self.second(torch.cat([x, one], 1)))
        return self.third(torch.cat([x, two], 1))


def test_units_that_see_raw_input_are_not_capped() -> None:
    report = measure(Chain(), (2,))
    assert [layer.capacity_bits for layer in report.layers] == [3, 4, 4]
    assert report.capacity_bits == 11
    assert [layer.sources for layer in report.layers] == [(), ("first",), ("second",)]


@pytest.mark.parametrize("squeezes", range(6))
def test_report_a_from_a_real_vgg16_on_the_meta_device(squeezes: int) -> None:
    from torchvision.models import vgg16

    with torch.device("meta"):
        model = vgg16()
        model.classifier = stack(25088, [4096 - 100 * squeezes, 4096, 256, 10])
    model.features.requires_grad_(False)
    report = measure(model, (3, 224, 224), scope="trainable")
    assert report.capacity_bits == 102_772_992 - 2_509_000 * squeezes
    assert measure(model, (3, 224, 224), scope=["classifier"]).capacity_bits == report.capacity_bits


def test_vgg16_and_alexnet_have_the_published_memory() -> None:
    from torchvision.models import alexnet, vgg16

    with torch.device("meta"):
        networks = {138_357_544: vgg16(), 61_100_840: alexnet()}
    for parameters, model in networks.items():
        assert measure(model, (3, 224, 224)).total_parameters == parameters
    assert round(138_357_544 * 4 / 2**20, 2) == 527.79
    assert round(61_100_840 * 4 / 2**20, 2) == 233.08 and round(61_100_840 * 4 / 1e6, 2) == 244.40


def test_a_small_convolutional_net_by_hand() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(2, 4, 3, padding=1, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3),
    )  # fmt: skip
    report = measure(model, (1, 8, 8))
    # 3·3·1 + 1 weights for each of 2 maps, from raw pixels; then 2 maps of 4x4 enter
    # (3·3·1 + 1)·4 parameters; then 4 maps of 4x4 enter 65·3 parameters.
    assert {layer.name: layer.capacity_bits for layer in report.layers} == {
        "0": 20, "1": 0, "4": min(40, 2 * 16), "7": min(195, 4 * 16),
    }  # fmt: skip
    assert {layer.name: layer.input_bits for layer in report.layers if layer.kind != "normalization"} == {
        "0": None, "4": 32, "7": 64,
    }  # fmt: skip


class Residual(nn.Module):
    """A shortcut keeps its width, a concatenation adds."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner, self.last = nn.Linear(5, 4), nn.Linear(4, 4), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        before = self.first(x).relu_()
        after = before + self.inner(before)
        return self.last(torch.cat([before, after], 1))


def test_shortcut_and_concatenation_by_hand() -> None:
    report = measure(Residual(), (5,))
    assert [layer.capacity_bits for layer in report.layers] == [24, 4, 8]
    assert report.layers[2].sources == ("first", "inner")
    # Under `running`, `first` passes on 4 bits and `inner` 4: 8 bits enter `last`.
    assert measure(Residual(), (5,), convention="running").capacity_bits == 24 + 4 + 8


def test_a_bottleneck_caps_what_follows_only_under_running() -> None:
    assert measure(stack(4, [9, 1, 9, 9]), (4,)).capacity_bits == 45 + 9 + 1 + 9
    assert measure(stack(4, [9, 1, 9, 9]), (4,), convention="running").capacity_bits == 45 + 9 + 1 + 1


def test_rows_stand_in_order_of_execution() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.norm, self.first = nn.Linear(3, 2), nn.LayerNorm(2), nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(self.last(self.first(x)))

    assert [layer.name for layer in measure(Backwards(), (4,)).layers] == ["first", "last", "norm"]


def test_an_unknown_layer_is_named_and_counted() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.scale

    model = nn.Sequential(nn.Linear(2, 3), Odd(), nn.Linear(3, 1))
    report = measure(model, (2,))
    assert report.layers[1].kind == "generic" and report.layers[1].capacity_bits == 3
    assert "1: no rule for its type" in str(report)

    def scaled(module: nn.Module, parameters: dict[str, int]) -> int:
        return 1

    mine = measure(model, (2,), rules={**RULES, Odd: scaled})
    assert mine.layers[1].kind == "scaled" and mine.layers[1].capacity_bits == 1 and not mine.notes


def test_a_rule_says_whether_its_modules_are_layers() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.scale

    model = nn.Sequential(nn.Linear(2, 3), Scale(), nn.Linear(3, 5))

    def rows(rule: LayerRule, effective: bool) -> list[tuple[str, int, tuple[str, ...]]]:
        report = measure(model, (2,), rules={**RULES, Scale: rule}, effective=effective)
        assert report.notes == ()
        return [(row.kind, row.capacity_bits, row.sources) for row in report.layers]

    for effective in (False, True):
        one = LayerRule("scale", lambda module, parameters: parameters["scale"] - 2)
        assert rows(one, effective) == [("dense", 9, ()), ("scale", 1, ("0",)), ("dense", 3, ("1",))]
        passed_on = LayerRule("scale", lambda module, parameters: 0, counted=False)
        assert rows(passed_on, effective) == [("dense", 9, ()), ("scale", 0, ()), ("dense", 3, ("0",))]


def test_a_layer_that_is_never_reached_is_named() -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(2, 2), nn.Linear(2, 7)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x)

    report = measure(Unused(), (2,))
    assert report.capacity_bits == 6 and report.total_parameters == 27
    assert "unused: not reached by a forward pass: its 21 parameters store nothing" in str(report)


def test_trainable_scope_makes_frozen_layers_data_path() -> None:
    model = stack(6, [5, 4, 3])
    model[0].requires_grad_(False)
    report = measure(model, (6,), scope="trainable")
    assert [(layer.name, layer.capacity_bits) for layer in report.layers] == [("2", 24), ("4", 4)]
    assert measure(model, (6,), scope=["4"]).capacity_bits == 15


@given(st.integers(1, 3), st.floats(0.1, 10))
@settings(max_examples=10, deadline=None)
def test_batch_size_and_input_scale_do_not_matter(batch: int, scale: float) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))
    assert measure(model, scale * torch.ones(batch, 1, 6, 6)).layers == measure(model, (1, 6, 6)).layers


def test_side_by_side_adds() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = stack(3, [4, 2]), stack(3, [5, 3])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([self.one(x), self.two(x)], 1)

    parts = dense_capacity(3, [4, 2]) + dense_capacity(3, [5, 3])
    assert measure(Both(), (3,)).capacity_bits == parts


def test_the_model_comes_back_untouched() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(), nn.BatchNorm1d(3), nn.Linear(3, 2)).train()
    model[0].weight.requires_grad_(False)
    model(torch.ones(2, 4)).sum().backward()
    calls: list[int] = []
    model[0].register_forward_hook(lambda *_: calls.append(1))
    before = copy.deepcopy(model.state_dict())
    gradient = model[3].weight.grad
    hooks = dict(model[0]._forward_hooks)
    for effective in (False, True):
        measure(model, (4,), effective=effective)
    assert model.training and model[1].training and not calls
    assert model[3].weight.grad is gradient and not model[0].weight.requires_grad
    assert dict(model[0]._forward_hooks) == hooks and "forward" not in model[0].__dict__
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert measure(copy.deepcopy(model), (4,)).layers == measure(model, (4,)).layers


def test_models_pruned_by_torch_can_be_measured_after_a_forward_pass() -> None:
    model = stack(4, [3, 2])
    prune.random_unstructured(model[0], "weight", 0.5)
    model(torch.ones(1, 4))
    assert measure(model, (4,)).capacity_bits == dense_capacity(4, [3, 2])
    assert measure(model, (4,), effective=True).parameters < 15 + 8


def test_no_weight_memory_is_touched() -> None:
    model = nn.Linear(4, 3)
    with torch.no_grad():
        model.weight.fill_(torch.nan)
    assert measure(model, (4,)).capacity_bits == 15


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_size": (5,)}, "cannot take an input of size"),
        ({"input_size": "wrong"}, "input_size must be the shape"),
        ({"input_size": (4,), "convention": "runing"}, "did you mean 'running'"),
        ({"input_size": (4,), "scope": "trainble"}, "did you mean 'trainable'"),
        ({"input_size": (4,), "scope": ["nowhere"]}, "unknown module in scope 'nowhere'"),
        ({"input_size": (4,), "scope": ["1"]}, "no parameters"),
    ],
)
def test_bad_input_is_refused_by_name(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        measure(stack(4, [3, 2]), **arguments)


def test_models_without_parameters_or_tensors_are_refused() -> None:
    class Silent(nn.Linear):
        def forward(self, x: torch.Tensor) -> None:  # type: ignore[override]
            super().forward(x)

    with pytest.raises(InputError, match="none at all"):
        measure(nn.ReLU(), (4,))
    with pytest.raises(InputError, match="returned no tensor"):
        measure(Silent(4, 2), (4,))
    with pytest.raises(InputError, match="not initialized"):
        measure(nn.LazyLinear(3), (4,))


def test_the_report_as_table_frame_and_latex() -> None:
    report = measure(stack(4, [3, 2]), (4,))
    text, frame, latex = str(report), report.to_frame(), report.to_latex(label="tab:mine")
    assert "convention 'previous'" in text and "18" in text and "no cap" in text
    assert list(frame["capacity_bits"]) == [15, 3] and frame["input_bits"].isna().tolist() == [True, False]
    assert r"\toprule" in latex and "tab:mine" in latex and "previous" in latex
    assert "total" in latex and ".0" not in latex


@pytest.mark.parametrize("norm", [nn.utils.parametrizations.weight_norm, nn.utils.weight_norm])
@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
def test_weights_made_of_more_parameters_are_told(norm) -> None:
    model = nn.Sequential(norm(nn.Linear(4, 8)), nn.ReLU(), nn.Linear(8, 2))
    report = measure(model, (4,))
    assert report.total_parameters == 66 and [row.parameters for row in report.layers] == [40, 18]
    assert report.notes[-1] == (
        "0: counted as the weights that its parametrizations make, 58 numbers of 66 parameters "
        "in the whole model"
    )
    assert not measure(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 8)), (4,)).notes


class Experts(nn.Module):
    """Each sample goes through the expert that its gate chooses; an auxiliary head is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.last, self.aside = nn.Linear(6, 3), nn.Linear(4, 2), nn.Linear(4, 2)
        self.experts = nn.ModuleList(nn.Linear(6, 4) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        choice, hidden = self.gate(x).argmax(-1), x.new_zeros(len(x), 4)
        for number, expert in enumerate(self.experts):
            chosen = choice == number
            if chosen.any():
                hidden[chosen] = expert(x[chosen])
        return self.last(hidden)


@pytest.mark.parametrize("effective", [False, True])
def test_experts_that_other_inputs_choose_count(effective: bool) -> None:
    torch.manual_seed(0)
    model = Experts()
    reports = [
        measure(model, (6,), convention=c, effective=effective) for c in ("uncapped", "previous", "running")
    ]
    rows = {row.name: row.capacity_bits for row in reports[1].layers}
    assert rows == {"gate": 21, "last": 4, "aside": 0} | {f"experts.{k}": 28 for k in range(3)}
    assert reports[0].capacity_bits >= reports[1].capacity_bits >= reports[2].capacity_bits
    assert [row.name for row in reports[1].layers][-2:] == ["last", "aside"]
    assert "reached by other inputs than the example" in str(reports[1])
    assert "aside: not reached by a forward pass" in str(reports[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_a_model_that_takes_gradients_of_its_own_within_a_pass(dtype: torch.dtype) -> None:
    class Backward(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(4, 3, dtype=dtype), nn.Linear(3, 2, dtype=dtype)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.one(x.to(dtype))
            y.abs().sum().backward(retain_graph=True)
            out: torch.Tensor = self.two(y).abs()
            return out

    report = measure(Backward(), (4,))
    assert {layer.name: layer.sources for layer in report.layers}["two"] == ("one",)
    assert not report.notes  # on the meta device


def test_what_dyes_multiply_has_the_gradients_of_a_product() -> None:
    for dtype in (torch.float64, torch.complex128):
        tensor = torch.randn(3, 2, dtype=dtype, requires_grad=True)
        dye = torch.ones((), dtype=dtype, requires_grad=True)
        weight = torch.randn(3, 2, dtype=dtype)
        found = torch.autograd.grad((_HollowProduct.apply(tensor, dye) * weight).sum().abs(), [tensor, dye])
        expected = torch.autograd.grad((tensor * dye * weight).sum().abs(), [tensor, dye])
        assert all(torch.allclose(one, two) for one, two in zip(found, expected, strict=True))
