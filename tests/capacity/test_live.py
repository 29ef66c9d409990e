"""live_masks(): element by element what `measure(effective=True)` counts."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from analysis.lab.models import create
from capacity import measure
from capacity.live import live_masks
from capacity.structure import is_chain
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


class Own(nn.Sequential):
    """A chain that is not torch's own class, so that real passes look for life in it."""


@st.composite
def chains(draw: st.DrawFn) -> list[nn.Module]:
    channels, features = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    between = draw(st.sampled_from([nn.ReLU, nn.Tanh, nn.GELU, nn.LeakyReLU]))
    padding, stride = draw(st.integers(0, 1)), draw(st.integers(1, 2))
    pooled = draw(st.sampled_from([nn.MaxPool2d, nn.AvgPool2d]))(2, ceil_mode=True)
    modules = [
        nn.Conv2d(2, channels, 3, padding=padding, stride=stride), nn.BatchNorm2d(channels), between(),
        pooled, nn.Flatten(), nn.LazyLinear(features), between(), nn.Dropout(), nn.Linear(features, 2),
    ]  # fmt: skip
    nn.Sequential(*modules).eval()(torch.zeros(1, 2, 6, 6))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    share = draw(st.sampled_from([0.1, 0.3, 0.6]))
    for parameter in (p for module in modules for p in module.parameters()):
        parameter.data *= torch.rand(parameter.shape, generator=generator) < share
    return modules


@given(chains())
@settings(max_examples=40, deadline=None)
def test_in_a_chain_the_marks_see_all_that_real_passes_see(modules: list[nn.Module]) -> None:
    marked = live_masks(nn.Sequential(*modules), (2, 6, 6))
    looked = live_masks(Own(*modules), (2, 6, 6))
    assert is_chain(nn.Sequential(*modules)) and not is_chain(Own(*modules))
    assert all(torch.equal(mask, looked[name]) for name, mask in marked.items())


def test_what_a_chain_is_not() -> None:
    shared, hooked, bare = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)
    assert is_chain(nn.Sequential(nn.Sequential(bare), nn.ReLU()))
    assert not is_chain(nn.Sequential(shared, shared))
    hooked.register_forward_hook(lambda module, args, output: output.round())
    assert not is_chain(nn.Sequential(hooked))
    bare.forward = lambda given: given.round()  # type: ignore[method-assign]
    assert not is_chain(nn.Sequential(bare))
