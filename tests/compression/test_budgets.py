"""Sensitivity per layer, and the least pruning within a budget, or the nearest that can be reached."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from capacity import InputError, measure
from compression.batches import TensorBatches
from compression.budgets import Budget, prune_to_budget
from compression.costs import flops
from compression.criteria import L1
from compression.masks import masks_of
from compression.pruning import prune
from compression.sensitivity import Effect, Sensitivity, sensitivity
from compression.training import evaluate


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 30), nn.ReLU(), nn.Linear(30, 20), nn.ReLU(), nn.Linear(20, 3))


INPUTS = torch.randn(300, 6, generator=torch.Generator().manual_seed(1))
DATA = TensorBatches(INPUTS, net()(INPUTS).argmax(1), 100)


def error(model: nn.Module) -> float:
    return evaluate(model, DATA).top1_error


def test_each_effect_is_that_layer_pruned_alone() -> None:
    found = sensitivity(net(), L1("zero"), evaluate=error, amounts=(0.3, 0.9))
    assert found.layers == ["0", "2"] and found.baseline == 0
    for effect in found.effects:
        alone = prune(net(), L1("zero"), amount={effect.layer: effect.requested}).model
        assert effect.error == error(alone)
        assert set(masks_of(alone)) == {f"{effect.layer}.weight"}
    assert "30 %" in str(found) and "\\toprule" in found.to_latex() and len(found.to_frame()) == 4


MADE = Sensitivity(
    "weight",
    0.1,
    tuple(Effect("a", ("a",), x, 0.1 + y) for x, y in ((0.2, 0.0), (0.4, 0.1), (0.6, 0.05), (0.8, 0.3))),
)


@pytest.mark.parametrize(
    ("tolerance", "amount"), [(0.0, 0.2), (0.05, 0.3), (0.1, 0.6), (0.2, 0.7), (0.3, 0.8), (9, 0.8)]
)
def test_amounts_are_interpolated_and_never_fall(tolerance: float, amount: float) -> None:
    assert MADE.amounts(tolerance)["a"] == pytest.approx(amount)
    assert MADE.largest_rise == pytest.approx(0.3)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_tolerance_never_allows_less(errors, one, two) -> None:
    rows = tuple(Effect("a", ("a",), (k + 1) / 10, value) for k, value in enumerate(errors))
    found = Sensitivity("weight", 0.0, rows)
    low, high = sorted((one, two))
    assert found.amounts(low)["a"] <= found.amounts(high)["a"] + 1e-12


@given(st.integers(60, 700))
@settings(max_examples=6, deadline=None)
def test_a_capacity_budget_is_met_and_not_overshot_by_more_than_a_neuron(bits: int) -> None:
    found = prune_to_budget(
        net(), L1("zero"), input_size=(6,), budget=Budget("capacity_bits", bits), unit="neuron"
    )
    assert found.reached <= bits
    assert found.reached == measure(found.model, (6,), effective=True).capacity_bits
    if found.amounts:
        assert found.reached > bits - 70  # the next neuron up would not fit
    else:
        assert found.before == found.reached


def test_sensitive_layers_keep_more() -> None:
    rows = [Effect("0", ("0",), a, 0.9 * a) for a in (0.3, 0.6, 0.9)]
    rows += [Effect("2", ("2",), a, 0.1 * a) for a in (0.3, 0.6, 0.9)]
    found = prune_to_budget(
        net(), L1(), input_size=(6,), budget=Budget("parameters", 500),
        sensitivity=Sensitivity("weight", 0, tuple(rows)),
    )  # fmt: skip
    assert found.reached <= 500 and found.amounts["2"] > 3 * found.amounts["0"] > 0
    assert "parameters" in str(found)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.last = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        return self.last((x + self.inner(x)).mean((2, 3)))


@pytest.mark.parametrize("cost", ["flops", "parameters", "capacity_bits"])
def test_channels_are_removed_group_by_group(cost: str) -> None:
    torch.manual_seed(0)
    model, x = Block(), torch.randn(40, 3, 8, 8)
    data = TensorBatches(x, model(x).argmax(1), 20)
    found = sensitivity(
        model, L1("zero"), evaluate=lambda m: evaluate(m, data).cross_entropy_nats, input_size=(3, 8, 8),
        unit="channel", amounts=(0.25, 0.5, 0.75),
    )  # fmt: skip
    assert [set(effect.coupled) for effect in found.effects[:1]] == [{"stem", "inner"}]
    budget = Budget(cost, 0.5 * Budget(cost, 0).measure(model, (3, 8, 8)))
    small = prune_to_budget(
        model, L1("zero"), input_size=(3, 8, 8), budget=budget, unit="channel", sensitivity=found
    )
    assert small.reached <= budget.at_most < small.before
    assert small.model.stem.out_channels == small.model.inner.out_channels < 16
    assert cost != "flops" or small.reached == flops(small.model, (3, 8, 8))


@pytest.mark.slow
def test_a_latency_budget_on_a_wide_network() -> None:
    model = nn.Sequential(
        nn.Linear(256, 2048), nn.ReLU(), nn.Linear(2048, 2048), nn.ReLU(), nn.Linear(2048, 10)
    )
    before = Budget("latency_ms", 0).measure(model, (256,))
    found = prune_to_budget(
        model, L1(), input_size=(256,), budget=Budget("latency_ms", 0.5 * before), unit="channel"
    )
    assert found.reached <= 0.5 * before and found.model[0].out_features < 2048


def test_transformer_budgets_leave_a_head() -> None:
    from torchvision.models import VisionTransformer

    model = VisionTransformer(
        image_size=32, patch_size=8, num_layers=1, num_heads=4, hidden_dim=32, mlp_dim=64, num_classes=10
    )
    budget = Budget("flops", 0.6 * flops(model, (3, 32, 32)))
    found = prune_to_budget(model, L1(), input_size=(3, 32, 32), budget=budget, unit="channel")
    assert found.model(torch.randn(1, 3, 32, 32)).shape == (1, 10)
    assert found.reached <= found.budget.at_most


def test_what_cannot_be_reached_names_the_nearest_that_can() -> None:
    with pytest.raises(InputError, match="reached by pruning neurons: the nearest that can is 9"):
        prune_to_budget(net(), L1(), input_size=(6,), budget=Budget("capacity_bits", 8), unit="neuron")
    with pytest.raises(InputError, match="use unit='channel'"):
        prune_to_budget(net(), L1(), input_size=(6,), budget=Budget("flops", 10), unit="neuron")
    with pytest.raises(InputError, match="unknown budget"):
        prune_to_budget(net(), L1(), input_size=(6,), budget=Budget("bytes", 10))
    with pytest.raises(InputError, match="measured for weights, not for neurons"):
        prune_to_budget(
            net(), L1(), input_size=(6,), budget=Budget("parameters", 10), unit="neuron", sensitivity=MADE
        )
    unchanged = prune_to_budget(net(), L1(), input_size=(6,), budget=Budget("parameters", 10**9))
    assert unchanged.before == unchanged.reached == 893 and unchanged.amounts == {}


def test_bad_amounts() -> None:
    for amounts in ((), (0.5, 0.5), (0.0,), (0.9, 0.1)):
        with pytest.raises(InputError, match="ascending fractions"):
            sensitivity(net(), L1(), evaluate=error, amounts=amounts)
    with pytest.raises(InputError, match="needs its input_size"):
        sensitivity(net(), L1(), evaluate=error, unit="channel")
    with pytest.raises(InputError, match="unknown unit"):
        sensitivity(net(), L1(), evaluate=error, unit="neurons")
    for found in (float("nan"), {"error": 0.1}, None):
        with pytest.raises(InputError, match="evaluate must return a finite error"):
            sensitivity(net(), L1(), evaluate=lambda model, found=found: found, amounts=(0.5,))
    with pytest.raises(InputError, match="tolerance must be a number"):
        MADE.amounts(float("nan"))


class HeadsFirst(nn.Module):
    """Two heads, registered before the trunk, and a gate of one unit."""

    def __init__(self) -> None:
        super().__init__()
        self.policy, self.value = nn.Linear(12, 3), nn.Linear(12, 1)
        self.trunk, self.gate = nn.Linear(6, 12), nn.Linear(12, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.trunk(x).relu()
        x = x * self.gate(x).sigmoid()
        return self.policy(x), self.value(x)


def test_heads_keep_their_weights_in_every_search() -> None:
    torch.manual_seed(0)
    model = HeadsFirst()

    def evaluated(pruned: nn.Module) -> float:
        return float((pruned(INPUTS)[0] - model(INPUTS)[0]).detach().square().mean())

    found = sensitivity(model, L1("zero"), evaluate=evaluated, amounts=(0.5,), input_size=(6,))
    assert found.layers == ["trunk", "gate"]
    neurons = sensitivity(model, L1("zero"), evaluate=evaluated, amounts=(0.9,), unit="neuron")
    assert neurons.layers == ["trunk"]  # one unit cannot lose any
    budget = Budget("parameters", 120)
    reached = prune_to_budget(model, L1("zero"), input_size=(6,), budget=budget)
    assert reached.reached <= 120 and set(reached.amounts) == {"trunk", "gate"}
    assert {name.split(".")[0] for name in masks_of(reached.model)} <= {"trunk", "gate"}
