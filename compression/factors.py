"""Layers that can be replaced by products of smaller ones: which they are, by what, and whether it is so."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from capacity.cloning import clone
from capacity.kernels import single_precision
from capacity.seeding import seed_generators
from compression.counting import memory_of
from compression.verification import relative_difference, tolerance

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
LAYERS = (nn.Linear, *CONVOLUTIONS, nn.modules.conv._ConvTransposeNd)


GEOMETRY = ("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode", "transposed")


class Factorized(nn.Sequential):
    """A layer as a sequence of smaller ones, with the attributes that a model may read of it.

    Where its weight is used without calling it, that is the product of the factors.
    """

    def __getattr__(self, name: str) -> Any:
        """Sizes of the layer: inputs of the first factor, outputs of the last, the rest of the middle one."""
        if name in ("in_features", "in_channels"):
            return getattr(self[0], name)
        if name in ("out_features", "out_channels"):
            return getattr(self[-1], name)
        if name in GEOMETRY:
            return getattr(self[(len(self) - 1) // 2], name)
        return super().__getattr__(name)

    @property
    def weight(self) -> Tensor:
        """The layer's weight, outputs by inputs by kernel."""
        inputs, *cores, outputs = (layer.get_parameter("weight") for layer in self)
        if not cores:
            return product((outputs.flatten(1), inputs))
        return product((outputs.flatten(1), *cores, inputs.flatten(1)))

    @property
    def bias(self) -> Tensor | None:
        """The layer's bias."""
        bias: Tensor | None = self[-1].bias  # type: ignore[assignment]
        return bias


def product(parts: Sequence[Tensor]) -> Tensor:
    """The weight from factors of outputs, of a core and of inputs, or from two of them."""
    if len(parts) == 2:
        return torch.einsum("or,r...->o...", *parts)
    return torch.einsum("or,rs...,si->oi...", *parts)


def names_of(model: nn.Module) -> dict[nn.Module, list[str]]:
    """Every name that each layer has."""
    names: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, LAYERS):
            names.setdefault(module, []).append(name)
    return names


def users_of(model: nn.Module) -> dict[Any, list[str]]:
    """Names of the modules that hold each parameter, by its memory; a module under two names counts once."""
    users: dict[Any, list[str]] = {}
    for name, module in model.named_modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                users.setdefault(memory_of(parameter), []).append(name)
    return users


def obstacle(model: nn.Module, name: str, module: nn.Module, users: Mapping[Any, list[str]]) -> str:
    """Why a layer cannot be replaced; empty if it can."""
    weight = module._parameters.get("weight")
    if weight is None:
        return "its weight is computed from other tensors"
    if isinstance(module, nn.modules.conv._ConvTransposeNd):
        return "transposed convolution"
    if isinstance(module, CONVOLUTIONS) and module.groups != 1:
        return "grouped convolution"
    if not weight.numel():
        return "it has no weights"
    if not weight.is_floating_point() or weight.layout != torch.strided or type(weight) is not nn.Parameter:
        return f"its weight is of {weight.dtype}, {weight.layout}, {type(weight).__name__}"
    parts = name.split(".")
    parents = [model.get_submodule(".".join(parts[:end])) for end in range(len(parts))]
    if any(isinstance(parent, nn.MultiheadAttention) for parent in parents):
        return "attention reads its weight without calling it"
    extra = sorted({*module._parameters, *module._buffers, *module._modules} - {"weight", "bias"})
    if extra:
        return f"it holds more than a weight and a bias: {', '.join(extra)}"
    if "forward" in vars(module):
        return "its forward was replaced"
    if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks:
        return "it has hooks"
    for parameter in module._parameters.values():
        others = [] if parameter is None else [user for user in users[memory_of(parameter)] if user != name]
        if others:
            return f"it shares its parameters with {others[0] or 'the model itself'}"
    return ""


def computes_the_same(module: nn.Module, replacement: Factorized) -> bool:
    """Does the layer, with the product of the factors as its weight, compute what the factors compute?

    Run in both modes on random inputs of two magnitudes: a subclass with a forward of its own does not.
    """
    like = module.get_parameter("weight")
    reference = clone(module)
    with torch.no_grad():
        reference.get_parameter("weight").copy_(replacement.weight)
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn(_sample_shape(module), generator=generator).to(like.device, like.dtype)
        for scaled in (inputs, 10 * inputs):
            for mode in (True, False):
                expected, actual = (_run(layer, scaled, mode) for layer in (reference, replacement))
                if not relative_difference([expected], [actual]) <= tolerance(module):
                    return False
    return True


def torch_kind(module: nn.Module) -> Any:
    """The type of torch's that a layer is, or is made from."""
    return next(kind for kind in type(module).__mro__ if kind.__module__.startswith("torch.nn.modules"))


def computes_as_its_type(module: nn.Module) -> bool:
    """Does a dense layer or convolution compute what torch's own of its kind does? Subclasses may not."""
    kind = torch_kind(module)
    if kind.forward is type(module).forward and "forward" not in vars(module):
        return True
    own, plain = clone(module), clone(module)
    vars(plain)["forward"] = partial(kind.forward, plain)
    like = module.get_parameter("weight")
    inputs = torch.randn(_sample_shape(module), generator=torch.Generator().manual_seed(0))
    inputs = inputs.to(like.device, like.dtype)
    with torch.no_grad():
        actual, expected = (_run(layer, inputs, False) for layer in (own, plain))
    return relative_difference([expected], [actual]) <= tolerance(module)


def _run(layer: nn.Module, inputs: Tensor, mode: bool) -> list[Tensor]:
    before = {part: part.training for part in layer.modules()}
    layer.train(mode)
    try:
        with torch.random.fork_rng(devices=[]), single_precision():
            seed_generators(0)
            outputs = layer(inputs)
        return [outputs] if isinstance(outputs, Tensor) else []
    except Exception:  # of a forward that takes other arguments than a layer's
        return []
    finally:
        for part, training in before.items():
            part.training = training


def _sample_shape(module: Any) -> tuple[int, ...]:
    if isinstance(module, nn.Linear):
        return 3, module.in_features
    sizes = [d * (k - 1) + 4 for k, d in zip(module.kernel_size, module.dilation, strict=True)]
    if not isinstance(module.padding, str):  # which reflected padding asks the input to be larger than
        sizes = [max(size, pad + 2) for size, pad in zip(sizes, module.padding, strict=True)]
    return 2, module.in_channels, *sizes
