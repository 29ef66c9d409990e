"""Whatever is done with a model, the caller's stays as it was: some fifty kinds, every public function."""

import copy
import functools
import inspect
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils import prune as torch_prune

import capacity
import compression
from capacity import InputError, bounds, measure
from capacity.cloning import clone
from capacity.live import live_masks
from compression.batches import TensorBatches
from compression.budgets import Budget, prune_to_budget
from compression.certifying import certify
from compression.checkpoints import fingerprint, load_model, save_model
from compression.codec import coding_report, decode, encode
from compression.costs import flops, latency, peak_memory_bytes
from compression.counting import parameter_count
from compression.criteria import L1
from compression.describing import description_length
from compression.distillation import distill
from compression.ensembles import fit_together
from compression.evaluation import evaluate, predictions
from compression.factorization import factorize
from compression.feedback import (
    allocate_bits,
    code_to_budget,
    code_with_feedback,
    prune_with_feedback,
    round_with_feedback,
    scale_channels,
)
from compression.masks import apply_masks, from_torch_pruning, masks_of, to_torch_pruning
from compression.pruning import prune
from compression.quantization import quantize
from compression.quantization.sqnr import signal_to_noise_db
from compression.rates import quantize_rate_distortion
from compression.recipes import recipe
from compression.schedules import rewind
from compression.semistructured import prune_n_of_m
from compression.sensitivity import sensitivity
from compression.sharing import share_weights
from compression.shrinking import load_shrunk, save_shrunk, shrink
from compression.shrinking.silencing import mask_dead_norm_channels, zero_dead_parameters
from compression.squeezing import squeeze
from compression.techniques import pruning
from compression.training import TrainingSettings, fit
from compression.verification import outputs

SIZE = (16,)
X = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))
DATA = [(X, torch.arange(8) % 3)]
ONCE = TrainingSettings(epochs=1, learning_rate=0.01)

pytestmark = pytest.mark.filterwarnings("ignore")


class Net(nn.Module):
    """One part of any kind between an input of 16 numbers and three classes."""

    def __init__(self, part: nn.Module, shape: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.part, self.shape, self.head = part, shape, nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        found = self.part(x.reshape(-1, *self.shape))
        found = found[0] if isinstance(found, tuple) else found
        result: Tensor = self.head(torch.relu(found.flatten(1)))
        return result


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.inner(x, x, x)[0]
        return found


class Slotted(nn.Module):
    """A number that is kept in no dict."""

    __slots__ = ("factor",)

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.factor = nn.Linear(16, 8), 2.0

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.inner(x) * self.factor
        return found


class Tokens(nn.Module):
    """Signs of the input looked up."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.inner((x > 0).long())
        return found


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Bilinear(16, 16, 4)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.inner(x, x)
        return found


class Parameters(nn.Module):
    """Weights in a list or dict, used as they are."""

    def __init__(self, weights: Any) -> None:
        super().__init__()
        self.weights = weights

    def forward(self, x: Tensor) -> Tensor:
        for weight in self.weights.values() if hasattr(self.weights, "values") else self.weights:
            x = x @ weight
        return x


class Functional(nn.Module):
    """A layer's weight read without calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.inner.weight, self.inner.bias)


class Closure(nn.Module):
    """Functions on the instance that close over it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(16, 8)
        self.steps = [lambda x: self.inner(x)]

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.steps[0](x)
        return found


class Symmetric(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.triu() + x.triu(1).transpose(-1, -2)


def dense(change: Callable[[nn.Linear], Any] = lambda layer: layer, width: int = 8) -> Net:
    layer = nn.Linear(16, width)
    changed = change(layer)
    return Net(changed if isinstance(changed, nn.Module) else layer, (16,), width)


def normed(norm: nn.Module) -> Net:
    return Net(nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), norm, nn.ReLU()), (1, 4, 4), 64)


def tied() -> Net:
    one, two = nn.Linear(16, 16), nn.Linear(16, 16)
    two.weight = one.weight
    return Net(nn.Sequential(one, nn.ReLU(), two), (16,), 16)


def torch_pruned() -> Net:
    net = dense()
    torch_prune.l1_unstructured(net.part, "weight", amount=30)
    torch_prune.random_unstructured(net.part, "bias", amount=2)
    return net


def masked(net: Net) -> Net:
    apply_masks(net, {"part.weight": torch.arange(128).view(8, 16) % 3 > 0})
    return net


def patched(forward: Callable[[Any], Any]) -> Net:
    net = dense()
    net.forward = forward(net)  # type: ignore[method-assign]
    net.part.forward = torch.autocast("cpu", enabled=False)(net.part.forward)
    return net


def hooked() -> Net:
    net, seen = dense(), []
    net.part.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    net.part.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 1.5,))
    net.part.register_full_backward_hook(lambda module, into, out: None)
    net.register_forward_hook(functools.partial(scaled, net.head))
    return net


def scaled(head: nn.Linear, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    return output * head.bias.abs().sum()


def remembering() -> Net:
    net = dense()
    net.last = net.part(X)  # type: ignore[assignment]
    net.several = [net.part(X).sum()]  # type: ignore[assignment]
    return net


def with_buffers() -> Net:
    net = dense()
    net.register_buffer("scale_mask", torch.ones(3), persistent=False)
    net.register_buffer("count", torch.zeros((), dtype=torch.long))
    net.register_parameter("scale_orig", nn.Parameter(torch.ones(3)))
    return net


def trained_once() -> Net:
    net = dense()
    net(X).sum().backward()
    return net


def sharing_memory() -> Net:
    """Two parameters that are one memory, and a buffer that sees a part of it."""
    one, two = nn.Linear(16, 16), nn.Linear(16, 16)
    two.weight = nn.Parameter(one.weight.data)
    net = Net(nn.Sequential(one, nn.ReLU(), two), (16,), 16)
    net.register_buffer("first", one.weight.data[:1])
    return net


class Noisy(nn.Module):
    """Draws in evaluation mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.inner(x)
        return found + 0.1 * torch.randn_like(found)


class Keeping(nn.Linear):
    """A layer with state that is no tensor."""

    def get_extra_state(self) -> dict[str, int]:
        return {"version": 1}

    def set_extra_state(self, state: dict[str, int]) -> None:
        assert state == {"version": 1}


def frozen() -> Net:
    net = dense()
    net.part.requires_grad_(False)
    return net


def lazy(ready: bool) -> Net:
    net = dense(lambda layer: nn.LazyLinear(8))
    if ready:
        net(X)
    return net


def weighted() -> nn.ParameterList:
    return nn.ParameterList([torch.randn(16, 8), torch.randn(8, 8)])


KINDS: dict[str, Callable[[], nn.Module]] = {
    "dense": dense,
    "dense without bias": lambda: dense(lambda _: nn.Linear(16, 8, bias=False)),
    "conv1d": lambda: Net(nn.Conv1d(2, 3, 3), (2, 8), 18),
    "conv2d": lambda: Net(nn.Conv2d(1, 4, 3, padding="same"), (1, 4, 4), 64),
    "conv3d": lambda: Net(nn.Conv3d(2, 4, 2), (2, 2, 2, 2), 4),
    "transposed 1d": lambda: Net(nn.ConvTranspose1d(2, 3, 3), (2, 8), 30),
    "transposed 2d": lambda: Net(nn.ConvTranspose2d(1, 2, 2), (1, 4, 4), 50),
    "transposed 3d": lambda: Net(nn.ConvTranspose3d(2, 2, 1), (2, 2, 2, 2), 16),
    "grouped": lambda: Net(nn.Conv2d(4, 8, 1, groups=2), (4, 2, 2), 32),
    "depthwise": lambda: Net(nn.Conv2d(4, 4, 1, groups=4), (4, 2, 2), 16),
    "batch norm": lambda: normed(nn.BatchNorm2d(4)),
    "layer norm": lambda: normed(nn.LayerNorm((4, 4, 4))),
    "group norm": lambda: normed(nn.GroupNorm(2, 4)),
    "instance norm": lambda: normed(nn.InstanceNorm2d(4, affine=True, track_running_stats=True)),
    "RMS norm": lambda: normed(nn.RMSNorm(4)),
    "PReLU": lambda: normed(nn.PReLU(4)),
    "dropout": lambda: normed(nn.Dropout()),
    "weight norm": lambda: dense(parametrizations.weight_norm),
    "weight norm by hook": lambda: dense(nn.utils.weight_norm),
    "spectral norm": lambda: dense(parametrizations.spectral_norm),
    "spectral norm by hook": lambda: dense(nn.utils.spectral_norm),
    "orthogonal": lambda: dense(parametrizations.orthogonal),
    "parametrized": lambda: dense(
        lambda layer: parametrize.register_parametrization(nn.Linear(16, 16), "weight", Symmetric()), width=16
    ),
    "pruned by torch": torch_pruned,
    "masked": lambda: masked(dense()),
    "masked over weight norm": lambda: masked(dense(parametrizations.weight_norm)),
    "RNN": lambda: Net(nn.RNN(4, 5, batch_first=True), (4, 4), 20),
    "LSTM": lambda: Net(nn.LSTM(4, 3, batch_first=True, bidirectional=True), (4, 4), 24),
    "GRU": lambda: Net(nn.GRU(4, 5, num_layers=2, batch_first=True), (4, 4), 20),
    "GRU cell": lambda: Net(nn.GRUCell(16, 5), (16,), 5),
    "attention": lambda: Net(Attention(), (4, 4), 16),
    "transformer": lambda: Net(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), (4, 4), 16),
    "embedding": lambda: Net(Tokens(nn.Embedding(2, 3)), (16,), 48),
    "embedding bag": lambda: Net(Tokens(nn.EmbeddingBag(2, 5)), (16,), 5),
    "bilinear": lambda: Net(Pair(), (16,), 4),
    "tied": tied,
    "slots": lambda: Net(Slotted(), (16,), 8),
    "sharing memory": sharing_memory,
    "state that is no tensor": lambda: Net(Keeping(16, 8), (16,), 8),
    "scripted inside": lambda: dense(torch.jit.script),
    "parameter list": lambda: Net(Parameters(weighted()), (16,), 8),
    "parameter dict": lambda: Net(Parameters(nn.ParameterDict({"a": torch.randn(16, 8)})), (16,), 8),
    "functional": lambda: Net(Functional(), (16,), 8),
    "patched forward": lambda: patched(lambda net: torch.autocast("cpu", enabled=False)(net.forward)),
    "patched partial": lambda: patched(lambda net: functools.partial(Net.forward, net)),
    "patched lambda": lambda: patched(lambda net: lambda x: net.head(torch.relu(net.part(x)))),
    "closures": lambda: Net(Closure(), (16,), 8),
    "hooked": hooked,
    "buffers": with_buffers,
    "non-leaf attributes": remembering,
    "gradients": trained_once,
    "frozen": frozen,
    "graph": lambda: fx.symbolic_trace(nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))),
    "double": lambda: dense().double(),
    "half": lambda: dense().half(),
    "bfloat16": lambda: dense().bfloat16(),
    "DataParallel": lambda: nn.DataParallel(dense()),
    "compiled": lambda: torch.compile(dense(), backend="eager"),
    "compiled inside": lambda: dense(lambda layer: torch.compile(layer, backend="eager")),
    "lazy, initialized": lambda: lazy(True),
    "lazy": lambda: lazy(False),
}


def once(model: nn.Module) -> nn.Module:
    return fit(model, data_of(model), settings=ONCE).model


def data_of(model: nn.Module) -> list[tuple[Tensor, Tensor]]:
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    return [(x.to(dtype), y) for x, y in DATA]


@torch.random.fork_rng()
def other(model: nn.Module) -> nn.Module:
    return dense().to(data_of(model)[0][0].dtype)


def scored(model: nn.Module) -> dict[str, float]:
    return {"error": evaluate(model, data_of(model)).top1_error}


def stored(model: nn.Module, work: Callable[[Path], Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        work(Path(folder) / "stored")


FUNCTIONS: dict[str, Callable[[nn.Module], Any]] = {
    "bounds": lambda m: bounds(m, SIZE),
    "measure": lambda m: measure(m, SIZE),
    "measure trainable": lambda m: measure(m, SIZE, scope="trainable"),
    "measure effective": lambda m: measure(m, SIZE, effective=True),
    "live_masks": lambda m: live_masks(m, SIZE),
    "prune weights": lambda m: prune(m, L1(), amount=0.5),
    "prune_n_of_m": lambda m: prune_n_of_m(m, L1()),
    "round_with_feedback": lambda m: round_with_feedback(m, data_of(m)),
    "scale_channels": lambda m: scale_channels(m, data_of(m)),
    "allocate_bits": lambda m: allocate_bits(m, data_of(m), average_bits=99.0, choices=(2, 8)),
    "code_to_budget": lambda m: code_to_budget(m, data_of(m), budget_bytes=10**6),
    "code_with_feedback": lambda m: code_with_feedback(m, data_of(m), penalty=1e-4),
    "prune_with_feedback": lambda m: prune_with_feedback(m, data_of(m), amount=0.5),
    "prune neurons": lambda m: prune(m, L1(), amount=1, unit="neuron", scope="global"),
    "prune_to_budget": lambda m: prune_to_budget(
        m, L1(), input_size=SIZE, budget=Budget("parameters", at_most=measure(m, SIZE).parameters * 0.8)
    ),
    "sensitivity": lambda m: sensitivity(m, L1(), evaluate=lambda k: scored(k)["error"], amounts=(0.5,)),
    "rewind": lambda m: rewind(m, m),
    "from and to torch's pruning": lambda m: to_torch_pruning(from_torch_pruning(m)),
    "shrink": lambda m: shrink(m, SIZE, amount=0.5),
    "mask_dead_norm_channels": lambda m: mask_dead_norm_channels(m, SIZE),
    "zero_dead_parameters": lambda m: zero_dead_parameters(m, SIZE),
    "factorize": lambda m: factorize(m, rank=1),
    "share": lambda m: share_weights(m, bits=2),
    "share and train": lambda m: share_weights(m, bits=2, retrain=once),
    "quantize_rate_distortion": lambda m: quantize_rate_distortion(m, retrain=once),
    "encode and decode": lambda m: stored(m, lambda path: (encode(m, path), decode(path, m))),
    "certify and description_length": lambda m: stored(
        m,
        lambda path: (encode(m, path), certify(path, m, data_of(m)), description_length(path, m, data_of(m))),
    ),
    "coding_report": coding_report,
    "signal_to_noise_db": lambda m: signal_to_noise_db(m, data=data_of(m)),
    "flops": lambda m: flops(m, SIZE),
    "latency": lambda m: latency(m, SIZE, repeats=1),
    "peak_memory_bytes": lambda m: peak_memory_bytes(m, SIZE),
    "fit": once,
    "fit neuron dropout": lambda m: fit(
        m, data_of(m), settings=TrainingSettings(epochs=1, neuron_dropout={"part": 1})
    ),
    "distill": lambda m: distill(other(m), m, data_of(m), settings=ONCE),
    "distill into": lambda m: distill(m, other(m), data_of(m), settings=ONCE),
    "evaluate": scored,
    "predictions": lambda m: predictions(m, data_of(m)),
    "squeeze": lambda m: stored(
        m,
        lambda path: list(
            squeeze(m, L1(), amount=0.3, iterations=1, retrain=once, evaluate=scored, directory=path)
        ),
    ),
    "recipe": lambda m: recipe(m, [pruning(amount=0.5)], input_size=SIZE, evaluate=scored, repeats=1),
    "save_model and load_model": lambda m: stored(
        m, lambda path: (save_model(m, path), load_model(clone(m), path))
    ),
    "save_shrunk and load_shrunk": lambda m: stored(
        m, lambda path: (save_shrunk(m, path), load_shrunk(m, path, input_size=SIZE))
    ),
    "fit_together": lambda m: fit_together(
        [m, m], [TensorBatches(*data_of(m)[0], batch_size=8)] * 2, settings=ONCE
    ),
    "fingerprint": fingerprint,
}
ELSEWHERE = {
    "quantize": "a test of its own below, of fewer kinds, as each takes seconds",
    "load_quantized": "takes the model as the plan of a quantized file",
    "export_onnx": "takes what quantize made",
    "memorization": "makes its models itself",
    "prequential_length": "is given models that were made for it",
}
FEW = ("dense", "weight norm", "masked", "closures")  # for functions that measure again and again
SLOW = {"bounds": FEW, "prune_to_budget": FEW[:2]}
NOT_SHRUNK = ("layer norm", "LSTM")
QUANTIZED = [
    ("weight-only", ("dense", "weight norm", "masked", "attention", "closures", "DataParallel", "compiled")),
    ("static", ("batch norm",)),
]


def build(kind: str) -> nn.Module:
    torch.manual_seed(0)
    model = KINDS[kind]()
    model.train()
    for name, module in model.named_modules():
        if name.endswith("head"):
            module.eval()  # modes that differ must come back as they were
    return model


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
        "measure effective", "live_masks", "mask_dead_norm_channels", "zero_dead_parameters",
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
