"""live_masks(): element by element what `measure(effective=True)` counts."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from analysis.lab.models import create
from capacity import measure
from capacity.chains import dense_chain, is_chain
from capacity.errors import InputError
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


@given(
    st.lists(st.integers(1, 5), min_size=2, max_size=5),
    st.integers(0, 999),
    st.sampled_from([0.1, 0.3, 0.6]),
    st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_products_say_of_dense_chains_what_passes_say(
    widths: list[int], seed: int, share: float, flat: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    dense = [nn.Linear(*pair, bias=seed % 3 > 0) for pair in itertools.pairwise(widths)]
    for parameter in (p for layer in dense for p in layer.parameters()):
        parameter.data *= torch.rand(parameter.shape, generator=generator) < share
    modules = [nn.Flatten() if flat else nn.Identity(), *(m for layer in dense for m in (layer, nn.GELU()))]
    size = (widths[0], 1) if flat else (2, widths[0])
    assert list(dense_chain(nn.Sequential(*modules), size).values()) == dense
    product, looked = live_masks(nn.Sequential(*modules), size), live_masks(Own(*modules), size)
    assert product.keys() == looked.keys()
    assert all(torch.equal(mask, looked[name]) for name, mask in product.items())


def test_products_are_taken_of_dense_chains_alone() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 2)
    assert dense_chain(nn.Sequential(first, nn.ReLU(), second), (4,)) == {"0": first, "2": second}
    assert dense_chain(first, (4,)) == {"": first}
    assert live_masks(first, (4,)).keys() == {"weight", "bias"}
    for model, size in (
        (nn.Sequential(first, nn.Flatten(), second), (1, 4)),
        (nn.Sequential(first, nn.Softmax(1), second), (4,)),
        (nn.Sequential(first, second), (3,)),
        (nn.Sequential(first, nn.BatchNorm1d(4), second), (4,)),
        (nn.Sequential(first, second), [(4,)]),
    ):
        assert dense_chain(model, size) == {}
    tied = nn.Linear(4, 4)
    tied.weight = first.weight
    assert dense_chain(nn.Sequential(first, tied), (4,)) == {}
    first.weight.data[0, 0] = torch.nan
    with pytest.raises(InputError, match=r"layer '0': weight holds NaN"):
        live_masks(nn.Sequential(first, second), (4,))
    with pytest.raises(InputError):
        live_masks(nn.Sequential(first, second), (3,))


def test_what_a_chain_is_not() -> None:
    shared, hooked, bare = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)
    assert is_chain(nn.Sequential(nn.Sequential(bare), nn.ReLU()))
    assert not is_chain(nn.Sequential(shared, shared))
    hooked.register_forward_hook(lambda module, args, output: output.round())
    assert not is_chain(nn.Sequential(hooked))
    bare.forward = lambda given: given.round()  # type: ignore[method-assign]
    assert not is_chain(nn.Sequential(bare))


def flipped(module: nn.Module, args: object, output: torch.Tensor) -> torch.Tensor | None:
    return output.flip(-1) if isinstance(module, nn.ReLU) else None


def no_gradient(module: nn.Module, gradients: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(torch.zeros_like(gradient) for gradient in gradients)


def test_hooks_of_any_kind_make_a_chain_code_of_the_models_own() -> None:
    """A hook of all modules carries units elsewhere; one of gradients takes marks away."""
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        model[0].weight.fill_(1.0)[1] = 0
        model[2].weight.fill_(1.0)[0, 0] = 0
    counts = []
    hook = register_module_forward_hook(flipped)
    try:
        counts += [int(mask.sum()) for mask in live_masks(model, (3,)).values()]
        assert not is_chain(model) and sum(counts) == measure(model, (3,), effective=True).parameters == 6
    finally:
        hook.remove()
    assert is_chain(model)
    for name in ("register_full_backward_hook", "register_full_backward_pre_hook"):
        hooked = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1))
        getattr(hooked[2], name)(no_gradient if "pre" in name else lambda m, given, gone: given)
        assert not is_chain(hooked)


def changed(kind: str) -> nn.Sequential:
    """A chain whose parameters are no more what its layers say, or not those of its layers alone."""
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    if kind == "bias":
        model[0].bias = nn.Parameter(torch.ones(5))
    elif kind == "weight":
        model[0].weight = nn.Parameter(model[0].weight[:, :3].detach().clone())
    elif kind == "word":
        model[0].in_features = 7
    elif kind == "own":
        model.own = nn.Parameter(torch.ones(3))
    elif kind == "mixed":
        model[2].double()
    elif kind == "infinite":
        model[0].weight.data[0, 0] = torch.inf
    elif kind == "empty":
        model.add_module("none", None)
    return model


@pytest.mark.parametrize("kind", ["bias", "weight", "word", "own", "mixed", "infinite", "empty"])
def test_no_products_are_taken_of_what_is_not_as_its_layers_say(kind: str) -> None:
    size = (7,) if kind == "word" else (4,)
    model = changed(kind)
    assert dense_chain(model, size) == {}
    if kind in ("bias", "weight", "word"):
        with pytest.raises(InputError):
            live_masks(model, size)
    elif kind == "own":
        masks, counted = live_masks(model, size), measure(model, size, effective=True).parameters
        assert "own" in masks and sum(int(mask.sum()) for mask in masks.values()) == counted


@pytest.mark.parametrize("size", [(0, 4), (-1, 4), (2, 0, 4), (2**63, 4)])
def test_shapes_that_are_none_are_refused_as_ever(size: tuple[int, ...]) -> None:
    with pytest.raises(InputError):
        live_masks(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), size)
