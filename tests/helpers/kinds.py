"""Networks of some fifty kinds: one part of any kind between an input of 16 numbers and three classes."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils import prune as torch_prune

from compression.masks import apply_masks
from compression.training import TrainingSettings

SIZE = (16,)
X = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))
DATA = [(X, torch.arange(8) % 3)]
ONCE = TrainingSettings(epochs=1, learning_rate=0.01)


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


def build(kind: str) -> nn.Module:
    torch.manual_seed(0)
    model = KINDS[kind]()
    model.train()
    for name, module in model.named_modules():
        if name.endswith("head"):
            module.eval()  # modes that differ must come back as they were
    return model
