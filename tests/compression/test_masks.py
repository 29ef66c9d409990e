"""Masks: validation, torch's own format, nesting, round trips."""

import pytest
import torch
from torch import nn
from torch.nn.utils import prune as torch_prune

from capacity import InputError
from capacity.cloning import clone
from compression.masks import apply_masks, density, masks_of, nested, validate
from compression.targets import prunable


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def test_masks_are_torchs_own() -> None:
    model = net()
    mask = torch.rand(4, 3) < 0.5
    apply_masks(model, {"0.weight": mask})
    assert torch_prune.is_pruned(model)
    assert torch.equal(model[0].weight != 0, mask) and torch.equal(masks_of(model)["0.weight"], mask)
    torch_prune.remove(model[0], "weight")
    assert not torch_prune.is_pruned(model) and masks_of(model) == {}


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
    assert copied[0].weight_orig is not model[0].weight_orig


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
    assert not torch_prune.is_pruned(model)


def test_prunable_layers() -> None:
    assert list(prunable(net(), None)) == ["0"] and list(prunable(net(), ["2"])) == ["2"]
    with pytest.raises(InputError, match="unknown layer to prune"):
        prunable(net(), ["1"])
