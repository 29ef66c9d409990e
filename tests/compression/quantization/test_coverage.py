"""What a quantized graph stores, against what is told of it; settings kept in training; refusals."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from capacity import InputError
from capacity.cloning import clone
from compression.quantization import QuantizeResult, quantize
from compression.quantization.files import load_quantized, save_quantized
from compression.verification import relative_difference


class Functional(nn.Module):
    """Products without a layer's call: of a bare parameter, and of a layer's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.bare, self.layer = nn.Parameter(torch.randn(5, 6)), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.linear(x, self.layer.weight)
        return F.linear(F.dropout(hidden, 0.3, self.training), self.bare)


class Unreached(nn.Module):
    """A second head that no forward pass reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.other = nn.Linear(6, 4), nn.Linear(6, 7)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)


class Tied(nn.Module):
    """A head that is its embedding, and two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(30, 8), nn.Linear(8, 30, bias=False)
        self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 8)
        self.head.weight, self.two.weight = self.embedding.weight, self.one.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.two(F.relu(self.one(self.embedding(tokens)))))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.recurrent, self.head = nn.LSTM(6, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": self.head(self.recurrent(x)[0][:, -1])}


class Products(nn.Module):
    """Dense layers written as products: x @ W, x @ W.T, and GPT-2's addmm, whose W lies turned."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Parameter(torch.randn(6, 5)), nn.Parameter(torch.randn(8, 5))
        self.weight, self.bias = nn.Parameter(torch.randn(8, 3)), nn.Parameter(torch.randn(3))

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.relu(x @ self.one) @ self.two.T
        return torch.addmm(self.bias, hidden.flatten(0, 1), self.weight).unflatten(0, hidden.shape[:2])


@dataclass
class Found:
    """An output of transformers' kind: logits, and a cache that no exporter knows."""

    logits: Tensor
    cache: object
    hidden: tuple[Tensor, ...] = ()


class Tokens(nn.Module):
    """Two named inputs, one optional, positions counted from a mask, and more than tensors as output."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.places = nn.Embedding(30, 8), nn.Embedding(20, 8)
        self.one, self.head = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Found:
        mask = torch.ones_like(ids) if mask is None else mask
        places = (mask.cumsum(1) + 1) * mask
        hidden = F.relu(self.one(self.embedding(ids) + self.places(places)))
        return Found(self.head(hidden.mean(1)), object(), (hidden,))


NETS: dict[str, tuple[nn.Module, Any]] = {
    "padding": (
        nn.Sequential(
            nn.Conv2d(3, 8, (4, 3), padding="same", dilation=(1, 2)), nn.BatchNorm2d(8, eps=0.1), nn.ReLU(),
            nn.Conv2d(8, 4, 3, padding="valid"), nn.Flatten(), nn.Linear(144, 3),
        ), (3, 8, 8)),
    "three dimensions": (
        nn.Sequential(nn.Conv3d(2, 8, 3, padding="same"), nn.BatchNorm3d(8), nn.Flatten(), nn.Linear(512, 3)),
        (2, 4, 4, 4)),
    "one dimension": (
        nn.Sequential(nn.Conv1d(3, 8, 3), nn.BatchNorm1d(8), nn.Flatten(), nn.Linear(48, 3)), (3, 8)),
    "transposed": (nn.Sequential(nn.ConvTranspose2d(3, 8, 2), nn.Flatten(), nn.Linear(648, 3)), (3, 8, 8)),
    "attention": (
        nn.Sequential(nn.Linear(6, 8), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)), (4, 6)),
    "norms first": (
        nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 4), nn.BatchNorm1d(4, affine=False), nn.Linear(4, 3)),
        (6,)),
    "functional": (Functional(), (6,)),
    "unreached": (Unreached(), (6,)),
    "tied": (Tied(), torch.tensor([[3, 29, 0, 7]])),
    "recurrent": (Recurrent(), (5, 6)),
    "products": (Products(), (4, 6)),
}  # fmt: skip
CONVOLUTIONS = {"padding": {"0", "3"}, "three dimensions": {"0"}, "one dimension": {"0"}, "transposed": {"0"}}
NO_KERNEL = {("transposed", "static"): {"0"}}  # the compiler has none
LEFT = {
    "unreached": {"other"}, "tied": {"embedding", "head"},
    "recurrent": {"recurrent.weight_ih_l0", "recurrent.weight_hh_l0"},
}  # fmt: skip


def batch(size: Any, *, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return size.repeat(8, 1) if isinstance(size, Tensor) else torch.randn(8, *size, generator=generator)


def quantized(model: nn.Module, size: Any, scheme: Any, **options: Any) -> QuantizeResult:
    data = [(batch(size), torch.zeros(8, dtype=torch.long))] if scheme in ("static", "aware") else None
    return quantize(model.eval(), scheme=scheme, input_size=size, calibration=data, **options)


def moved(model: nn.Module, result: QuantizeResult, size: Any) -> float:
    x = batch(size)
    with torch.no_grad():
        before, after = model(x), result.model(x)
    if isinstance(before, dict):
        before, after = before["logits"], after["logits"]
    return relative_difference([[before]], [[after]])


@pytest.mark.parametrize("scheme", ["dynamic", "static", "weight-only"])
@pytest.mark.parametrize("name", NETS)
def test_told_is_what_the_graph_stores(name: str, scheme: str) -> None:
    model, size = NETS[name]
    result = quantized(model, size, scheme)
    left = LEFT.get(name, set()) | (CONVOLUTIONS.get(name, set()) if scheme == "dynamic" else set())
    left |= NO_KERNEL.get((name, scheme), set())
    assert set(result.left_in_float) == left and all(result.left_in_float.values())
    assert all((layer.weight_bits == 32) == bool(layer.reason) for layer in result.layers)
    stored = sum(t.numel() for t in result.model.state_dict().values() if t.dtype == torch.int8)
    twice = 64 if name == "tied" else 0  # one weight under two names
    assert stored == sum(layer.elements for layer in result.layers if not layer.reason) - twice
    matrices = sum(p.numel() for p in set(model.parameters()) if p.dim() > 1)
    in_float = sum(layer.elements for layer in result.layers if layer.name in left)
    in_float -= 240 if name == "tied" else 0
    assert stored + in_float == matrices
    assert result.float_parameters <= sum(p.numel() for p in set(model.parameters())) - stored
    assert result.bytes_after == sum(t.numel() * t.element_size() for t in result.model.state_dict().values())
    unreached = 4 * 7 * 6 if name == "unreached" else 0
    assert (
        result.bytes_before
        == sum(
            t.numel() * t.element_size()
            for t in {t.data_ptr(): t for t in model.state_dict().values()}.values()
        )
        - unreached
    )
    assert moved(model, result, size) < 0.03


@pytest.mark.parametrize("weight_bits", [8, 4])
@pytest.mark.parametrize("name", ["padding", "transposed", "attention", "products"])
def test_told_is_what_the_graph_stores_in_groups(name: str, weight_bits: Any) -> None:
    model, size = NETS[name]
    result = quantized(model, size, "weight-only", weight_bits=weight_bits, group_size=16)
    assert not result.left_in_float
    stored = sum(t.numel() for t in result.model.state_dict().values() if t.dtype == torch.int8)
    assert stored == sum(p.numel() for p in model.parameters() if p.dim() > 1)
    assert moved(model, result, size) < (0.02 if weight_bits == 8 else 0.3)


def test_a_convolution_plus_a_number() -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 8, 3), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.two((self.one(x) + 1.5).relu().mean((2, 3)))
            return out

    model = Shifted()
    result = quantized(model, (3, 8, 8), "static")
    assert not result.left_in_float
    assert moved(model, result, (3, 8, 8)) < 0.03


def test_zeros_of_a_turned_weight_stay_where_they_are() -> None:
    model = clone(NETS["products"][0])
    with torch.no_grad():
        model.weight[:, 1] = 0.0
        model.one[2] = 0.0

    def learnt(graph: nn.Module) -> nn.Module:
        with torch.no_grad():
            for parameter in graph.parameters():
                parameter.add_(0.01)
        return graph

    result = quantized(model, (4, 6), "aware", retrain=learnt)
    x, third = batch((4, 6)), F.one_hot(torch.tensor(2), 6)
    last = result.model(x)
    assert last[..., 1].unique().numel() == 1  # its bias alone
    assert torch.allclose(last, result.model(x + 5.0 * third), atol=0.2)
    assert not result.left_in_float


class Twice(nn.Module):
    """Two inputs through one network, as siamese ones have it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 8)
        )

    def forward(self, one: Tensor, two: Tensor) -> Tensor:
        return (self.net(one) - self.net(two)).abs()


def test_a_network_called_twice_becomes_integers() -> None:
    model, pair = Twice().eval(), (batch((1, 8, 8)), batch((1, 8, 8), seed=1))
    data = [(pair, torch.zeros(8, dtype=torch.long))]
    result = quantize(model, scheme="static", input_size=[(1, 8, 8), (1, 8, 8)], calibration=data)
    assert not result.left_in_float
    assert relative_difference([[model(*pair)]], [[result.model(*pair)]]) < 0.06


IDS = torch.tensor([[3, 29, 0, 7], [1, 1, 2, 9]])


@pytest.mark.parametrize("scheme", ["dynamic", "static", "weight-only"])
def test_named_inputs_and_outputs_that_hold_more_than_tensors(scheme: Any, tmp_path: Path) -> None:
    model = Tokens().eval()
    named = {"ids": IDS, "mask": torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])}
    data = [(named, torch.zeros(2, dtype=torch.long))] if scheme == "static" else None
    result = quantize(model, scheme=scheme, input_size=named, calibration=data)
    expected, found = model(**named), result.model(**named)
    assert found.keys() == {"logits", "hidden"}  # the cache is no tensor
    assert relative_difference([[expected.logits]], [[found["logits"]]]) < 0.03
    assert result.left_in_float.keys() == {"embedding", "places"}
    one = result.model(**{name: value[:1] for name, value in named.items()})
    assert torch.allclose(one["logits"], found["logits"][:1], atol=0.05)
    save_quantized(result, tmp_path / "named")
    again = load_quantized(Tokens(), tmp_path / "named", input_size=named)
    assert torch.equal(again(**named)["logits"], found["logits"])


def test_an_output_without_tensors_is_named() -> None:
    class Silent(nn.Linear):
        def forward(self, x: Tensor) -> Any:
            return object()

    with pytest.raises(InputError, match="Silent returns object, which holds no tensor"):
        quantize(Silent(3, 2), scheme="weight-only", input_size=(3,))


def test_why_a_weight_is_left() -> None:
    result = quantized(*NETS["tied"], "weight-only")
    assert result.left_in_float["head"] == "scheme 'weight-only' leaves embedding, linear in float"
    result = quantized(*NETS["unreached"], "weight-only")
    assert result.left_in_float == {
        "other": "nothing that the model returns reads it, and the graph holds none of it"
    }
    result = quantized(*NETS["attention"], "static", keep=["1.linear1"])
    assert result.left_in_float == {"1.linear1": "as asked"} and "in_proj_weight" in str(result)


def test_tied_layers_count_once() -> None:
    model = nn.Sequential(nn.Linear(50, 50, bias=False), nn.Linear(50, 50, bias=False))
    model[1].weight = model[0].weight
    result = quantized(model, (50,), "weight-only")
    assert result.bytes_before == 4 * 2500 and result.float_parameters == 0
    assert sum(t.numel() for t in result.model.state_dict().values() if t.dtype == torch.int8) == 2500


@settings(deadline=None, max_examples=8)
@given(kernel=st.integers(1, 5), dilation=st.integers(1, 3), dims=st.integers(1, 2), seed=st.integers(0, 99))
def test_same_padding_is_that_of_torch(kernel: int, dilation: int, dims: int, seed: int) -> None:
    torch.manual_seed(seed)
    kind = nn.Conv1d if dims == 1 else nn.Conv2d
    model, size = kind(2, 3, kernel, padding="same", dilation=dilation), (2, *[9] * dims)
    assert moved(model, quantized(model, size, "weight-only"), size) < 0.02


def test_a_batch_norm_that_cannot_be_folded_costs_no_minute() -> None:
    import time

    start = time.perf_counter()
    quantized(*NETS["norms first"], "static")
    assert time.perf_counter() - start < 20


def deep() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, eps=0.1, momentum=0.01), nn.Dropout(0.25), nn.Flatten(),
        nn.Linear(288, 16), nn.BatchNorm1d(16, eps=1e-3, momentum=0.3), nn.Linear(16, 5),
    )  # fmt: skip
    for _ in range(200):
        model(batch((3, 8, 8)) * 0.1)
    return model.eval()


def test_training_with_rounding_keeps_the_settings_of_the_model(tmp_path) -> None:
    model, seen = deep(), {}
    x = batch((3, 8, 8)) * 0.1

    def retrain(graph: nn.Module) -> nn.Module:
        copied = clone(graph)
        for node in copied.graph.nodes:
            numbers = [part for part in node.args if isinstance(part, float)]
            if "batch_norm" in str(node.target) or "dropout" in str(node.target):
                seen.setdefault(str(node.target), []).append(numbers)
        evaluated = [copied.eval()(x) for _ in range(2)]
        seen["steady"] = torch.equal(*evaluated)
        before = copied.get_buffer("5.running_mean").clone()
        torch.manual_seed(1)
        drawn = [copied.train()(x) for _ in range(2)]
        seen["drawn"] = not torch.equal(*drawn)
        seen["learned"] = not torch.equal(before, copied.get_buffer("5.running_mean"))
        return graph.eval()

    data = [(x, torch.zeros(8, dtype=torch.long))]
    options = {"input_size": (3, 8, 8), "calibration": data}
    aware = quantize(model, scheme="aware", retrain=retrain, **options)
    static = quantize(model, scheme="static", **options)
    assert seen["aten.batch_norm.default"] == [[0.01, 0.1], [0.3, 1e-3]]
    assert seen["aten.dropout.default"] == [[0.25]]
    assert seen["steady"] and seen["drawn"] and seen["learned"]
    with torch.no_grad():
        expected = model(x)
        off = [float((q.model(x) - expected).norm() / expected.norm()) for q in (aware, static)]
    assert off[0] < 0.05 and off[1] < 0.05
    save_quantized(aware, tmp_path / "aware.safetensors")
    again = load_quantized(deep(), tmp_path / "aware.safetensors", input_size=(3, 8, 8))
    assert torch.equal(again(x), aware.model(x))


def test_subnormal_numbers_are_set_to_zero_and_told() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()
    nn.init.zeros_(model[0].weight)
    nn.init.zeros_(model[0].bias)
    nn.init.constant_(model[1].bias, 1e-39)
    result = quantized(model, (3, 8, 8), "weight-only")
    floats = [t for t in result.model.state_dict().values() if t.is_floating_point()]
    assert not any(bool(((t != 0) & (t.abs() < torch.finfo(t.dtype).tiny)).any()) for t in floats)
    assert result.subnormals == 8 and "8 subnormal numbers set to zero" in result.table().title
    assert bool((model[1].bias != 0).all())


@pytest.mark.parametrize("scheme", ["dynamic", "static", "weight-only", "aware"])
def test_numbers_that_cannot_be_quantized(scheme: str) -> None:
    options = {"retrain": lambda graph: graph} if scheme == "aware" else {}
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        with pytest.raises(InputError, match=r"takes float32, and weight is torch.*: pass model.float\(\)"):
            quantized(nn.Linear(6, 3).to(dtype), (6,), scheme, **options)
    for value in (float("nan"), float("inf")):
        layer = nn.Linear(6, 3)
        nn.init.constant_(layer.bias, value)
        with pytest.raises(InputError, match="bias holds NaN or infinity"):
            quantized(layer, (6,), scheme, **options)
    with pytest.raises(InputError, match="meta device"):
        quantized(nn.Linear(6, 3, device="meta"), (6,), scheme, **options)
    with pytest.raises(InputError, match=r"cannot take a batch of float32 \(1, 7\)"):
        quantized(nn.Linear(6, 3), (7,), scheme, **options)


def test_an_average_over_all_batches_is_no_graphs() -> None:
    model = nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3, momentum=None))
    with pytest.raises(InputError, match="batch norm '1' averages all batches alike"):
        quantized(model, (6,), "aware", retrain=lambda graph: graph)


class Residual(nn.Module):
    """A block whose one rectifier runs twice, in place, as torchvision's do."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.first, self.second = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.relu, self.last = nn.ReLU(inplace=True), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.relu(x + self.second(self.relu(self.first(x))))
        return self.last(x.mean((2, 3)))


def test_a_module_used_twice_is_two_operations() -> None:
    torch.manual_seed(0)
    model, x = Residual().eval(), torch.randn(16, 3, 8, 8)
    result = quantize(model, scheme="static", input_size=(3, 8, 8), calibration=[(x, torch.zeros(16))])
    assert not any(layer.reason for layer in result.layers)
    with torch.no_grad():
        exact = model(x)
        assert float((result.model(x) - exact).norm() / exact.norm()) < 0.05


@pytest.mark.parametrize("scheme", ["static", "weight-only", "dynamic"])
def test_a_wrong_input_size_is_one_line_and_no_log(scheme: str, capfd) -> None:
    calibration = [(torch.randn(8, 4), torch.zeros(8))] if scheme == "static" else None
    with pytest.raises(InputError, match=r"Sequential cannot take a batch of float32 \(1, 5\)"):
        quantize(nn.Sequential(nn.Linear(4, 2)), scheme=scheme, input_size=(5,), calibration=calibration)
    assert capfd.readouterr() == ("", "")


def test_a_forward_pass_that_fixes_the_batch_is_told_and_the_advice_works() -> None:
    class Shifted(nn.Module):
        def __init__(self, size) -> None:
            super().__init__()
            self.size, self.layer, self.shift = size, nn.Linear(4, 3), nn.Parameter(torch.ones(1, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x + self.shift.expand(self.size(x), -1))

    with pytest.raises(InputError, match=r"fixes the size of the batch, as len\(x\) does, and x.shape"):
        quantize(Shifted(len), scheme="dynamic", input_size=(4,))
    assert "fixes the size of the batch" in quantized(Shifted(len), (4,), "weight-only").not_exported
    model = Shifted(lambda x: x.shape[0])
    graph = quantize(model, scheme="weight-only", input_size=(4,)).model
    x = torch.randn(5, 4)
    assert torch.allclose(graph(x), model(x), atol=0.05)
