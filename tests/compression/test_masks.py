"""Masks: read everywhere, over norms and ties, to and from torch's pruning, round trips."""

import copy

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import prune as torch_prune

from capacity import InputError
from capacity.cloning import clone, fold_masks, plain_copy
from compression.checkpoints import load_model, save_model
from compression.criteria import L1
from compression.masks import (
    apply_masks,
    density,
    from_torch_pruning,
    masks_of,
    nested,
    to_torch_pruning,
    validate,
)
from compression.pruning import prune
from compression.schedules import GradualPruning
from compression.targets import prunable
from compression.training import TrainingSettings, fit


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def test_whoever_reads_the_weight_reads_it_masked() -> None:
    model = net()
    dropped = model[0].weight.detach().clone()
    mask = torch.rand(4, 3) < 0.5
    apply_masks(model, {"0.weight": mask})
    assert torch.equal(model[0].weight != 0, mask) and torch.equal(masks_of(model)["0.weight"], mask)
    torch.nn.functional.linear(torch.ones(1, 3), model[0].weight).sum().backward()
    original = model[0].parametrizations.weight.original
    assert torch.equal(original.grad, mask.float()) and torch.equal(original, dropped)
    with torch.no_grad():
        original.add_(1)
    assert torch.equal(model[0].weight, (dropped + 1) * mask)
    assert type(fold_masks(model)[0]) is nn.Linear and torch.equal(model[0].weight, (dropped + 1) * mask)
    assert masks_of(model) == {} and set(model.state_dict()) == set(net().state_dict())


def test_attention_is_masked_where_it_never_calls_its_layers() -> None:
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(4, 2, batch_first=True)
    x = torch.randn(2, 3, 4)
    masks = {"out_proj.weight": torch.rand(4, 4) < 0.5, "in_proj_weight": torch.rand(12, 4) < 0.5}
    masked = apply_masks(clone(layer), masks)
    other = clone(layer)
    with torch.no_grad():
        other.out_proj.weight.mul_(masks["out_proj.weight"])
        other.in_proj_weight.mul_(masks["in_proj_weight"])
    for mode in (True, False):
        assert torch.allclose(masked.train(mode)(x, x, x)[0], other.train(mode)(x, x, x)[0], atol=1e-6)
    masked.train()(x, x, x)[0].sum().backward()
    gradient = masked.out_proj.parametrizations.weight.original.grad
    assert torch.equal(gradient != 0, masks["out_proj.weight"])
    assert torch.allclose(fold_masks(masked)(x, x, x)[0], other(x, x, x)[0], atol=1e-6)


def test_recurrent_weights_are_masked_through_training_and_folding() -> None:
    torch.manual_seed(0)
    layer, x = nn.LSTM(4, 5, batch_first=True), torch.randn(2, 3, 4)
    mask = torch.rand(20, 5) < 0.5
    masked = apply_masks(clone(layer), {"weight_hh_l0": mask})
    other = clone(layer)
    with torch.no_grad():
        other.weight_hh_l0.mul_(mask)
    assert torch.equal(masked(x)[0], other(x)[0])
    copied = clone(masked)
    with torch.no_grad():
        for model in (copied.parametrizations.weight_hh_l0.original, other.weight_hh_l0):
            model.mul_(2)
    assert torch.equal(copied(x)[0], other(x)[0]) and torch.equal(clone(copied)(x)[0], other(x)[0])
    assert torch.equal(fold_masks(copied)(x)[0], other(x)[0])


NORMS = {
    "weight norm": lambda layer: nn.utils.parametrizations.weight_norm(layer),
    "spectral norm": lambda layer: nn.utils.parametrizations.spectral_norm(layer),
    "orthogonal": lambda layer: nn.utils.parametrizations.orthogonal(layer),
    "weight norm by hook": lambda layer: nn.utils.weight_norm(layer),
    "spectral norm by hook": lambda layer: nn.utils.spectral_norm(layer),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("norm", NORMS)
def test_a_mask_lies_over_what_computes_the_weight(norm: str, tmp_path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(NORMS[norm](nn.Linear(6, 8)), nn.ReLU(), nn.Linear(8, 3))
    x = torch.randn(64, 6)
    model(x)
    whole = plain_copy(model)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    result = prune(model, L1("zero"), amount=0.5)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    mask = result.masks["0.weight"]
    assert torch.equal(mask, prune(whole, L1("zero"), amount=0.5).masks["0.weight"])
    assert torch.allclose(result.model.eval()[0].weight, whole[0].weight * mask, atol=1e-6)
    data = [(x, (x[:, 0] > 0).long())]
    trained = fit(result.model, data, settings=TrainingSettings(epochs=3, learning_rate=0.1)).model
    assert torch.equal(masks_of(trained)["0.weight"], mask) and not trained[0].weight[~mask].any()
    assert not torch.allclose(trained[0].weight, result.model[0].weight)
    save_model(trained, tmp_path / "m.safetensors")
    loaded = load_model(clone(result.model), tmp_path / "m.safetensors").eval()
    assert torch.equal(loaded(x), trained(x))
    assert torch.allclose(plain_copy(trained)(x), trained(x), atol=1e-6)
    assert torch.equal(model.eval()(x), clone(model).eval()(x))
    if norm.startswith("weight"):
        with pytest.raises(InputError, match=r"0\.weight"):
            to_torch_pruning(trained)


def test_gradual_pruning_over_a_weight_norm() -> None:
    torch.manual_seed(0)
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(6, 8))
    model, x = nn.Sequential(layer, nn.ReLU(), nn.Linear(8, 3)), torch.randn(64, 6)
    schedule = GradualPruning(L1("zero"), 0.5, end_epoch=3, updates=3)
    settings = TrainingSettings(epochs=4, gradual=schedule, snapshot_epoch=1)
    found = fit(model, [(x, (x[:, 0] > 0).long())], settings=settings)
    assert density(masks_of(found.model)) == 0.5 and int((found.model[0].weight == 0).sum()) == 24
    assert bool((found.snapshot[0].weight != 0).all())


def test_names_of_ones_own_are_no_masks() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(6, 3)
            self.scale_orig = nn.Parameter(torch.ones(6))
            self.register_buffer("scale_mask", torch.ones(6))
            self.register_buffer("causal_mask", torch.ones(6))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(x * self.scale_orig)

    data = [(torch.randn(4, 6), torch.arange(4) % 3)]
    assert masks_of(Own()) == {}
    trained = fit(Own(), data, settings=TrainingSettings(epochs=1)).model
    assert set(trained.state_dict()) == set(Own().state_dict())


def test_a_tied_weight_is_masked_under_all_its_names(tmp_path) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    mask = torch.rand(4, 4) < 0.5
    apply_masks(model, {"0.weight": mask})
    assert torch.equal(model[1].weight, model[0].weight) and torch.equal(model[1].weight != 0, mask)
    assert set(masks_of(model)) == {"0.weight"}
    other = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    other[1].weight = other[0].weight
    save_model(model, tmp_path / "m.safetensors")
    loaded = load_model(other, tmp_path / "m.safetensors")
    assert torch.equal(loaded(torch.ones(1, 4)), model(torch.ones(1, 4)))
    folded = fold_masks(clone(model))
    assert folded[0].weight is folded[1].weight and torch.equal(folded[0].weight != 0, mask)


def test_what_is_folded_in_a_deep_copy_stays_in_the_original() -> None:
    model = apply_masks(net(), {"0.weight": torch.rand(4, 3) < 0.5})
    before = model(torch.ones(1, 3))
    fold_masks(copy.deepcopy(model))
    apply_masks(copy.deepcopy(model), {"0.bias": torch.zeros(4)})
    assert torch.equal(model(torch.ones(1, 3)), before) and model[0].bias.any()


@pytest.mark.parametrize("form", ["file", "state dict"])
def test_masks_stored_by_the_names_of_torchs_pruning_are_read(form: str, tmp_path) -> None:
    stored = net()
    torch_prune.l1_unstructured(stored[0], "weight", amount=5)
    if form == "file":
        save_model(stored, tmp_path / "m.safetensors")
        found = load_model(net(), tmp_path / "m.safetensors")
        again = load_model(prune(net(), L1(), amount=0.5).model, tmp_path / "m.safetensors")
        assert torch.equal(again(torch.ones(1, 3)), stored(torch.ones(1, 3)))
    else:
        found = prune(net(), L1(), amount=0.5).model
        found.load_state_dict(stored.state_dict())
    assert torch.equal(found(torch.ones(1, 3)), stored(torch.ones(1, 3)))
    assert torch.equal(masks_of(found)["0.weight"], stored[0].weight_mask.bool())


def test_to_torchs_pruning_and_back() -> None:
    mine = apply_masks(net(), {"0.weight": torch.rand(4, 3) < 0.5, "2.bias": torch.tensor([True, False])})
    theirs = to_torch_pruning(mine)
    x = torch.randn(5, 3)
    assert torch_prune.is_pruned(theirs) and not torch_prune.is_pruned(mine)
    back = from_torch_pruning(theirs)
    assert torch_prune.is_pruned(theirs) and torch.equal(back(x), theirs(x)) and torch.equal(back(x), mine(x))
    assert back.state_dict().keys() == mine.state_dict().keys()
    assert all(torch.equal(value, mine.state_dict()[key]) for key, value in back.state_dict().items())


def test_a_model_that_torch_pruned_is_understood() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    torch_prune.l1_unstructured(model[0], "weight", amount=20)
    mask = model[0].weight_mask.bool()
    result = prune(model, L1("zero"), amount=0.5)
    assert nested(result.masks, {"0.weight": mask}) and result.layers[0].before == 28
    data = [(torch.randn(8, 6), torch.arange(8) % 3)]
    trained = fit(model, data, settings=TrainingSettings(epochs=2)).model
    assert torch.equal(masks_of(trained)["0.weight"], mask) and not trained[0].weight[~mask].any()
    assert torch_prune.is_pruned(model) and not plain_copy(model)[0].weight[~mask].any()


def test_masks_set_by_torch_are_read() -> None:
    model = net()
    torch_prune.l1_unstructured(model[0], "weight", amount=5)
    assert density(masks_of(model)) == pytest.approx(7 / 12)


def test_masks_survive_state_dict_and_training_by_any_loop() -> None:
    model = apply_masks(net(), {"0.weight": torch.rand(4, 3) < 0.5})
    other = apply_masks(net(), {"0.weight": torch.ones(4, 3, dtype=torch.bool)})
    other.load_state_dict(model.state_dict())
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        other(torch.ones(2, 3)).square().sum().backward()
        optimizer.step()
    other(torch.ones(1, 3))
    assert torch.equal(masks_of(other)["0.weight"], masks_of(model)["0.weight"])
    assert bool((other[0].weight[~masks_of(model)["0.weight"]] == 0).all())


def test_a_second_mask_replaces_the_first() -> None:
    model = apply_masks(net(), {"0.weight": torch.zeros(4, 3, dtype=torch.bool)})
    apply_masks(model, {"0.weight": torch.ones(4, 3, dtype=torch.bool)})
    assert density(masks_of(model)) == 1.0 and bool((model[0].weight != 0).all())


def test_a_masked_model_can_be_cloned_after_a_forward_pass() -> None:
    model = apply_masks(net(), {"0.weight": torch.rand(4, 3) < 0.5})
    before = model(torch.ones(1, 3))
    copied = clone(model)
    assert torch.equal(copied(torch.ones(1, 3)), before)
    original = copied[0].parametrizations.weight.original
    assert original is not model[0].parametrizations.weight.original


def test_nesting() -> None:
    big, small = torch.tensor([True, True, False]), torch.tensor([True, False, False])
    assert nested({"w": small}, {"w": big}) and not nested({"w": big}, {"w": small})


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"0.weight": torch.ones(3, 4)}, r"shape \(3, 4\), the parameter \(4, 3\)"),
        ({"0.weight": torch.full((4, 3), 0.5)}, "other than 0 and 1"),
        ({"9.weight": torch.ones(4, 3)}, "unknown parameter '9.weight'"),
        ({"0.wait": torch.ones(4, 3)}, "did you mean '0.weight'"),
    ],
)
def test_wrong_masks_are_refused(masks: dict, message: str) -> None:
    model = net()
    with pytest.raises(InputError, match=message):
        validate(model, masks)
    with pytest.raises(InputError, match=message):
        apply_masks(model, masks)
    assert masks_of(model) == {}


def test_prunable_layers() -> None:
    assert list(prunable(net(), None)) == ["0"] and list(prunable(net(), ["2"])) == ["2"]
    with pytest.raises(InputError, match="unknown layer to prune"):
        prunable(net(), ["1"])


def test_models_given_the_same_mask_do_not_share_what_they_load() -> None:
    mask = torch.rand(4, 3) < 0.5
    given = mask.clone()
    one, two = (apply_masks(net(), {"0.weight": mask}) for _ in range(2))
    two.load_state_dict(apply_masks(net(), {"0.weight": ~mask}).state_dict())
    apply_masks(one, {"0.weight": torch.ones(4, 3)})
    assert torch.equal(mask, given) and torch.equal(masks_of(two)["0.weight"], ~given)


def test_dropped_values_are_zeroed_behind_masks_of_every_layout() -> None:
    layer = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    mask = torch.rand(4, 3, 3, 3) < 0.5
    for kept in (mask, mask.transpose(2, 3)):
        masked = apply_masks(clone(layer), {"weight": kept}, keep_dropped=False)
        assert torch.equal(masked.parametrizations.weight.original, layer.weight * kept)


def test_a_mask_that_does_more_than_keep_and_drop_is_refused_and_the_advice_works(tmp_path) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)), torch.randn(3, 4)
    torch_prune.custom_from_mask(model[0], "weight", torch.full((6, 4), 0.5))
    assert torch.equal(clone(model)(x), model(x))
    told = "0.weight_mask holds 0.5, and a mask is of 0 and 1"
    for work in (lambda m: prune(m, L1(), amount=0.5), from_torch_pruning, masks_of):
        with pytest.raises(InputError, match=told):
            work(model)
    save_file(model.state_dict(), tmp_path / "soft")
    with pytest.raises(InputError, match=told):
        load_model(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)), tmp_path / "soft")
    before = model(x)
    torch_prune.remove(model[0], "weight")
    assert torch.equal(from_torch_pruning(model)(x), before)
