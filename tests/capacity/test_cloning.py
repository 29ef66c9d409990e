"""Copies: their own weights, whatever computes or patches them; what cannot be copied is named."""

import functools
import importlib
import threading
import types
import weakref
from pathlib import Path

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrizations, parametrize, prune

from capacity import InputError, measure
from capacity.cloning import as_plain, clone, evaluation_copy, plain_copy, unwrapped
from compression.masks import apply_masks
from compression.shrinking import shrink

X = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
GLOBAL = nn.Linear(6, 6)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2))


def own(model: nn.Module) -> bool:
    """Whether a copy of the model runs its own weights, and the model stays as it was."""
    before, copied = model(X).detach(), clone(model)
    same = torch.equal(copied(X), before)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    return same and not copied(X).any() and torch.equal(model(X), before) and bool(before.any())


class Caller:
    """An object with a reference of its own to a model, callable."""

    def __init__(self, model: nn.Module) -> None:
        self.inner = types.MethodType(type(model).forward, model)
        self.again = weakref.ref(model)

    def __call__(self, x: Tensor) -> Tensor:
        assert self.again() is self.inner.__self__
        found: Tensor = self.inner(x)
        return found


def test_functions_that_hold_the_model_are_bound_to_its_copy() -> None:
    def closure(model: nn.Module) -> object:
        def outer(x: Tensor) -> Tensor:
            return again(x) if x.dim() == 1 else inner(x)

        def again(x: Tensor) -> Tensor:  # and it holds outer: a circle
            return outer(x[None])

        inner = model.forward
        return outer

    def default(model: nn.Module) -> object:
        return lambda x, layers=tuple(model), *, last=model[-1]: last(torch.relu(layers[0](x)))

    for patch in (
        closure, default, Caller,
        lambda model: functools.partial(nn.Sequential.forward, model),
        lambda model: functools.partial(lambda run, x: run["it"](x), {"it": model.forward}),
        lambda model: torch.no_grad()(torch.autocast("cpu", enabled=False)(model.forward)),
        lambda model: types.MethodType(lambda self, x: self[2](torch.relu(self[0](x))), model),
    ):  # fmt: skip
        model = net()
        model.forward = patch(model)
        assert own(model) and own(clone(model)), patch
        assert measure(model, (6,)).capacity_bits == measure(net(), (6,)).capacity_bits


def test_hooks_that_hold_the_model_are_bound_to_its_copy() -> None:
    model = net()
    model[0].register_forward_hook(
        lambda module, inputs, output: output + model[0](inputs[0]) * 0 + module.bias
    )
    with pytest.raises(RecursionError):
        model(X)
    model = net()
    model[0].register_forward_hook(lambda module, inputs, output: output * model[2].bias.sum())
    model[2].register_forward_pre_hook(functools.partial(shifted, model[0].bias))
    assert own(model)
    graph = fx.symbolic_trace(net())
    graph.register_forward_hook(lambda module, inputs, output: output * graph.get_submodule("0").bias.sum())
    assert own(graph)
    assert torch.equal(evaluation_copy(graph)(X), net()(X))


def shifted(shift: Tensor, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (inputs[0] * shift.abs(),)


def test_what_reaches_the_original_by_a_global_variable_is_refused_by_name() -> None:
    model = nn.Sequential(GLOBAL)
    model.forward = lambda x: GLOBAL(x)  # type: ignore[method-assign]
    with pytest.raises(InputError, match=r"forward refers to the original model by the global 'GLOBAL'"):
        clone(model)
    model = nn.Sequential(nn.Linear(6, 6))
    model[0].forward = functools.lru_cache(model[0].forward)
    with pytest.raises(InputError, match="layer '0': forward refers to the original model"):
        clone(model)


def test_another_model_of_the_callers_in_a_closure_is_left_to_the_caller() -> None:
    teacher, model = net(), net()
    model.forward = functools.partial(lambda first, second, x: first(x) + second(x), model.forward, teacher)
    copied = clone(model)
    assert torch.equal(copied(X), model(X))
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    assert torch.equal(copied(X), teacher(X))


def test_what_cannot_be_copied_is_named() -> None:
    model = net()
    model[2].lock = threading.Lock()
    with pytest.raises(InputError, match=r"layer '2': its attribute 'lock' \(lock\) cannot be copied"):
        measure(model, (6,))
    with pytest.raises(InputError, match="layer '0': weight is not initialized"):
        clone(nn.Sequential(nn.LazyLinear(3)))


def test_a_copy_that_would_share_its_memory_is_refused() -> None:
    class Same(nn.Linear):
        def __deepcopy__(self, memo: object) -> "Same":
            return self

    with pytest.raises(InputError, match=r"0\.weight: a copy would share its memory"):
        clone(nn.Sequential(Same(2, 2)))


def test_parametrized_classes_are_not_shared() -> None:
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 6)), nn.Linear(6, 2))
    before = model(X)
    copied = clone(model)
    assert type(copied[0]) is not type(model[0]) and type(plain_copy(model)[0]) is nn.Linear
    with parametrize.cached():
        assert torch.equal(model(X), before)
        with torch.no_grad():
            copied[0].parametrizations.weight.original0.zero_()
        assert not torch.equal(copied(X), before) and torch.equal(model(X), before)
    parametrize.remove_parametrizations(copied[0], "weight")
    assert torch.equal(model(X), before)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "norm",
    [
        parametrizations.weight_norm, parametrizations.spectral_norm, parametrizations.orthogonal,
        nn.utils.weight_norm, nn.utils.spectral_norm,
    ],
)  # fmt: skip
def test_norms_fold_into_what_evaluation_reads(norm, training: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(norm(nn.Linear(6, 6)), nn.Linear(6, 2)).train(training)
    model(X)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        folded = plain_copy(model)
    assert {name for name, _ in folded[0].named_parameters()} == {"weight", "bias"}
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    folded.load_state_dict(folded.state_dict())
    assert torch.allclose(folded.eval()(X), model.eval()(X), atol=1e-6)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    assert not any(parameter.requires_grad for parameter in plain_copy(model)[0].parameters())


def test_a_norm_over_one_of_two_tied_weights_folds_into_that_one() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    model[1].weight = model[0].weight
    parametrizations.spectral_norm(model[0])
    model.eval()
    folded = plain_copy(model)
    assert torch.allclose(folded(X), model(X), atol=1e-6) and torch.equal(folded[1].weight, model[1].weight)
    assert not torch.equal(folded[0].weight, folded[1].weight)


def test_wrappers_are_taken_off() -> None:
    model = net()
    for wrapped in (nn.DataParallel(model), torch.compile(model), torch.compile(nn.DataParallel(model))):
        assert unwrapped(wrapped) is model and type(clone(wrapped)) is nn.Sequential
        assert measure(wrapped, (6,)).layers == measure(model, (6,)).layers
        assert torch.equal(clone(wrapped)(X), model(X))
    inside = nn.Sequential(torch.compile(model[0], backend="eager"), nn.ReLU(), model[2])
    assert own(inside) and own(clone(inside))


def test_tensors_kept_in_lists_and_dicts_are_copied() -> None:
    model = net()
    model.kept = {"a": [model(X)], "b": (model(X).sum(),)}  # type: ignore[assignment]
    copied = clone(model)
    assert torch.equal(copied.kept["a"][0], model.kept["a"][0]) and copied.kept["b"][0].grad_fn is None


def test_what_holds_plain_tensors_is_read_itself() -> None:
    model = net()
    assert as_plain(model) is model and as_plain(nn.DataParallel(model)) is model
    for computed in (
        nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 6))),
        apply_masks(nn.Sequential(nn.Linear(6, 6)), {"0.weight": torch.eye(6) > 0}),
        nn.Sequential(nn.utils.spectral_norm(nn.Linear(6, 6))),
        nn.Sequential(prune.l1_unstructured(nn.Linear(6, 6), "weight", 0.5)),
    ):
        plain = as_plain(computed)
        assert plain is not computed and {key for key, _ in plain[0].named_parameters()} == {"weight", "bias"}
        assert torch.allclose(plain.eval()(X), computed.eval()(X), atol=1e-6)
    with pytest.raises(InputError, match="layer '0'"):
        as_plain(nn.Sequential(nn.LazyLinear(3)))


LIBRARY = """
from torch import nn

class Collecting(nn.Module):
    \"\"\"Its pass needs what hooks collect, which the first pass registers once and for all.\"\"\"

    def __init__(self):
        super().__init__()
        self.first, self.second, self.hooked = nn.Linear(4, 8), nn.Linear(8, 2), False
        self.states = []

    def forward(self, x):
        if not self.hooked:
            self.first.register_forward_hook(self.hook())
            self.hooked = True
        collected.append(states := [])
        self.first(x)
        collected.pop()
        return self.second(states[-1])

    def hook(self):
        def collect(module, args, output):
            collected[-1].append(output)
        return collect

collected = []
"""


def test_hooks_of_the_library_that_a_model_is_of_belong_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "site-packages"
    place.mkdir()
    (place / "collecting_library.py").write_text(LIBRARY, encoding="utf-8")
    monkeypatch.syspath_prepend(place)
    model = importlib.import_module("collecting_library").Collecting()
    untouched = measure(model, (4,)).capacity_bits
    x, seen = torch.randn(3, 4), list[int]()
    right = model(x)
    model.second.register_forward_hook(lambda *_: seen.append(1))
    assert measure(model, (4,)).capacity_bits == untouched > 0
    assert torch.equal(evaluation_copy(model)(x), right) and not seen
    assert shrink(model, (4,), amount=0.5).model(x).shape == (3, 2)
