"""factorize(): full rank, energy, budgets, optimality, what stays whole, bad input."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from analysis.lab.models import create
from capacity import InputError, measure
from capacity.cloning import clone
from compression.counting import parameter_count
from compression.factorization import factorize
from compression.factors import Factorized
from compression.verification import relative_difference

NETS = [
    nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 3, bias=False)),
    nn.Sequential(
        nn.Conv2d(3, 8, (3, 5), stride=2, padding=(1, 2), dilation=(1, 1)), nn.ReLU(),
        nn.Conv2d(8, 6, 1), nn.Conv2d(6, 9, 3, padding="same", padding_mode="reflect"),
    ),
    nn.Sequential(nn.Conv1d(4, 7, 3, bias=False)),
    nn.Sequential(nn.Conv3d(2, 5, 2)),
]  # fmt: skip
INPUTS = [(2, 12), (2, 3, 16, 16), (2, 4, 9), (2, 2, 5, 5, 5)]


@pytest.mark.parametrize("method", ["svd", "tucker"])
@pytest.mark.parametrize(("model", "shape"), list(zip(NETS, INPUTS, strict=True)))
def test_at_full_rank_nothing_grows_and_outputs_are_equal(model: nn.Module, shape, method) -> None:
    x = torch.randn(shape)
    result = factorize(model, rank=10_000, method=method)
    assert torch.allclose(result.model(x), model(x), atol=1e-5)
    assert all(layer.relative_error < 1e-12 for layer in result.layers)
    assert result.parameters_after <= result.parameters_before == sum(p.numel() for p in model.parameters())
    assert all("would take" in layer.reason for layer in result.layers if layer.rank is None)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("layer", "rank", "shape", "method"),
    [
        (nn.Linear(20, 30), 4, (5, 20), "svd"),
        (nn.Conv1d(8, 16, 3, stride=2, padding=2), 3, (2, 8, 9), "svd"),
        (nn.Conv2d(8, 16, 3, padding="same", dilation=2), (3, 2), (2, 8, 9, 9), "tucker"),
        (nn.Conv2d(8, 16, (3, 2), padding=(3, 1), padding_mode="circular"), 2, (2, 8, 9, 9), "svd"),
        (nn.Conv3d(6, 16, 2, bias=False), (2, 2), (2, 6, 5, 5, 5), "tucker"),
    ],
)
def test_a_weight_of_low_rank_comes_back(layer, rank, shape, method, dtype) -> None:
    torch.manual_seed(1)
    low = factorize(layer.float(), rank=rank, method=method).model.to(dtype)
    layer = clone(layer).to(dtype)
    with torch.no_grad():
        layer.weight.copy_(low.weight)
    result = factorize(layer, rank=rank, method=method)
    x = torch.randn(shape, dtype=dtype)
    moved = relative_difference([[layer(x)]], [[result.model(x)]])
    least = {torch.float64: 1e-12, torch.float32: 1e-5}.get(dtype, 0.02)
    assert result.layers[0].rank == rank and moved < least and result.layers[0].relative_error < least
    assert {p.dtype for p in result.model.parameters()} == {dtype}
    assert relative_difference([[layer.weight]], [[result.model.weight]]) < least


@settings(max_examples=25, deadline=None)
@given(out=st.integers(1, 12), into=st.integers(1, 12), rank=st.integers(1, 12), seed=st.integers(0, 999))
def test_no_matrix_of_that_rank_is_nearer(out: int, into: int, rank: int, seed: int) -> None:
    torch.manual_seed(seed)
    layer = nn.Linear(into, out)
    found = factorize(layer, rank=rank).layers[0]
    rank = min(rank, out, into)
    if rank * (out + into) >= out * into:
        assert found.rank is None and found.parameters_after == found.parameters_before
        return
    values = torch.linalg.svdvals(layer.weight.detach().double())
    expected = float(values[rank:].square().sum().sqrt() / values.norm())  # Eckart and Young 1936
    assert found.relative_error == pytest.approx(expected, abs=1e-9)
    assert found.rank == rank and found.parameters_after == rank * (out + into) + out


def test_a_share_of_the_energy() -> None:
    model = create("lenet300", input_size=(1, 28, 28), classes=10)
    result = factorize(model, rank=0.6)
    for layer in result.layers:
        if layer.rank is not None:
            assert layer.relative_error**2 <= 0.4 + 1e-9 and layer.parameters_after < layer.parameters_before
    assert sum(p.numel() for p in result.model.parameters()) == sum(
        layer.parameters_after for layer in result.layers
    )
    whole = factorize(model, rank=0.999)
    assert any("would take" in layer.reason for layer in whole.layers)


@pytest.mark.parametrize("method", ["svd", "tucker"])
def test_a_budget_is_kept_and_used(method) -> None:
    model = create("lenet5", input_size=(1, 28, 28), classes=10)
    result = factorize(model, budget_parameters=60_000, method=method)
    total = sum(p.numel() for p in result.model.parameters())
    assert 57_000 < total <= 60_000
    with pytest.raises(InputError, match="rank 1 everywhere takes"):
        factorize(model, budget_parameters=100, method=method)


def test_the_factors_are_dense_layers_to_all_else() -> None:
    model = create("lenet5", input_size=(1, 28, 28), classes=10)
    result = factorize(model, rank=0.7, method="tucker")
    report = measure(result.model, (1, 28, 28))
    assert report.total_parameters == sum(layer.parameters_after for layer in result.layers)
    again = factorize(
        create("lenet5", input_size=(1, 28, 28), classes=10), rank=result.ranks, method="tucker"
    ).model
    again.load_state_dict(result.model.state_dict())
    x = torch.randn(2, 1, 28, 28)
    assert torch.equal(again(x), result.model(x))


def test_tucker_of_a_tensor_of_that_rank_is_exact() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 8, 3)
    outputs, core, inputs = torch.randn(8, 2), torch.randn(2, 3, 3, 3), torch.randn(3, 6)
    with torch.no_grad():
        layer.weight.copy_(torch.einsum("or,rsxy,si->oixy", outputs, core, inputs))
    assert factorize(layer, rank=(2, 3), method="tucker").layers[0].relative_error < 1e-6
    assert factorize(layer, rank=(1, 3), method="tucker").layers[0].relative_error > 0.1


def test_what_stays_whole_says_why() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.ConvTranspose2d(4, 2, 2), nn.Conv2d(9, 9, 1))
    result = factorize(model, rank=1)
    reasons = {layer.name: layer.reason for layer in result.layers}
    assert reasons == {"0": "grouped convolution", "1": "transposed convolution", "2": ""}
    assert "grouped" in str(result) and len(result.to_frame()) == 3


def test_the_model_given_is_not_changed() -> None:
    model = create("lenet300", input_size=(1, 28, 28), classes=10)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    factorize(model, rank=4)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "at least 1"),
        ({"rank": 1.5}, r"\(0, 1\]"),
        ({"rank": (2, 2)}, "a pair only for a convolution"),
        ({"rank": 2, "budget_parameters": 10}, "either"),
        ({}, "either"),
        ({"rank": 2, "layers": ["first"]}, "layer to factorize"),
        ({"rank": 2, "method": "cp"}, "tucker"),
    ],
)
def test_bad_input(options, message: str) -> None:
    with pytest.raises(InputError, match=message):
        factorize(create("lenet300", input_size=(1, 28, 28), classes=10), **options)


def test_weights_that_are_not_numbers() -> None:
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight[0, 0] = float("nan")
    with pytest.raises(InputError, match="holds NaN"):
        factorize(layer, rank=1)
    nn.init.constant_(layer.weight, float("inf"))
    with pytest.raises(InputError, match="or infinity"):
        factorize(layer, rank=1)
    with pytest.raises(InputError, match="meta device"):
        factorize(nn.Linear(2, 2, device="meta"), rank=1)
    with pytest.raises(InputError, match="no dense or convolutional"):
        factorize(nn.ReLU(), rank=1)


class Language(nn.Module):
    """A language model whose head is its embedding, and whose two blocks share a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(300, 32)
        self.shared = nn.Linear(32, 32)
        self.blocks = nn.ModuleList(nn.Sequential(self.shared, nn.ReLU(), nn.Linear(32, 32)) for _ in "ab")
        self.head = nn.Linear(32, 300, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


@pytest.mark.parametrize("rank", [2, 0.5, 0.999, 10**6])
def test_ties_are_kept_and_nothing_grows(rank) -> None:
    model = Language()
    result = factorize(model, rank=rank)
    found = result.model
    assert found.head.weight is found.embedding.weight
    assert found.shared is found.blocks[0][0] is found.blocks[1][0]
    assert isinstance(found.shared, Factorized) == (rank in (2, 0.5))
    assert result.unfactorized["head"] == "it shares its parameters with embedding"
    assert result.parameters_after == parameter_count(found) <= result.parameters_before == 14_848 - 2_080
    assert f"{result.parameters_before:,} -> {result.parameters_after:,} parameters" in str(result)
    again = factorize(Language(), rank=result.ranks).model
    again.load_state_dict(found.state_dict())
    tokens = torch.arange(10)[None]
    assert torch.equal(again(tokens), found(tokens))


class Standardized(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, weight / self.weight.std((1, 2, 3), keepdim=True), self.bias)


class Noisy(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.dropout(x, 0.5, self.training))


class Cast(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.to(self.weight.dtype), self.weight, self.bias)


def test_subclasses_are_replaced_where_they_compute_what_their_type_does() -> None:
    model = nn.Sequential(Standardized(3, 8, 3), nn.Flatten(), Noisy(288, 20), Cast(20, 20))
    result = factorize(model, rank=2)
    assert list(result.ranks) == ["3"]
    assert result.unfactorized == {
        name: f"{kind} computes something else than its weight times its input"
        for name, kind in (("0", "Standardized"), ("2", "Noisy"))
    }


class Reading(nn.Module):
    """A model that reads a layer's weight and bias without calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.dense, self.conv = nn.Linear(64, 16), nn.Conv2d(4, 16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.conv2d(x, self.conv.weight, self.conv.bias).flatten(2).repeat(1, 1, 4),
                        self.dense.weight, self.dense.bias)  # fmt: skip


@pytest.mark.parametrize("method", ["svd", "tucker"])
def test_a_weight_that_is_read_is_the_product_of_its_factors(method) -> None:
    model = Reading()
    result = factorize(model, rank=2, method=method)
    assert set(result.ranks) == {"dense", "conv"}
    with torch.no_grad():
        for name in ("dense", "conv"):
            model.get_submodule(name).weight.copy_(result.model.get_submodule(name).weight)
    x = torch.randn(2, 4, 6, 6)
    assert torch.allclose(model(x), result.model(x), atol=1e-5)
    result.model(x).sum().backward()
    assert all(p.grad is not None for p in result.model.parameters())


def test_computed_weights_hooks_and_attention() -> None:
    hooked = nn.Linear(20, 20)
    hooked.register_forward_hook(lambda module, inputs, output: 2 * output)
    normed = parametrizations.weight_norm(nn.Linear(20, 20))
    model = nn.ModuleList([nn.MultiheadAttention(20, 2), hooked, normed])
    values, bias = torch.linalg.svd(normed.weight.detach().double()), normed.bias.detach().clone()
    result = factorize(model, rank=3)
    assert result.unfactorized == {
        "0.out_proj": "attention reads its weight without calling it", "1": "it has hooks",
    }  # fmt: skip
    assert result.ranks == {"2": 3}
    x = torch.randn(4, 20)
    nearest = (values[0][:, :3] * values[1][:3]) @ values[2][:3]
    assert torch.allclose(result.model[2](x), F.linear(x, nearest.float(), bias), atol=1e-5)


def test_a_budget_counts_tied_parameters_once() -> None:
    model = Language()
    with pytest.raises(InputError, match="rank 1 everywhere takes"):
        factorize(model, budget_parameters=9_600)
    assert parameter_count(factorize(model, budget_parameters=11_000).model) <= 11_000


class Padded(nn.Module):
    """A forward pass that reads the sizes of its layers, as one that pads to them does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.last = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        height, width = self.conv.kernel_size
        x = self.conv(nn.functional.pad(x, (0, width % self.conv.stride[0], 0, height)))
        return self.last(x.mean((2, 3)).view(-1, self.last.in_features)) / self.last.out_features


@pytest.mark.parametrize("method", ["svd", "tucker"])
def test_sizes_that_the_forward_pass_reads_are_those_of_the_layer(method: str) -> None:
    model, x = Padded(), torch.randn(2, 8, 9, 9)
    result = factorize(model, rank=2, method=method)
    made = result.model.conv
    assert len(result.ranks) == 2 and result.model(x).shape == (2, 10)
    for name in ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups"):
        assert getattr(made, name) == getattr(model.conv, name)
    with pytest.raises(AttributeError, match="in_features"):
        made.in_features  # noqa: B018
