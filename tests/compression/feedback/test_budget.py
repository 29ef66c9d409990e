"""code_to_budget(): files just within the budget, of the penalty that they need; refusals."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from capacity import InputError
from compression import code_to_budget, code_with_feedback, encode


def batches() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 12, generator=generator)
    return [x[:100] + x[:100].mean(1, keepdim=True), x[100:]]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 40), nn.ReLU(), nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 4)).eval()


def size(model: nn.Module, tmp_path) -> int:
    return encode(model, tmp_path / "net.dcz")


@settings(max_examples=4)
@given(st.integers(500, 1500))
def test_the_file_is_just_within_the_budget(tmp_path_factory, budget: int) -> None:
    folder = tmp_path_factory.mktemp("budget")
    result = code_to_budget(network(), batches(), budget_bytes=budget)
    assert 0.9 * budget <= size(result.model, folder) <= budget
    again = code_with_feedback(network(), batches(), penalty=result.penalty)
    assert all(
        torch.equal(a, b) for a, b in zip(again.model.parameters(), result.model.parameters(), strict=True)
    )


def test_more_bytes_err_less(tmp_path) -> None:
    model, data = network(), batches()

    def change(budget: int) -> float:
        coded = code_to_budget(model, data, budget_bytes=budget).model
        with torch.no_grad():
            return sum(float((coded(x) - model(x)).square().sum()) for x in data)

    changes = [change(budget) for budget in (500, 800, 1300)]
    assert changes == sorted(changes, reverse=True) and changes[0] > 2 * changes[-1]


def test_a_budget_above_all_that_is_needed_gives_the_finest_steps(tmp_path) -> None:
    result = code_to_budget(network(), batches(), budget_bytes=10**6)
    with torch.no_grad():
        for x in batches():
            assert torch.allclose(result.model(x), network()(x), atol=2e-3)


def test_what_cannot_be_is_refused(tmp_path) -> None:
    with pytest.raises(InputError, match=r"budget_bytes=20 cannot be reached: the nearest that can is \d+"):
        code_to_budget(network(), batches(), budget_bytes=20)
    for budget in (0, -5, math.inf):
        with pytest.raises(InputError, match="budget_bytes must be positive and finite"):
            code_to_budget(network(), batches(), budget_bytes=budget)
    with pytest.raises(InputError, match="budget_bytes"):
        code_to_budget(network(), batches(), budget_bytes="20 kB")
    with pytest.raises(InputError, match="generator"):
        code_to_budget(network(), iter(x for x in batches()), budget_bytes=900)
