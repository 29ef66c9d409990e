"""Whatever is done with a model, the caller's stays as it was: some fifty kinds, every public function."""

import copy
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from kinds import KINDS, SIZE, Net, Noisy, build, dense
from torch import Tensor, nn
from uses import ELSEWHERE, FUNCTIONS, SLOW, data_of, once

import capacity
import compression
from capacity import InputError, measure
from capacity.cloning import clone
from compression.checkpoints import save_model
from compression.counting import parameter_count
from compression.criteria import L1
from compression.masks import masks_of
from compression.pruning import prune
from compression.quantization import quantize
from compression.training import TrainingSettings, fit
from compression.verification import outputs

pytestmark = pytest.mark.filterwarnings("ignore")

NOT_SHRUNK = ("layer norm", "LSTM")
QUANTIZED = [
    ("weight-only", ("dense", "weight norm", "masked", "attention", "closures", "DataParallel", "compiled")),
    ("static", ("batch norm",)),
]


def state_of(model: nn.Module) -> dict[str, Any]:
    """All that a caller can see of a model, its outputs last."""
    found: dict[str, Any] = {}
    for name, module in model.named_modules():
        hooks = [list(value) for key, value in module.__dict__.items() if key.endswith("_hooks")]
        own = {key for key in module.__dict__ if not key.startswith("_")}
        found[name] = (id(module), type(module), module.training, hooks, own)
    for name, parameter in model.named_parameters():
        gradient = None if parameter.grad is None else parameter.grad.clone()
        found[f"{name} itself"] = (id(parameter), parameter.requires_grad, gradient)
    if not any(isinstance(p, nn.UninitializedParameter) for p in model.parameters()):
        found |= {f"{name} stored": copy.deepcopy(value) for name, value in model.state_dict().items()}
        inputs = [((x,), {}) for x, _ in data_of(model)]
        found["outputs"] = outputs(model, inputs)[0]
    return found


def compare(before: Any, after: Any) -> bool:
    if isinstance(before, Tensor):
        return isinstance(after, Tensor) and torch.equal(before, after)
    if isinstance(before, tuple | list):
        return len(before) == len(after) and all(map(compare, before, after))
    return bool(before == after)


UNTOUCHED: dict[str, tuple[nn.Module, dict[str, Any]]] = {}


def untouched(kind: str, work: Callable[[nn.Module], Any], refused: set[str]) -> Iterator[str]:
    """What `work` changed about a model of this kind, and what it raised; InputError goes to `refused`.

    One that was left as it was is kept, with what was seen of it, for the next function.
    """
    torch.manual_seed(0)
    model, before = UNTOUCHED.pop(kind, None) or (built := build(kind), state_of(built))
    random = torch.random.get_rng_state()
    try:
        work(model)
    except InputError:
        refused.add(kind)
    except Exception as error:
        yield f"{kind}: {type(error).__name__}: {str(error)[:200]}"
    if not torch.equal(torch.random.get_rng_state(), random):
        yield f"{kind}: torch's generator moved on"
    after = state_of(model)
    changes = [f"{kind}: {key} changed" for key in before if not compare(before[key], after.get(key))]
    changes += [f"{kind}: {key} is new" for key in after if key not in before]
    if not changes:
        UNTOUCHED[kind] = model, after
    yield from changes


def called(function: Callable[..., Any]) -> set[str]:
    """Names that a function reads, in the functions inside it too."""
    codes, names = [function.__code__], {function.__name__}
    while codes:
        code = codes.pop()
        names |= set(code.co_names)
        codes += [constant for constant in code.co_consts if inspect.iscode(constant)]
    return names


def test_every_public_function_that_takes_a_model_is_there() -> None:
    takes = {
        name
        for package in (capacity, compression)
        for name in package.__all__
        if inspect.isfunction(function := getattr(package, name))
        and any(
            "Module" in str(value.annotation) for value in inspect.signature(function).parameters.values()
        )
    }
    assert {"measure", "prune", "shrink", "fit", "quantize", "encode"} <= takes
    assert takes == takes & set().union(*map(called, FUNCTIONS.values()), ELSEWHERE)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_callers_model_stays_as_it_was(function: str) -> None:
    kinds = SLOW.get(function, tuple(KINDS))
    kinds = tuple(kind for kind in kinds if function != "shrink" or kind not in NOT_SHRUNK)
    refused: set[str] = set()
    changes = [line for kind in kinds for line in untouched(kind, FUNCTIONS[function], refused)]
    assert not changes, "\n".join(changes)
    assert len(refused) < len(kinds)


@pytest.mark.parametrize(("scheme", "kinds"), QUANTIZED)
def test_the_callers_model_stays_as_it_was_when_quantized(scheme: str, kinds: tuple[str, ...]) -> None:
    def work(model: nn.Module) -> Any:
        return quantize(model, scheme=scheme, input_size=SIZE, calibration=data_of(model))

    refused: set[str] = set()
    changes = [line for kind in kinds for line in untouched(kind, work, refused)]
    assert not changes, "\n".join(changes)
    assert len(refused) < len(kinds)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "lazy"])
def test_a_copy_computes_the_same_with_weights_of_its_own(kind: str) -> None:
    model = build(kind)
    inputs = [((x,), {}) for x, _ in data_of(model)]
    copied = clone(model)
    before = outputs(model, inputs)
    assert all(map(torch.equal, before[0], outputs(copied, inputs)[0]))
    assert not {id(p) for p in model.parameters()} & {id(p) for p in copied.parameters()}
    with torch.no_grad():
        for parameter in copied.get_submodule("head" if hasattr(copied, "head") else "2").parameters():
            parameter.zero_()
    assert all(map(torch.equal, before[0], outputs(model, inputs)[0]))
    assert not outputs(copied, inputs)[0][0].any()


def test_what_shares_memory_does_in_a_copy_and_counts_once() -> None:
    model = build("sharing memory")
    copied = clone(model)
    with torch.no_grad():
        copied.part[0].weight[0, 0] = 7.0
    assert copied.part[2].weight[0, 0] == copied.first[0, 0] == 7.0 != model.first[0, 0]
    numbers = 256 + 2 * 16 + 51
    assert measure(model, SIZE).total_parameters == parameter_count(copied) == numbers
    assert measure(model, SIZE).parameters == numbers


@pytest.mark.parametrize(
    "function",
    [
        "measure effective", "live_masks", "mask_dead_norm_channels", "zero_dead_parameters", "sort_units",
        "flops", "latency", "peak_memory_bytes", "factorize", "fit",
    ],
)  # fmt: skip
def test_networks_that_draw_leave_the_generator_as_it_was(function: str) -> None:
    torch.manual_seed(0)
    model = Net(Noisy(), (16,), 8)
    random = torch.random.get_rng_state()
    FUNCTIONS[function](model)
    assert torch.equal(torch.random.get_rng_state(), random)


def test_what_training_cannot_do_is_refused() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.sigmoid(self.inner(x)).mul_(2)

    with pytest.raises(InputError, match="gradients of this loss cannot be computed"):
        once(InPlace())


def test_complex_parameters_are_trained() -> None:
    class Complex(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(16, 3, dtype=torch.complex64))

        def forward(self, x: Tensor) -> Tensor:
            return (x.to(torch.complex64) @ self.weight).abs()

    model = Complex()
    assert not torch.equal(model.weight, once(model).weight)  # type: ignore[arg-type]


def test_memory_shared_in_part_is_not_stored(tmp_path: Path) -> None:
    model = dense()
    model.part.bias = nn.Parameter(torch.ones(1).expand(8))
    with pytest.raises(InputError, match="share their memory in part"):
        save_model(model, tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    "kind", ["patched forward", "patched partial", "patched lambda", "closures", "hooked"]
)
def test_what_is_patched_learns_and_counts(kind: str) -> None:
    plain = measure(dense(), SIZE).capacity_bits
    model = build(kind)
    assert measure(model, SIZE).capacity_bits == plain
    assert masks_of(prune(model, L1(), amount=0.5).model)
    trained = fit(
        model, data_of(model), settings=TrainingSettings(epochs=30, learning_rate=0.1, weight_decay=0)
    )
    losses = [entry["training_loss_nats"] for entry in trained.history]
    assert losses[-1] < 0.7 * losses[0]
    assert all(parameter.grad is None for parameter in model.parameters())
