"""prune(): exact amounts, separating thresholds, nested rounds, untouched models, refused input."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune as torch_prune

from capacity import InputError, dense_capacity, measure
from compression.criteria import L1, L2, Random, Reservoir
from compression.masks import living_units, masks_of, nested, to_torch_pruning
from compression.pruning import prune


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 3))


CRITERIA = [L1(), L2(), L1(center="zero"), L2(center="zero"), Random(3), Reservoir(3), torch.abs]


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("unit", ["weight", "neuron"])
def test_exact_amounts(criterion, scope, unit) -> None:
    result = prune(net(), criterion, amount=4, unit=unit, scope=scope)
    pruned = [layer.pruned for layer in result.layers]
    assert sum(pruned) == 4 if scope == "global" else pruned == [4, 4]
    assert result.achieved == result.requested == 4
    for layer in result.layers:
        mask = result.masks[f"{layer.name}.weight"]
        alive = living_units(mask) if unit == "neuron" else mask
        assert int(alive.sum()) == layer.after
    assert masks_of(result.model).keys() == result.masks.keys()


@given(st.floats(0.01, 0.85), st.sampled_from(["weight", "neuron"]))
@settings(max_examples=30, deadline=None)
def test_fractions_are_rounded_and_achieved_says_what_came_of_it(amount: float, unit: str) -> None:
    result = prune(net(), L1(), amount=amount, unit=unit)
    total = sum(layer.before for layer in result.layers)
    pruned = sum(layer.pruned for layer in result.layers)
    assert pruned == sum(round(amount * layer.before) for layer in result.layers)
    assert result.requested == amount and result.achieved == pruned / total


def test_the_threshold_separates() -> None:
    model = net()
    result = prune(model, L1(center="zero"), amount=0.4, scope="global")
    kept = torch.cat([model[k].weight.abs()[result.masks[f"{k}.weight"]] for k in (0, 2)])
    gone = torch.cat([model[k].weight.abs()[~result.masks[f"{k}.weight"]] for k in (0, 2)])
    assert gone.max() <= kept.min()


@pytest.mark.parametrize("amount", [0.1, 0.35, 0.6])
def test_single_weights_as_torch_prunes_them(amount: float) -> None:
    mine, theirs = net(), net()
    pairs = [(theirs[0], "weight"), (theirs[2], "weight")]
    torch_prune.global_unstructured(pairs, torch_prune.L1Unstructured, amount=amount)
    result = prune(mine, L1(center="zero"), amount=amount, scope="global")
    assert all(torch.equal(result.masks[f"{k}.weight"], masks_of(theirs)[f"{k}.weight"]) for k in (0, 2))
    one = net()
    torch_prune.l1_unstructured(one[0], "weight", amount=amount)
    result = prune(mine, L1(center="zero"), amount=amount, layers=["0"])
    assert torch.equal(result.masks["0.weight"], masks_of(one)["0.weight"])


def test_torch_goes_on_where_we_stopped_and_we_where_torch_did() -> None:
    mine = to_torch_pruning(prune(net(), L1(center="zero"), amount=10, layers=["0"]).model)
    torch_prune.l1_unstructured(mine[0], "weight", amount=10)
    theirs = net()
    torch_prune.l1_unstructured(theirs[0], "weight", amount=10)
    theirs = prune(theirs, L1(center="zero"), amount=10, layers=["0"]).model
    once = prune(net(), L1(center="zero"), amount=20, layers=["0"])
    for model in (mine, theirs):
        assert torch.equal(masks_of(model)["0.weight"], once.masks["0.weight"])
        assert torch.equal(model(torch.ones(1, 6)), once.model(torch.ones(1, 6)))


def test_neurons_as_torch_prunes_channels() -> None:
    theirs = net()
    torch_prune.ln_structured(theirs[0], "weight", amount=3, n=1, dim=0)
    result = prune(net(), L1(center="zero"), amount=3, unit="neuron", layers=["0"])
    assert torch.equal(result.masks["0.weight"], masks_of(theirs)["0.weight"])


def test_a_silenced_neuron_loses_its_bias_and_emits_zero() -> None:
    result = prune(net(), L1(), amount=4, unit="neuron", layers=["0"])
    gone = ~living_units(result.masks["0.weight"])
    assert torch.equal(~result.masks["0.bias"], gone) and int(gone.sum()) == 4
    assert bool((result.model[0](torch.randn(5, 6))[:, gone] == 0).all())
    assert measure(result.model, (6,), effective=True).capacity_bits == dense_capacity(6, [6, 8, 3])


def test_round_two_lies_inside_round_one_and_other_layers_are_untouched() -> None:
    model = net()
    one = prune(model, L1(), amount=0.3, layers=["2"])
    two = prune(one.model, L1(), amount=0.3, layers=["2"])
    assert nested(two.masks, one.masks) and set(two.masks) == {"2.weight"}
    assert two.layers[0].before == one.layers[0].after
    assert torch.equal(two.model[0].weight, model[0].weight)
    neurons = prune(two.model, L2(), amount=2, unit="neuron", layers=["2"])
    assert nested(neurons.masks, two.masks)


def test_a_model_filled_from_a_state_dict_is_ranked_by_its_new_weights() -> None:
    trained = prune(net(), L1(), amount=2, unit="neuron").model
    with torch.no_grad():
        trained[0].parametrizations.weight.original.copy_(torch.rand(10, 6))
    loaded = prune(net(), L1(), amount=2, unit="neuron").model
    loaded.load_state_dict(trained.state_dict())
    trained(torch.zeros(1, 6))
    one, two = (prune(model, L1(), amount=2, unit="neuron").masks for model in (trained, loaded))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_convolutions_lose_output_channels() -> None:
    model = nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(5, 2))
    result = prune(model, L1(center="zero"), amount=2, unit="neuron")
    scores = model[0].weight.abs().flatten(1).sum(1)
    assert set((~living_units(result.masks["0.weight"])).nonzero().flatten().tolist()) == set(
        scores.argsort()[:2].tolist()
    )


def test_the_caller_s_model_stays_as_it_was() -> None:
    model = net()
    before = copy.deepcopy(model.state_dict())
    prune(model, L1(), amount=0.5)
    assert not torch_prune.is_pruned(model) and before.keys() == model.state_dict().keys()
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("amount", [0, -1, 0.0, -0.2, 1.0, 1.5, True, float("nan")])
def test_amounts_that_cannot_be(amount) -> None:
    with pytest.raises(InputError, match="amount must be an int of at least 1"):
        prune(net(), L1(), amount=amount)


def test_pruning_until_nothing_is_left_is_refused_by_layer() -> None:
    with pytest.raises(InputError, match=r"layer '2' has 8 left"):
        prune(net(), L1(), amount=8, unit="neuron")
    result = prune(net(), L1(), amount=7, unit="neuron", layers=["2"])
    with pytest.raises(InputError, match=r"layer '2' has 1 left"):
        prune(result.model, L1(), amount=0.9, unit="neuron", layers=["2"])
    model = net()
    with torch.no_grad():
        model[0].weight.mul_(1e-6)
    result = prune(model, L1(), amount=12, unit="neuron", scope="global")  # one of ten stays, others go
    assert [row.after for row in result.layers] == [1, 5] and result.shortfall == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": ["3"]}, "unknown layer"),
        ({"unit": "nueron"}, "did you mean 'neuron'"),
        ({"scope": "glob"}, "did you mean 'global'"),
        ({"criterion": lambda weight: weight.sum()}, "criterion gave scores of shape"),
    ],
)
def test_bad_input_is_named(change: dict, message: str) -> None:
    arguments = {"criterion": L1(), "amount": 1} | change
    with pytest.raises(InputError, match=message):
        prune(net(), arguments.pop("criterion"), **arguments)


def test_nan_weights_and_models_without_hidden_layers_are_refused() -> None:
    model = net()
    with torch.no_grad():
        model[2].weight[0, 0] = torch.nan
    with pytest.raises(InputError, match="layer '2': weight holds NaN"):
        prune(model, L1(), amount=1)
    with pytest.raises(InputError, match="no dense or convolutional layer"):
        prune(nn.Sequential(nn.Linear(2, 2)), L1(), amount=1)


def test_the_result_as_text_frame_and_latex() -> None:
    result = prune(net(), L1(), amount=4, unit="neuron")
    assert "mask only: nothing became smaller or faster" in str(result)
    assert result.to_frame()["after"].tolist() == [6, 4] and r"\toprule" in result.to_latex()


def test_amounts_per_layer() -> None:
    model = nn.Sequential(nn.Linear(4, 10), nn.ReLU(), nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 2))
    result = prune(model, L1(), amount={"2": 3, "0": 0.5}, unit="neuron")
    assert {row.name: row.pruned for row in result.layers} == {"2": 3, "0": 5}
    assert result.requested == {"2": 3, "0": 0.5} and result.achieved == {"2": 3, "0": 0.5}
    assert "per layer (2)" in str(result)
    assert prune(model, L1(), amount={"4": 1}, unit="neuron").layers[0].after == 1  # outputs only if named
    with pytest.raises(InputError, match="leave out layers and scope"):
        prune(model, L1(), amount={"0": 1}, scope="global")
    with pytest.raises(InputError, match="unknown layer"):
        prune(model, L1(), amount={"1": 1})
    with pytest.raises(InputError, match="amount must be"):
        prune(model, L1(), amount={"0": 1.5})
