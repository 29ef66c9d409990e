"""code_with_feedback(): each choice by hand, small layers against all choices, and files that hold them."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from capacity import InputError
from compression import code_with_feedback, coding_report, decode, encode, evaluate, quantize_rate_distortion
from compression.feedback.coding import Grid, Rates, code_matrices, natural_step
from compression.feedback.sweeping import descend, factor_of, output_error, sweep
from compression.feedback.worths import output_worths
from compression.targets import targets


def problem(rows: int, columns: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, H of inputs that depend on each other, and what errors of rows are worth."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, 60, columns, generator=generator).double()
    x = x + x.mean(2, keepdim=True) * 2
    weights = torch.randn(1, rows, columns, generator=generator).double()
    return weights, 2 * x.transpose(1, 2) @ x / 60, torch.rand(1, rows, generator=generator).double() + 0.1


def test_rates_are_those_of_counts() -> None:
    levels = torch.zeros(1, 64, 64)
    levels[0, :32, ::2] = 1.0
    levels[0, :32, 1] = -2.0
    rates = Rates(levels)
    ones, twos = 32 * 32, 32
    symbol = -math.log2((ones + 0.25) / (ones + twos + 0.5 + 1))
    assert rates.symbols[1024 + 1].item() == pytest.approx(symbol)
    assert rates.of(torch.ones(1, 64), 0)[0, 0] < 1.1 < 3.9 < rates.of(torch.ones(1, 64), 0)[0, 63]
    counted = sum(float(rates.of(levels[..., column], column).sum()) for column in range(64))
    assert float(rates.by_row(levels).sum()) == pytest.approx(counted)
    chance = 2.0**-rates.zero + 2.0**-rates.other
    assert torch.allclose(chance, torch.ones_like(chance))


def test_a_weight_alone_is_where_error_and_bits_cost_least() -> None:
    weights = torch.linspace(-2.4, 2.4, 97).double()[None, :, None]
    rates, worth = Rates(weights.round()), torch.full((1, 97), 0.5).double()
    grid = Grid(1.0, 0.05, worth, weights != 0, weights.round(), rates)
    found, loss = sweep(weights, factor_of(torch.full((1, 1, 1), 4.0).double()), grid)
    for row, weight in enumerate(weights[0, :, 0].tolist()):

        def cost(level: float, row: int = row, weight: float = weight) -> float:
            bits = rates.of(torch.full((1, 97), level), 0)[0, row]
            return 0.5 * 4.0 * (weight - level) ** 2 + 0.05 * float(bits)

        best = min((-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0), key=cost)
        assert found[0, row, 0] == best
    assert torch.allclose(loss[0], 4.0 * (weights - found)[0, :, 0].square())


@settings(max_examples=8)
@given(st.integers(0, 100), st.sampled_from([0.01, 0.1]))
def test_small_rows_lie_between_the_best_of_all_choices_and_plain_rounding(seed: int, penalty: float) -> None:
    weights, hessian, _ = problem(25, 3, seed)
    worth = torch.full((1, 25), 0.5).double()
    rates = Rates((weights[:, :1] / 0.5).round())  # the same for all rows

    def grid(levels: Tensor) -> Grid:
        return Grid(0.5, penalty, worth, weights != 0, levels, rates)

    def cost(values: Tensor, row: slice | int = slice(None)) -> Tensor:
        error = output_error(weights[:, row].view(1, -1, 3) - values, hessian) * 0.5
        return (error + penalty * rates.by_row((values / 0.5).round()))[0]

    swept, _ = sweep(weights, factor_of(hessian), grid((weights / 0.5).round()))
    costs, values = [cost(swept)], swept
    for _ in range(4):
        values = descend(weights, values, hessian, grid((values / 0.5).round()))
        costs.append(cost(values))
    assert all(bool((after <= before + 1e-9).all()) for before, after in itertools.pairwise(costs))
    every = 0.5 * torch.tensor(list(itertools.product(range(-7, 8), repeat=3))).double()[None]
    best = torch.stack([cost(every, row).min() for row in range(25)])
    plain = cost((weights / 0.5).round() * 0.5)
    assert bool((best <= costs[-1] + 1e-9).all())
    assert costs[-1].sum() < plain.sum()


def test_steps_follow_from_the_penalty() -> None:
    weights, hessian, worth = problem(30, 20)
    factor = factor_of(hessian)
    step = natural_step(weights, factor, worth, 1e-4)
    bend = (worth[..., None] / factor.diagonal(dim1=1, dim2=2)[:, None].square()).mean().item()
    slope = bend * step**2 / 6  # of the error by ln(step): nats that a nat of each weight's bits is worth
    assert slope * math.log(2) == pytest.approx(1e-4, rel=2e-3)
    coded = [code_matrices(weights, hessian, worth, penalty, 1.0) for penalty in (1e-4, 1e-3, 1e-2, 1e-1)]
    assert all(a.bits > b.bits and a.loss_nats < b.loss_nats for a, b in itertools.pairwise(coded))
    exact = float((output_error(weights - coded[1].levels * coded[1].step, hessian) * worth).sum())
    assert coded[1].loss_nats == pytest.approx(exact)


def test_what_outputs_are_worth_is_fishers_of_a_softmax() -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(3, 4).double(), torch.randn(4000, 3).double()
    worth = output_worths(layer, targets(layer), [x])[""]
    chances = layer(x).softmax(1).detach()
    assert torch.allclose(worth[0], (chances * (1 - chances)).mean(0), rtol=0.1)
    conv = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.Flatten(), nn.Linear(8, 3)).double()
    places = output_worths(conv, targets(conv), [torch.randn(500, 1, 4, 4).double()])
    assert places["0"].shape == (1, 2) and places["2"].shape == (1, 3)


def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 1, 8, 8, generator=generator)
    return [
        (x[:30] + x[:30].mean((2, 3), keepdim=True), torch.arange(30) % 4),
        (x[30:], torch.arange(30) % 4),
    ]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    stem = [
        nn.Conv2d(1, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, groups=2, stride=2),
        nn.ReLU(),
    ]
    return nn.Sequential(*stem, nn.Flatten(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 4)).eval()


def test_the_file_holds_the_multiples(tmp_path) -> None:
    model = network()
    with torch.no_grad():
        model[6].weight[:, ::2] = 0
    before = [p.clone() for p in model.parameters()]
    result = code_with_feedback(model, batches(), penalty=1e-8)
    assert [tensor.name for tensor in result.tensors] == ["0", "3", "6", "8"] and not result.left
    size = encode(result.model, tmp_path / "net.dcz")
    again = decode(tmp_path / "net.dcz", network())
    assert torch.equal(again(batches()[0][0]), result.model(batches()[0][0]))
    report = coding_report(result.model)
    kinds = {tensor.name: tensor.kind for tensor in report.tensors}
    assert {kinds[f"{name}.weight"] for name in "0368"} == {"grid"}
    assert sum(tensor.bits for tensor in result.tensors) / 8 < size
    for tensor in result.tensors:
        weight = result.model.get_parameter(f"{tensor.name}.weight").detach().double()
        levels = weight / tensor.step
        assert torch.allclose(levels, levels.round(), atol=1e-6)
        assert int(levels.round().abs().max()) == tensor.largest_multiple
    assert not result.model[6].weight[:, ::2].any()
    assert torch.equal(result.model[0].bias, model[0].bias.half().float())
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert "nats a bit" in str(result)


def test_fewer_bytes_than_rounding_weight_by_weight_at_the_same_loss(tmp_path) -> None:
    model, data = network(), batches()

    def figures(coded: nn.Module) -> tuple[int, float]:
        with torch.no_grad():
            change = sum(float((coded(x) - model(x)).square().sum()) for x, _ in data)
        return encode(coded, tmp_path / "x"), change

    ours = [figures(code_with_feedback(model, data, penalty=p).model) for p in (3e-4, 1e-4, 3e-5)]
    alone = [
        figures(quantize_rate_distortion(model, penalty=0.05, relative_step=step).model)
        for step in (0.8, 0.6, 0.4, 0.3, 0.2)
    ]
    for size, change in ours:
        assert all(other > size for other, difference in alone if difference <= change)
    assert [size for size, _ in ours] == sorted(size for size, _ in ours)
    assert evaluate(code_with_feedback(model, data, penalty=1e-7).model, data).total == 60


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"penalty": 0.0}, "penalty must be positive"),
        ({"penalty": math.inf}, "penalty must be positive"),
        ({"penalty": 1e-3, "layers": ["nine"]}, "nine"),
        ({"penalty": 1e-3, "layers": ["1"]}, "1"),
        ({"penalty": 1e-3, "layers": "0"}, "list of names"),
        ({"penalty": 1e-3, "relative_step": 0.0}, "relative_step must be positive"),
        ({"penalty": 1e-3, "seed": -1}, "seed"),
        ({"penalty": 1e-3, "batches": []}, "no calibration batches"),
        ({"penalty": 1e-3, "batches": [torch.full((2, 1, 8, 8), math.nan)]}, "NaN"),
    ],
)
def test_what_cannot_be_is_refused(arguments, words) -> None:
    with pytest.raises(InputError, match=words):
        code_with_feedback(network(), **{"batches": batches(), **arguments})
