"""live_masks(): element by element what `measure(effective=True)` counts."""

import torch
from torch import nn

from analysis.lab.models import create
from capacity import measure
from capacity.live import live_masks
from compression.criteria import L1
from compression.pruning import prune


def test_the_masks_sum_to_what_measure_counts() -> None:
    torch.manual_seed(0)
    for name, size in (("lenet5", (1, 28, 28)), ("lenet300", (1, 8, 8))):
        model = prune(create(name, input_size=size, classes=10), L1(), amount=0.98).model
        masks = live_masks(model, size)
        report = measure(model, size, effective=True)
        assert sum(int(mask.sum()) for mask in masks.values()) == report.parameters


def test_dead_ends_on_both_sides() -> None:
    model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        model[0].weight.fill_(1.0)[0] = 0  # unit 0 sees nothing
        model[2].weight.fill_(1.0)[:, 1] = 0  # unit 1 is seen by nothing
    masks = live_masks(model, (3,))
    assert masks["0.weight"].any(1).tolist() == [False, False, True, True]
    assert masks["2.weight"].any(0).tolist() == [False, False, True, True]


def test_taking_dead_weights_away_changes_no_output_without_biases() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(20, 30, bias=False), nn.ReLU(), nn.Linear(30, 30, bias=False), nn.ReLU(), nn.Linear(30, 5)
    )
    sparse = prune(model, L1(), amount=0.95, layers=["0", "2", "4"]).model
    x = torch.randn(8, 20)
    before = sparse(x)
    masks = live_masks(sparse, (20,))
    kept = {name: int(mask.sum()) for name, mask in masks.items()}
    with torch.no_grad():
        for name, parameter in sparse.named_parameters():
            if name.endswith("weight.original"):
                parameter.mul_(masks[f"{name[0]}.weight"])
    assert torch.allclose(sparse(x), before, atol=1e-6)
    assert sum(kept.values()) < measure(model, (20,)).parameters * 0.06
