"""Integers in a model's own modules: the graph's rounding, what is stored, files, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import is_parametrized

from capacity import InputError, measure
from capacity.cloning import clone
from compression.quantization import (
    export_onnx,
    load_quantized,
    quantize,
    save_quantized,
)
from compression.quantization.module_integers import Integers, store_integers
from compression.verification import relative_difference

LAYERS: dict[str, tuple[nn.Module, Any]] = {
    "dense": (nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), (6,)),
    "convolutions": (
        nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.Conv2d(8, 6, 3), nn.Flatten(), nn.Linear(96, 3)),
        (4, 8, 8)),
    "transposed": (nn.Sequential(nn.ConvTranspose2d(3, 8, 2), nn.Flatten(), nn.Linear(648, 3)), (3, 8, 8)),
    "attention": (nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)), (4, 8)),
}  # fmt: skip


class Routed(nn.Module):
    """One of two experts by the data, with a head tied to an embedding, two layers tied, and a recurrence."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(30, 8), nn.Linear(8, 30, bias=False)
        self.head.weight = self.embedding.weight
        self.gate = nn.Linear(8, 2)
        self.experts = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.second.weight = self.first.weight
        self.recurrent, self.bare = nn.GRU(8, 8, batch_first=True), nn.Parameter(torch.randn(8, 8))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.recurrent(self.embedding(ids))[0].mean(1) @ self.bare
        x = self.experts[int(self.gate(x).sum(0).argmax())](x)
        out: Tensor = self.head(self.second(F.relu(self.first(x))))
        return out


class Branch(nn.Module):
    """A way by the data, which no exporter follows."""

    def forward(self, x: Tensor) -> Tensor:
        return x if float(x.sum()) > 0 else 2 * x


IDS = torch.tensor([[3, 29, 0, 7]])


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


@pytest.mark.parametrize("bits", [8, 4])
def test_files_give_back_the_same_modules(routed: Routed, tmp_path: Path, bits: Any) -> None:
    result = quantize(routed, scheme="weight-only", input_size=IDS, weight_bits=bits, keep=["gate"])
    assert result.left_in_float["gate"] == "as asked"
    size = save_quantized(result, tmp_path / "net")
    assert size < result.bytes_after + 6_000
    loaded = load_quantized(Routed(), tmp_path / "net", input_size=IDS)
    with torch.no_grad():
        assert torch.equal(loaded(IDS), result.model(IDS))
    loaded.first.parametrizations.weight.original0.data.zero_()
    assert not loaded.second.weight.any()  # still tied
    with pytest.raises(InputError, match="another architecture"):
        other = Routed()
        other.gate = nn.Linear(8, 3)
        load_quantized(other, tmp_path / "net", input_size=IDS)


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


def test_integers_of_the_models_own_are_not_packed(tmp_path: Path) -> None:
    class Coded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 3)
            self.register_buffer("codes", torch.tensor([100, -3, 50, 7, -100, 1, 2, 127], dtype=torch.int8))

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.two(self.one(x) * self.codes.float())
            return out

    result = quantize(Coded(), scheme="weight-only", input_size=(8,), weight_bits=4)
    assert result.bytes_after == 88 // 2 + 8 + 11 * 4 + 11 * (4 + 8)  # packed, codes, biases, scales, zeros
    save_quantized(result, tmp_path / "net")
    loaded = load_quantized(Coded(), tmp_path / "net", input_size=(8,))
    x = torch.randn(4, 8)
    assert torch.equal(loaded(x), result.model(x))
