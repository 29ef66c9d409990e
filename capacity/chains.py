"""Chains of torch's own modules, each once, without code of the model's own: what lives in them is known."""

from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooked

from capacity.inputs import ADDRESSABLE, is_shape

ACTIVATIONS = (
    nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Identity, nn.Dropout,
)  # fmt: skip
WEIGHTED = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d,
)  # fmt: skip
CHAINED = (
    *ACTIVATIONS, *WEIGHTED, nn.Flatten, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d,
    nn.AvgPool3d,
)  # fmt: skip
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def is_chain(model: nn.Module) -> bool:
    """Whether marks alone decide what lives in a model.

    >>> is_chain(nn.Sequential(nn.Linear(4, 2), nn.ReLU())), is_chain(nn.Sequential(nn.LSTM(4, 2)))
    (True, False)
    """
    modules = [module for _, module in model.named_modules(remove_duplicate=False)]
    once = len({*map(id, modules)}) == len(modules)
    everywhere = any(getattr(hooked, f"_global{name}", None) for name in HOOKS)
    kinds = {(parameter.dtype, parameter.layout) for parameter in model.parameters()}
    alike = len(kinds) < 2 and kinds <= {(dtype, torch.strided) for dtype in FLOATS}
    return once and alike and not everywhere and all(map(_is_plain, modules))


def _is_plain(module: nn.Module) -> bool:
    """Whether it does what its class does, with the parameters of its class."""
    known = type(module) in (nn.Sequential, *CHAINED)
    parameters = {"weight", "bias"} if type(module) in WEIGHTED else set()
    changed = any(getattr(module, name) for name in HOOKS) or "forward" in module.__dict__
    return (
        known
        and not changed
        and set(module._parameters) == parameters
        and None not in module._modules.values()
    )


def dense_chain(model: nn.Module, size: Any) -> dict[str, nn.Linear]:
    """The layers, by name, of a chain of dense ones that one sample of this shape fits; of others, none.

    >>> list(dense_chain(nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 1)), (2, 2)))
    ['1', '3']
    """
    elements = prod(map(int, size)) if is_shape(size) else ADDRESSABLE
    if elements >= ADDRESSABLE or not is_chain(model):
        return {}
    leaves = {name: m for name, m in model.named_modules() if type(m) is not nn.Sequential}
    width = int(size[-1])
    layers: dict[str, nn.Linear] = {}
    for place, (name, module) in enumerate(leaves.items()):
        if isinstance(module, nn.Linear):
            fits, width = _is_sound(module, width), module.out_features
            layers[name] = module
        elif isinstance(module, nn.Flatten):
            fits, width = place == 0 and (module.start_dim, module.end_dim) == (1, -1), elements
        else:
            fits = isinstance(module, ACTIVATIONS)
        if not fits:
            return {}
    distinct = len({*map(id, model.parameters())}) == len([*model.named_parameters(remove_duplicate=False)])
    return layers if distinct else {}


def _is_sound(layer: nn.Linear, width: int) -> bool:
    """Whether it takes so many features, by its parameters as by its word, and holds nothing infinite."""
    weight, bias = layer.weight, layer.bias
    shapes = [tuple(weight.shape), (layer.out_features,) if bias is None else tuple(bias.shape)]
    parameters: list[Tensor] = [weight] if bias is None else [weight, bias]
    return (
        layer.in_features == width
        and shapes == [(layer.out_features, layer.in_features), (layer.out_features,)]
        and weight.numel() > 0
        and not any(p.is_meta or bool(torch.isinf(p).any()) for p in parameters)
    )
