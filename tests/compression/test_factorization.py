"""factorize(): full rank, energy, budgets, optimality, what stays whole, bad input."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from analysis.lab.models import create
from capacity import InputError, measure
from compression.factorization import factorize

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
def test_full_rank_gives_the_layer_back(model: nn.Module, shape, method) -> None:
    x = torch.randn(shape)
    result = factorize(model, rank=10_000, method=method)
    assert torch.allclose(result.model(x), model(x), atol=1e-5)
    assert all(layer.relative_error < 1e-12 for layer in result.layers)


@settings(max_examples=25, deadline=None)
@given(out=st.integers(1, 12), into=st.integers(1, 12), rank=st.integers(1, 12), seed=st.integers(0, 999))
def test_no_matrix_of_that_rank_is_nearer(out: int, into: int, rank: int, seed: int) -> None:
    torch.manual_seed(seed)
    layer = nn.Linear(into, out)
    result = factorize(layer, rank=rank)
    values = torch.linalg.svdvals(layer.weight.detach().double())
    expected = float(values[rank:].square().sum().sqrt() / values.norm())  # Eckart and Young 1936
    assert result.layers[0].relative_error == pytest.approx(expected, abs=1e-9)
    assert result.layers[0].rank == min(rank, out, into)


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
    model = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.ConvTranspose2d(4, 2, 2), nn.Conv2d(2, 2, 1))
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
    with pytest.raises(InputError, match="no dense or convolutional"):
        factorize(nn.ReLU(), rank=1)
