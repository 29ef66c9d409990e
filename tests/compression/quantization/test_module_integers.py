"""Integers in a model's own modules: the graph's rounding, what is stored, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import is_parametrized
from unexported import IDS, Branch, Routed, in_modules

from capacity import InputError, measure
from capacity.cloning import clone, plain_copy
from compression.codec import decode, encode
from compression.counting import rounded_tensors
from compression.quantization import (
    export_onnx,
    load_quantized,
    quantize,
    save_quantized,
)
from compression.quantization.module_integers import Integers, store_integers
from compression.quantization.stored_integers import rounds_activations
from compression.recipes import recipe
from compression.techniques import quantizing
from compression.verification import relative_difference

LAYERS: dict[str, tuple[nn.Module, Any]] = {
    "dense": (nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), (6,)),
    "convolutions": (
        nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.Conv2d(8, 6, 3), nn.Flatten(), nn.Linear(96, 3)),
        (4, 8, 8)),
    "transposed": (nn.Sequential(nn.ConvTranspose2d(3, 8, 2), nn.Flatten(), nn.Linear(648, 3)), (3, 8, 8)),
    "attention": (nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)), (4, 8)),
}  # fmt: skip


@pytest.fixture(scope="module")
def routed() -> Routed:
    torch.manual_seed(0)
    return Routed().eval()


@pytest.mark.parametrize(("bits", "group_size"), [(8, None), (4, None), (4, 16)])
@pytest.mark.parametrize("name", LAYERS)
def test_the_same_integers_as_in_a_graph(name: str, bits: Any, group_size: int | None) -> None:
    model, size = LAYERS[name]
    graph = quantize(
        model, scheme="weight-only", input_size=size, weight_bits=bits, group_size=group_size
    ).model
    own = clone(model).eval()
    store_integers(own, bits, group_size, ())
    integers = [
        [
            t.flatten().sort().values
            for t in one.state_dict().values()
            if t.dtype == torch.int8 and t.dim() > 1
        ]
        for one in (graph, own)
    ]
    assert sorted(map(Tensor.tolist, integers[0])) == sorted(map(Tensor.tolist, integers[1]))
    x = torch.randn(2, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert relative_difference([[graph(x)]], [[own(x)]]) < 1e-5


def test_a_scale_for_each_output_of_a_transposed_convolution() -> None:
    model, size = LAYERS["transposed"]
    state = quantize(model, scheme="weight-only", input_size=size).model.state_dict()
    weight = model.get_parameter("0.weight").detach()
    scales = next(t for name, t in state.items() if name.startswith("_scale") and len(t) == 8)
    low, high = weight.amin((0, 2, 3)) / -128, weight.amax((0, 2, 3)) / 127
    assert torch.allclose(scales, torch.maximum(low, high), rtol=0.02)


@given(
    st.sampled_from([(5, 6), (4, 6, 3), (3, 4, 2, 2)]), st.sampled_from([0, 1]), st.sampled_from([4, 8]),
    st.sampled_from([None, 1, 6]), st.integers(0, 99),
)  # fmt: skip
def test_each_weight_is_within_half_a_step(
    shape: tuple[int, ...], axis: int, bits: int, group_size: int | None, seed: int
) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    weight[0, 0] = 0.0
    parts = Integers(axis, bits, group_size)
    (integers,) = parts.right_inverse(weight)
    read = parts(integers)
    assert integers.dtype == torch.int8 and read.shape == weight.shape
    assert -(2 ** (bits - 1)) <= int(integers.min()) and int(integers.max()) < 2 ** (bits - 1)
    assert not read[0, 0].any()
    units = [t.movedim(axis, 0).reshape(*parts.scales.shape, -1) for t in (weight, read)]
    inside = (units[0] / parts.scales[..., None]).abs() <= 2 ** (bits - 1) - 1
    assert bool(((units[0] - units[1]).abs() <= 0.501 * parts.scales[..., None])[inside].all())


def test_a_golden_case() -> None:
    parts = Integers(0, 8, None)
    weight = torch.tensor([[1.27, -0.5, 0.0], [0.3, -2.56, 0.02]])
    (integers,) = parts.right_inverse(weight)
    assert parts.scales.tolist() == pytest.approx([0.01, 0.02], rel=0.01)
    assert integers.tolist() == [[127, -50, 0], [15, -128, 1]]  # of 127.5 steps each side


def test_what_cannot_be_exported_keeps_its_modules(routed: Routed) -> None:
    before = {name: value.clone() for name, value in routed.state_dict().items()}
    result = quantize(routed, scheme="weight-only", input_size=IDS)
    assert "depends on the data" in result.not_exported and "depends on the data" in str(result)
    assert result.left_in_float == {
        "embedding": "an embedding reads it in float",
        "recurrent.weight_ih_l0": "a GRU reads it in float",
        "recurrent.weight_hh_l0": "a GRU reads it in float",
        "bare": "a Routed reads it in float",
    }
    rounded = {"gate": 16, "experts.0": 64, "experts.1": 64, "first": 64}
    assert {layer.name: layer.elements for layer in result.layers if not layer.reason} == rounded
    floats = 240 + 2 * 192 + 2 * 24 + 64 + 2 + 4 * 8
    scales = 2 + 3 * 8
    assert result.bytes_before == 4 * (floats + 208)
    assert result.bytes_after == 4 * (floats + scales) + 208
    assert result.float_parameters == floats - 34
    assert type(result.model).__name__ == "Routed"
    with torch.no_grad():
        assert relative_difference([[routed(IDS)]], [[result.model(IDS)]]) < 0.05
    assert all(torch.equal(value, routed.state_dict()[name]) for name, value in before.items())
    assert result.model.second.weight.equal(result.model.first.weight)
    assert not result.model.first.weight.equal(routed.first.weight)


def test_what_the_rest_of_the_package_says_of_it(routed: Routed, tmp_path: Path) -> None:
    small = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 2))
    store_integers(small, 8, None, ())
    report = measure(small, (6,))
    assert (
        report.capacity_bits == measure(nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 2)), (6,)).capacity_bits
    )
    assert report.storage_bits == 8 * 32 + 32 * 6
    assert report.total_parameters == 38
    result = quantize(routed, scheme="weight-only", input_size=IDS)
    assert torch.equal(clone(result.model)(IDS), result.model(IDS))
    with pytest.raises(InputError, match="quantized already"):
        quantize(result.model, scheme="weight-only", input_size=IDS)
    with pytest.raises(InputError, match=r"cannot be exported to ONNX: its way depends on the data"):
        export_onnx(result.model, tmp_path / "net.onnx", input_size=IDS)
    with pytest.raises(InputError, match=r"cannot be exported for quantization: its way depends"):
        quantize(routed, scheme="dynamic", input_size=IDS)


def test_nothing_is_written_where_a_graph_fails(routed: Routed, capfd: Any) -> None:
    quantize(routed, scheme="weight-only", input_size=IDS)
    assert capfd.readouterr() == ("", "")


def test_weights_read_past_their_layer_are_refused() -> None:
    class Past(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, self.layer._parameters["weight"])

    with pytest.raises(InputError, match=r"nor can its own modules hold integers: .*'weight'"):
        quantize(nn.Sequential(Past(), Branch()), scheme="weight-only", input_size=(4,))


def test_what_computes_otherwise_than_its_floats_is_refused() -> None:
    class Odd(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            offset = 1.0 if is_parametrized(self) and float(x.sum()) < 9e9 else 0.0
            return super().forward(x) + offset

    with pytest.raises(InputError, match="computes otherwise than with the floats"):
        quantize(nn.Sequential(Odd(4, 3), Branch()), scheme="weight-only", input_size=(4,))


class Held(nn.Linear):
    """Reads its weight from a list too."""

    def __init__(self) -> None:
        super().__init__(6, 4)
        self.weights = [self.weight]

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weights[0], self.bias)


class Remembering(nn.Linear):
    """Keeps what its first pass makes of its weight."""

    table: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.table is None:
            self.table = (self.weight / self.weight.norm()).detach()
        return F.linear(x, self.table, self.bias)


def test_weights_that_something_else_holds_are_a_refusal() -> None:
    with pytest.raises(InputError, match="computes otherwise than with the floats"):
        quantize(in_modules(Held(), nn.Linear(4, 3)), scheme="weight-only", input_size=(6,))


def test_what_an_earlier_pass_made_of_weights_is_a_refusal(tmp_path: Path) -> None:
    model = in_modules(Remembering(6, 4), nn.Linear(4, 3))
    fresh = clone(model)
    result = quantize(fresh, scheme="weight-only", input_size=(6,))
    save_quantized(result, tmp_path / "net")
    x = torch.ones(2, 6)
    loaded = load_quantized(in_modules(Remembering(6, 4), nn.Linear(4, 3)), tmp_path / "net", input_size=(6,))
    assert torch.equal(loaded(x), result.model(x))
    model(x)
    with pytest.raises(InputError, match=r"weight of '0' is not read, .*0.table.*: quantize a model"):
        quantize(model, scheme="weight-only", input_size=(6,))


@pytest.mark.parametrize("exported", [True, False])
def test_a_state_stays_as_it_was(tmp_path: Path, exported: bool) -> None:
    class Recurring(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)
            self.register_buffer("state", torch.zeros(3))

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.layer(x) + self.state
            self.state.copy_(y.mean(0))
            return y

    model = nn.Sequential(Recurring()) if exported else in_modules(Recurring())
    result = quantize(model, scheme="weight-only", input_size=(4,))
    assert bool(result.not_exported) != exported
    assert not result.model.state_dict()["0.state"].any() and not model[0].state.any()
    save_quantized(result, tmp_path / "net")
    loaded = load_quantized(model, tmp_path / "net", input_size=(4,))
    assert torch.equal(loaded.state_dict()["0.state"], torch.zeros(3))
    x = torch.ones(2, 4)
    assert torch.equal(loaded(x), result.model(x))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_channels_of_transposed_convolutions_in_groups(groups: int) -> None:
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(4, 4, 2, groups=groups)
    with torch.no_grad():
        sizes = torch.tensor([0.01, 0.1, 1.0, 10.0])
        layer.weight *= sizes.view((1, -1, 1, 1) if groups == 1 else (-1, 1, 1, 1))
    own = clone(layer)
    store_integers(own, 8, None, ())
    error = ((own.weight - layer.weight).abs() / layer.weight.abs().amax((2, 3), keepdim=True)).max()
    assert error < 0.05
    graph = quantize(layer, scheme="weight-only", input_size=(4, 5, 5)).model
    x = torch.randn(2, 4, 5, 5)
    assert relative_difference([[graph(x)]], [[own(x)]]) < 1e-5


def test_shared_biases_and_memory_are_counted_once() -> None:
    model = in_modules(nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6))
    model[1].bias = model[0].bias
    model[3].weight = nn.Parameter(model[2].weight.data)
    result = quantize(model, scheme="weight-only", input_size=(6,))
    shared = "it shares its memory with another parameter"
    assert result.left_in_float == {"2": shared, "3": shared}
    assert result.float_parameters == 36 + 2 * 6


def test_coded_as_integers(tmp_path: Path) -> None:
    model = in_modules(nn.Linear(200, 100), nn.Linear(100, 3))
    result = quantize(model, scheme="weight-only", input_size=(200,))
    size = encode(result.model, tmp_path / "net.dcz")
    assert size < 1.04 * result.bytes_after < 0.35 * encode(model, tmp_path / "float.dcz")
    other = in_modules(nn.Linear(200, 100), nn.Linear(100, 3))
    decoded = decode(tmp_path / "net.dcz", quantize(other, scheme="weight-only", input_size=(200,)).model)
    x = torch.randn(2, 200)
    assert torch.equal(decoded(x), result.model(x))
    step = recipe(
        model, [quantizing((200,), scheme="weight-only")], input_size=(200,), evaluate=lambda m: {}, repeats=1
    ).steps[-1]
    assert abs(step.metrics["file_bytes"] - size) < 0.02 * size


def test_a_graph_whose_names_say_dequantize() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, dequantized: Tensor) -> Tensor:
            out: Tensor = self.layer(dequantized)
            return out

    result = quantize(torch.fx.symbolic_trace(Named()), scheme="weight-only", input_size=(4,))
    assert not result.left_in_float


def test_layers_without_elements_stay_in_float(capfd: Any) -> None:
    model = in_modules(nn.Linear(6, 4), nn.Linear(4, 0), nn.Linear(0, 2))
    result = quantize(model, scheme="weight-only", input_size=(6,))
    assert result.left_in_float == {"1": "it has no elements", "2": "it has no elements"}
    assert capfd.readouterr() == ("", "")


def test_a_graph_that_rounds_activations_only_is_quantized_already() -> None:
    model = nn.Sequential(nn.Conv2d(2, 2, 1), nn.Flatten(), nn.Linear(8, 4))
    calibration = [(torch.randn(4, 2, 2, 2), torch.zeros(4, dtype=torch.long))]
    graph = quantize(model, scheme="static", input_size=(2, 2, 2), calibration=calibration).model
    for node in graph.graph.nodes:
        if node.op == "get_attr" and node.target in rounded_tensors(graph):
            node.target = "0.bias"
    assert not rounded_tensors(graph) and rounds_activations(graph) and not rounds_activations(model)
    with pytest.raises(InputError, match="quantized already"):
        quantize(graph, scheme="weight-only", input_size=(2, 2, 2))


def test_what_a_first_pass_fills_stays_filled() -> None:
    class Filling(nn.Module):
        ready = False

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)
            self.register_buffer("places", torch.zeros(3))
            self.register_buffer("sparse", torch.eye(4).to_sparse())

        def forward(self, x: Tensor) -> Tensor:
            if not self.ready:
                self.places.copy_(torch.arange(3.0) * 5)
                self.ready = True
            out: Tensor = self.layer(torch.sparse.mm(self.sparse, x.T).T) + self.places
            return out

    x = torch.randn(2, 4)
    for model in (Filling(), in_modules(Filling())):
        fresh = clone(model)
        result = quantize(fresh, scheme="weight-only", input_size=(4,))
        assert relative_difference([[model(x)]], [[result.model(x)]]) < 0.02


def test_experts_that_no_example_reaches_beside_tensors_of_the_models_own() -> None:
    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.scale = nn.Linear(4, 3), nn.Linear(4, 3), torch.arange(4.0)

        def forward(self, x: Tensor) -> Tensor:
            x = x * self.scale
            out: Tensor = self.one(x) if float(x.mean()) > 1e9 else self.two(x)
            return out

    result = quantize(Experts(), scheme="weight-only", input_size=(4,))
    assert not result.left_in_float and result.not_exported


def test_coded_when_integers_were_folded_too(tmp_path: Path) -> None:
    model = in_modules(nn.Linear(6, 4))
    result = quantize(model, scheme="weight-only", input_size=(6,))
    encode(plain_copy(result.model), tmp_path / "net.dcz")
    x = torch.randn(2, 6)
    assert torch.allclose(decode(tmp_path / "net.dcz", result.model)(x), result.model(x))
