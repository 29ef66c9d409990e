"""Which units go: scores of every type, NaN and infinity, number types of weights, units that stay."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from capacity import InputError
from compression.criteria import L1, L2, EnergyPerBit, Random, Reservoir
from compression.pruning import extend_masks, prune


def net(*widths: int, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    widths = widths or (6, 10, 8, 3)
    return nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(widths)))


@pytest.mark.parametrize("unit", ["weight", "neuron"])
@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize(
    ("criterion", "message"),
    [
        (lambda w: w.abs() / w.clamp(min=0), "layer '0': the criterion gave NaN scores"),
        (lambda w: torch.full_like(w, torch.nan), "layer '0': the criterion gave NaN scores"),
        (lambda w: w.abs().numpy(), "layer '0': the criterion gave ndarray instead of a tensor"),
        (lambda w: w.abs().sum(), "scores of shape"),
        (lambda w: w.to(torch.complex64), "complex scores"),
        ("l1", "criterion must be L1"),
    ],
)
def test_scores_that_have_no_order_are_refused_by_layer(criterion, message, scope, unit) -> None:
    model = net()
    with torch.no_grad():
        model[0].weight[0, 0] = 0.0
    with pytest.raises(InputError, match=message):
        prune(model, criterion, amount=0.9, scope=scope, unit=unit)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("criterion", [L1(), L2(center="zero"), torch.abs, Random(), EnergyPerBit()])
@pytest.mark.parametrize("unit", ["weight", "neuron"])
def test_weights_that_are_not_finite_are_refused_by_layer(value: float, criterion, unit: str) -> None:
    model = net()
    with torch.no_grad():
        model[1].weight[2, 3] = value
    found = "NaN" if value != value else "infinity"
    with pytest.raises(InputError, match=f"layer '1': weight holds {found}"):
        prune(model, criterion, amount=0.5, unit=unit, scope="global")


def test_models_without_values_are_refused() -> None:
    with pytest.raises(InputError, match="'0' lies on the meta device"):
        prune(net().to("meta"), L1(), amount=0.5)


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_a_score_of_infinity_stays(scope: str) -> None:
    def criterion(weight: Tensor) -> Tensor:
        return torch.where(weight > 0, torch.inf, weight.abs())

    model = net()
    positive = [layer.weight > 0 for layer in model[:2]]
    free = [int((~kept).sum()) for kept in positive]
    amount = sum(free) if scope == "global" else min(free)
    result = prune(model, criterion, amount=amount, scope=scope)
    for name, kept in zip(("0.weight", "1.weight"), positive, strict=True):
        assert bool((result.masks[name] | ~kept).all())
        assert scope == "layer" or torch.equal(result.masks[name], kept)
    for more in (amount + 1, 0.95):
        with pytest.raises(InputError, match="of them may go, the scores of others being infinite"):
            prune(model, criterion, amount=more, scope=scope, layers=["0", "1"])
    with pytest.raises(InputError, match="0 of them may go"):
        prune(model, lambda w: torch.full_like(w, torch.inf), amount=0.5)


def test_minus_infinity_goes_first_and_what_is_dead_stays_dead() -> None:
    model = net()
    one = prune(model, L1("zero"), amount=10, layers=["0"])
    alive = one.masks["0.weight"]
    worst = (alive & (model[0].weight > 0)).nonzero()[:4]

    def criterion(weight: Tensor) -> Tensor:
        scores = weight.abs()
        scores[tuple(worst.T)] = -torch.inf
        return scores

    two = prune(one.model, criterion, amount=3, layers=["0"])
    assert not bool((two.masks["0.weight"] & ~alive).any())
    gone = (alive & ~two.masks["0.weight"]).nonzero()
    assert torch.equal(gone, worst[:3])


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.int32, torch.int64, torch.bool])
def test_scores_of_every_type(kind: torch.dtype) -> None:
    model = net()
    result = prune(model, lambda w: (w.abs() * 100).to(kind), amount=20, layers=["0"])
    scores = (model[0].weight.abs() * 100).detach().to(kind).double().flatten()
    gone = scores.argsort(stable=True)[:20]
    assert torch.equal((~result.masks["0.weight"]).flatten().nonzero().flatten(), gone.sort().values)


@given(
    st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    st.sampled_from([L1(), L1("zero"), L2(), L2("zero"), torch.abs]),
    st.integers(0, 10**6),
    st.floats(1e-6, 1e3),
)
@settings(max_examples=60, deadline=None)
def test_masks_are_those_of_exact_arithmetic(kind, criterion, seed: int, scale: float) -> None:
    """Whatever the number type of the weights, as a sort of double-precision distances has it."""
    generator = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Linear(12, 16), nn.Linear(16, 2)).to(kind)
    with torch.no_grad():
        model[0].weight.copy_(torch.randn(16, 12, generator=generator, dtype=torch.float64) * scale)
    exact = model[0].weight.detach().double()
    center = exact.mean() if getattr(criterion, "center", "zero") == "mean" else 0.0
    distance = (exact - center).abs()
    mask = prune(model, criterion, amount=77, layers=["0"]).masks["0.weight"]
    assert int((~mask).sum()) == 77
    close = 1e-15 if kind == torch.float64 else 1e-6
    assert distance[~mask].max() <= distance[mask].min() + close * distance.max()


def test_small_and_large_weights_do_not_fall_together_when_squared() -> None:
    for scale in (1e-30, 1e30):
        model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2))
        with torch.no_grad():
            model[0].weight.copy_(torch.arange(64.0).flip(0).view(8, 8) * scale)
        mask = prune(model, L2("zero"), amount=10, layers=["0"]).masks["0.weight"]
        assert (~mask).flatten().nonzero().flatten().tolist() == list(range(54, 64))


def test_single_and_double_precision_together() -> None:
    model = net()
    model[1].double()
    result = prune(model, L1("zero"), amount=0.5, scope="global", layers=["0", "1"])
    scores = torch.cat([model[0].weight.double().flatten(), model[1].weight.flatten()]).abs()
    kept = torch.cat([result.masks["0.weight"].flatten(), result.masks["1.weight"].flatten()])
    assert int((~kept).sum()) == 70 and scores[~kept].max() <= scores[kept].min()


@given(
    st.lists(st.integers(1, 6), min_size=3, max_size=6),
    st.floats(0.05, 0.99),
    st.sampled_from(["weight", "neuron"]),
    st.integers(0, 3),
    st.sampled_from([L1("zero"), torch.abs, lambda w: torch.ones_like(w), Random(1), Reservoir(1)]),
)
@settings(max_examples=80, deadline=None)
def test_every_layer_keeps_some_and_others_go_instead(widths, share, unit, keep, criterion) -> None:
    model = net(2, *widths, 2)
    with torch.no_grad():
        model[0].weight.mul_(1e-6)
    names = [str(index) for index in range(len(widths))]
    before = [layer.weight.shape[0] if unit == "neuron" else layer.weight.numel() for layer in model[:-1]]
    room = sum(max(0, count - keep) for count in before)
    asked = round(share * sum(before))
    options = {"amount": share, "unit": unit, "scope": "global", "layers": names, "keep": keep}
    if asked and (not room or asked >= sum(before)):
        with pytest.raises(InputError, match=f"every layer keeps {keep}|at least one must stay"):
            prune(model, criterion, **options)
        return
    result = prune(model, criterion, **options)
    assert sum(row.pruned for row in result.layers) == min(asked, room)
    assert result.shortfall == asked - min(asked, room)
    for row, count in zip(result.layers, before, strict=True):
        assert row.before == count and row.after >= min(keep, count)


def test_the_units_that_stay_are_the_best_and_the_rest_by_score() -> None:
    model = net(4, 4, 4, 2)
    with torch.no_grad():
        model[0].weight.copy_(torch.arange(1.0, 17).view(4, 4) * 1e-3)
        model[1].weight.copy_(torch.arange(1.0, 17).view(4, 4))
    result = prune(model, L1("zero"), amount=20, scope="global")
    assert (result.masks["0.weight"]).nonzero().tolist() == [[3, 3]]
    assert (~result.masks["1.weight"]).flatten().nonzero().flatten().tolist() == [0, 1, 2, 3, 4]
    emptied = prune(model, L1("zero"), amount=20, scope="global", keep=0)
    assert not emptied.masks["0.weight"].any() and int((~emptied.masks["1.weight"]).sum()) == 4
    for keep in (-1, 0.5, True):
        with pytest.raises(InputError, match="keep must be an int"):
            prune(model, L1(), amount=0.5, keep=keep)


def test_samplers_that_do_not_sample_are_refused() -> None:
    class Twice:
        def choose(self, count: int, amount: int) -> np.ndarray:
            return np.zeros(amount, dtype=np.int64)

    class Outside:
        def choose(self, count: int, amount: int) -> np.ndarray:
            return np.arange(count, count + amount)

    for sampler, message in ((Twice(), "did not choose 4 distinct"), (Outside(), "outside of range")):
        with pytest.raises(InputError, match=message):
            prune(net(), sampler, amount=4)


def test_masks_are_extended_in_place_and_the_model_is_not() -> None:
    model, masks = net(), {}
    rows = extend_masks(model, masks, L1(), amount=5, layers=["0"])
    assert [(row.name, row.pruned) for row in rows] == [("0", 5)] and list(masks) == ["0.weight"]
    with pytest.raises(InputError, match="layers must be a list of names"):
        extend_masks(model, masks, L1(), amount=5, layers="0")
