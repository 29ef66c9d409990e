"""Criteria that see data: each against a formula of its own, and in prune, shrink and squeeze."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from capacity import InputError
from compression.calibration import ActivationNorm, BatchNormScale, Fisher, GaussNewton, Taylor
from compression.criteria import GeometricMedian, PerBit, Random
from compression.pruning import prune
from compression.semistructured import prune_n_of_m
from compression.shrinking import shrink
from compression.squeezing import squeeze


def regression(rows: int = 7) -> tuple[nn.Linear, Tensor, Tensor]:
    torch.manual_seed(0)
    return nn.Linear(3, 1, bias=False), torch.randn(rows, 3), torch.randn(rows, 1)


def batches(x: Tensor, y: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    return list(zip(x.split(size), y.split(size), strict=True))


@pytest.mark.parametrize("size", [1, 3, 7])
def test_taylor_and_fisher_are_those_of_least_squares(size: int) -> None:
    model, x, y = regression()
    w = model.weight.detach().numpy()[0].astype(float)
    slopes = 2 * (x.numpy() @ w - y.numpy()[:, 0])[:, None] * x.numpy()  # of (xw - y)^2, by sample
    data = batches(x, y, size)
    taylor = Taylor(data, "mse").observe(model)["weight"].numpy()[0]
    assert np.allclose(taylor, (slopes.mean(0) * w) ** 2, rtol=1e-4)
    fisher = Fisher(data, "mse").observe(model)["weight"].numpy()[0]
    assert np.allclose(fisher, 0.5 * w**2 * (slopes**2).mean(0), rtol=1e-4)
    few = Fisher(data, "mse", samples=2).observe(model)["weight"].numpy()[0]
    assert np.allclose(few, 0.5 * w**2 * (slopes[:2] ** 2).mean(0), rtol=1e-4)


def test_taylor_foretells_the_change_of_the_loss() -> None:
    torch.manual_seed(0)
    model, x, y = nn.Linear(4, 3).double(), torch.randn(50, 4).double(), torch.randint(3, (50,))
    with torch.no_grad():
        model.weight.mul_(1e-3)  # so small that the first order is nearly all
    scores = Taylor([(x, y)]).observe(model)["weight"]
    before = F.cross_entropy(model(x), y).item()
    for row in range(3):
        for column in range(4):
            held = model.weight[row, column].item()
            with torch.no_grad():
                model.weight[row, column] = 0
                change = F.cross_entropy(model(x), y).item() - before
                model.weight[row, column] = held
            assert scores[row, column].sqrt().item() == pytest.approx(abs(change), rel=0.05, abs=1e-7)


def hidden_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))


def test_gauss_newton_of_a_dense_layer_is_half_the_squared_share_of_its_outputs() -> None:
    """A sign's square is 1: of single samples the estimate is exact where each weight reaches one output."""
    torch.manual_seed(0)
    layer, x = nn.Linear(4, 3), torch.randn(9, 4)
    scores = GaussNewton(list(x.split(1))).observe(layer)
    weight, bias = layer.weight.detach(), layer.bias.detach()
    assert torch.allclose(scores["weight"], weight.square() * x.square().mean(0) / 2, rtol=1e-5)
    assert torch.allclose(scores["bias"], bias.square() / 2, rtol=1e-5)


@pytest.mark.parametrize("size", [1, 5])
def test_gauss_newton_comes_near_the_squares_of_all_samples_jacobians(size: int) -> None:
    model, x = hidden_network(), torch.randn(10, 4, generator=torch.Generator().manual_seed(1))
    weights = {name: p.detach() for name, p in model.named_parameters()}

    def outputs(values: dict[str, Tensor], sample: Tensor) -> Tensor:
        return torch.func.functional_call(model, values, (sample,))

    jacobians = torch.func.vmap(torch.func.jacrev(outputs), (None, 0))(weights, x)
    scores = GaussNewton(list(x.split(size)) * (400 * size)).observe(model)
    for name, jacobian in jacobians.items():
        wanted = weights[name].square() * jacobian.square().sum(1).mean(0) / 2
        assert torch.allclose(scores[name], wanted, rtol=0.12, atol=1e-5), name


@given(st.floats(0.01, 100))
@settings(max_examples=10)
def test_gauss_newton_does_not_depend_on_how_two_layers_share_a_factor(factor: float) -> None:
    model, x = hidden_network(), torch.randn(10, 4)
    before = GaussNewton([x]).observe(hidden_network())
    with torch.no_grad():
        model[0].weight.mul_(factor)
        model[0].bias.mul_(factor)
        model[2].weight.div_(factor)
    after = GaussNewton([x]).observe(model)
    for name, scores in before.items():
        assert torch.allclose(after[name], scores, rtol=1e-3, atol=1e-7), name


def test_gauss_newton_per_bit_prunes_what_little_of_the_outputs_hangs_on() -> None:
    """A layer of weights a hundred times as small, behind one a hundred times as large, is no worse."""
    model, x = hidden_network(), torch.randn(50, 4)
    with torch.no_grad():
        model[0].weight.mul_(0.01)
        model[0].bias.mul_(0.01)
        model[2].weight.mul_(100)
    layers = ["0", "2"]
    for criterion in (GaussNewton([x]), PerBit(GaussNewton([x]))):
        result = prune(model, criterion, amount=0.5, scope="global", layers=layers)
        assert 0.2 < {row.name: row.pruned / row.before for row in result.layers}["0"] < 0.8
    by_size = prune(model, torch.abs, amount=0.5, scope="global", layers=layers)
    assert {row.name: row.pruned for row in by_size.layers}["0"] >= 15


def test_a_network_whose_outputs_are_integers_has_no_gauss_newton() -> None:
    class Chosen(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).argmax(1)

    with pytest.raises(InputError, match="no output of the model is differentiable"):
        GaussNewton([torch.randn(2, 4)]).observe(Chosen(4, 3))


def test_activation_norm_of_a_dense_layer_is_wandas() -> None:
    model, x, _ = regression()
    scores = ActivationNorm([x[:4], x[4:]]).observe(model)["weight"]
    assert torch.allclose(scores, model.weight.abs() * x.norm(dim=0))


@settings(max_examples=15)
@given(st.integers(1, 3), st.integers(1, 2), st.integers(0, 1), st.sampled_from([1, 2]))
def test_activation_norm_of_a_convolution_is_that_of_its_patches(kernel, stride, padding, groups) -> None:
    generator = torch.Generator().manual_seed(0)
    layer = nn.Conv2d(4, 6, kernel, stride, padding, groups=groups)
    x = torch.randn(3, 4, 6, 5, generator=generator)
    patches = F.unfold(x, kernel, stride=stride, padding=padding).transpose(0, 1).flatten(1)
    norms = patches.norm(dim=1).view(groups, 4 // groups, kernel, kernel)
    scores = ActivationNorm([x]).observe(layer)["weight"]
    wanted = layer.weight.abs() * norms.repeat_interleave(6 // groups, 0)
    assert torch.allclose(scores, wanted, rtol=1e-4, atol=1e-6)


class Normed(nn.Module):
    """Two convolutions with batch norms behind them, and a dense layer without."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.norm = nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6)
        self.two, self.after = nn.ConvTranspose2d(6, 4, 2, groups=2), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.after(self.two(self.norm(self.one(x)).relu())).relu().mean((2, 3)))


def test_by_row_an_amount_takes_the_same_share_of_each_row_as_two_of_four_would() -> None:
    torch.manual_seed(2)
    model, x = nn.Linear(4, 6, bias=False), torch.randn(9, 4)
    with torch.no_grad():
        model.weight.mul_(torch.arange(1.0, 7.0)[:, None])  # without rows, the last would keep all
    seen = ActivationNorm([x], by_row=True)
    mask = prune(model, seen, amount=0.5, layers=[""]).masks["weight"]
    assert torch.equal(mask, prune_n_of_m(model, ActivationNorm([x]), layers=[""]).masks["weight"])
    layerwise = prune(model, ActivationNorm([x]), amount=0.5, layers=[""]).masks["weight"]
    assert layerwise.sum(1).tolist() != [2] * 6 == mask.sum(1).tolist()


@pytest.mark.parametrize("groups", [1, 2])
def test_rows_of_a_transposed_convolution_are_those_of_an_output(groups: int) -> None:
    torch.manual_seed(0)
    model = nn.ConvTranspose1d(4, 6, 3, groups=groups)
    x = [torch.randn(2, 4, 5)]
    plain, ranked = (ActivationNorm(x, by_row=flag).observe(model)["weight"] for flag in (False, True))
    for unit in range(6):
        block, place = divmod(unit, 6 // groups)
        rows = slice(block * 4 // groups, (block + 1) * 4 // groups)
        scores, ranks = plain[rows, place].flatten(), ranked[rows, place].flatten()
        assert torch.equal(scores.argsort(), ranks.argsort())
        assert torch.allclose(ranks.sort().values, torch.arange(1, len(ranks) + 1) / len(ranks))


def test_batch_norm_scales_are_shared_out_among_the_weights_of_a_unit() -> None:
    model = Normed().eval()
    with torch.no_grad():
        model.norm.weight.copy_(torch.tensor([3.0, -1.0, 2.0, 0.5, 4.0, -5.0]))
        model.after.weight.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    scores = BatchNormScale([torch.randn(2, 1, 6, 6)]).observe(model)
    assert scores.keys() == {"one.weight", "two.weight"}
    assert torch.allclose(scores["one.weight"].flatten(1).sum(1), model.norm.weight.abs())
    two = scores["two.weight"]  # (inputs, outputs of a group): units 0, 1 read the first three inputs
    assert torch.allclose(two[:3].sum((0, 2, 3)), torch.tensor([1.0, 2.0]))
    assert torch.allclose(two[3:].sum((0, 2, 3)), torch.tensor([3.0, 4.0]))
    plain = nn.Sequential(model.one, model.norm, nn.ReLU(), nn.Flatten(), nn.Linear(96, 2))
    small = shrink(plain, (1, 6, 6), amount=0.34, criterion=BatchNormScale([torch.randn(2, 1, 6, 6)])).model
    assert small[1].weight.abs().tolist() == [3.0, 4.0, 5.0]


def test_the_unit_nearest_the_geometric_median_goes_first() -> None:
    torch.manual_seed(0)
    weight = torch.randn(9, 2, 3, 3)
    rows = weight.flatten(1).numpy().astype(float)
    apart = np.sqrt(((rows[:, None] - rows[None]) ** 2).sum(-1)).sum(1)
    assert np.allclose(GeometricMedian()(weight).flatten(1).sum(1).numpy(), apart, rtol=1e-5)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))


def data() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(6, 5, generator=generator), torch.randint(3, (6,), generator=generator))
        for _ in range(2)
    ]


@pytest.mark.parametrize("kind", [Taylor, Fisher, ActivationNorm])
def test_what_says_nothing_goes_first_in_prune_shrink_and_squeeze(kind) -> None:
    model, calibration = network(), data()
    for x, _ in calibration:
        x[:, 2] = 0  # an input that carries nothing
    with torch.no_grad():
        model[0].bias[:2] = -100  # units that never fire
    pruned = prune(model, kind(calibration), amount=8, layers=["0"])
    silent = ~pruned.masks["0.weight"]
    assert bool((silent[:, 2] | (kind is not ActivationNorm)).all())
    if kind is not ActivationNorm:
        units = prune(model, kind(calibration), amount=2, unit="neuron", layers=["0"]).masks["0.weight"]
        assert units.any(1).tolist() == [False, False, *[True] * 6]
        small = shrink(model, (5,), amount=0.25, criterion=kind(calibration)).model
        assert torch.equal(small[0].weight, model[0].weight[2:])
    steps = list(
        squeeze(
            model, kind(calibration), amount=0.5, iterations=2, retrain=lambda m: m,
            evaluate=lambda m: {"zeros": int((m[0].weight == 0).sum())},
        )
    )  # fmt: skip
    assert [step.metrics["zeros"] for step in steps] == [0, 20, 30]


def test_what_was_not_seen_is_refused_by_name() -> None:
    model = network()
    with pytest.raises(InputError, match="no calibration batches"):
        prune(model, ActivationNorm(iter([])), amount=0.5)
    with pytest.raises(InputError, match="layer '0': BatchNormScale saw nothing of it"):
        prune(model, BatchNormScale(data()), amount=0.5)
    with pytest.raises(InputError, match="must be L1"):
        prune(model, Taylor, amount=0.5)  # the class and no criterion of it
    with pytest.raises(InputError, match="chooses without scores"):
        prune_n_of_m(model, Random())


@settings(max_examples=20)
@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 4), st.integers(0, 99))
def test_n_of_m_keep_the_best_of_every_group(n: int, rows: int, blocks: int, seed: int) -> None:
    torch.manual_seed(seed)
    model = nn.Linear(4 * blocks, rows)
    mask = prune_n_of_m(model, torch.abs, n=n, layers=[""]).masks["weight"].view(-1, 4)
    values = model.weight.detach().abs().reshape(-1, 4)
    assert bool((mask.sum(1) == n).all())
    best = values.sort(1, descending=True).values[:, :n].sum(1)
    assert torch.allclose((values * mask).sum(1), best)


def test_two_of_four_are_torchs_semi_structured_layout() -> None:
    from torch.sparse._semi_structured_conversions import (
        sparse_semi_structured_from_dense_cutlass,
        sparse_semi_structured_to_dense_cutlass,
    )

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 6), nn.ReLU(), nn.Linear(6, 2))
    x, y = torch.randn(9, 64), torch.randint(2, (9,))
    result = prune_n_of_m(model, ActivationNorm([(x, y)]))
    assert [row.name for row in result.layers] == ["0", "2"] and result.achieved == 0.5 == result.requested
    dense = result.model[0].weight.detach().to(torch.bfloat16)
    packed, meta = sparse_semi_structured_from_dense_cutlass(dense)
    assert packed.shape == (32, 32)
    assert torch.equal(sparse_semi_structured_to_dense_cutlass(packed, meta), dense)
    again = prune_n_of_m(result.model, torch.abs, n=1)
    assert again.layers[0].before == 1024 and again.layers[0].pruned == 512
    with pytest.raises(InputError, match=r"'4': its rows of 6 weights are no multiple of 4"):
        prune_n_of_m(model, torch.abs, layers=["4"])
    with pytest.raises(InputError, match="found n=4, m=4"):
        prune_n_of_m(model, torch.abs, n=4)
