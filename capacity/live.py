"""live_masks(): which parameters are on a live path from input to output, element by element."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from capacity.chains import dense_chain
from capacity.effective import live_elements, used_elements
from capacity.inputs import example_input, require_python, require_weights
from capacity.layers import RULES, functional
from capacity.passes import device_of, layers_of, measurable_copy, parents_of_uncalled, traces_of
from capacity.states import require_numbers


def live_masks(model: nn.Module, input_size: Any) -> dict[str, Tensor]:
    """For each parameter by its full name, True where it is not zero and on a live path.

    A path is live where no weight on it is zero; a parameter that is on none can go, and only constants
    change that biases pass on. What `measure(..., effective=True)` counts.

    Parameters
    ----------
    input_size: as for `measure`

    Raises InputError where `measure(..., effective=True)` does.

    >>> model = nn.Sequential(nn.Linear(3, 2, bias=False), nn.Linear(2, 1, bias=False))
    >>> _ = model[1].weight.data.copy_(model[1].weight.new_tensor([[0.0, 1.0]]))
    >>> live_masks(model, (3,))["0.weight"].any(1).tolist()
    [False, True]
    """
    require_python(model)
    if chain := dense_chain(model, input_size):
        require_weights(model)
        return _of_chain(chain)
    return _by_name(model, input_size, live_elements)


def used_masks(model: nn.Module, input_size: Any) -> dict[str, Tensor]:
    """For each parameter by its full name, False where it can become zero and no output changes.

    Beside what is live, what passes on a constant that is not zero is used: the bias of a unit that sees no
    data, and the weights that see this unit. Arguments and errors as of `live_masks`.
    """
    require_python(model)
    return _by_name(model, input_size, used_elements)


@torch.no_grad()
def _of_chain(layers: dict[str, nn.Linear]) -> dict[str, Tensor]:
    """The same for dense layers one after another, from products of zeros and ones."""
    nonzero = {name: require_numbers(name, "weight", layer.weight) != 0 for name, layer in layers.items()}
    matrices = [*nonzero.values()]
    seen, wanted = matrices[0].new_ones(matrices[0].shape[1]), matrices[-1].new_ones(len(matrices[-1]))
    entering, emitting, leaving = {}, {}, {}
    for name, mask in nonzero.items():
        entering[name] = seen
        emitting[name] = seen = mask[:, seen].any(1)
    for name, mask in reversed(nonzero.items()):
        leaving[name] = wanted
        wanted = mask[wanted].any(0)
    masks = {}
    for name, layer in layers.items():
        prefix = f"{name}." if name else ""
        masks[f"{prefix}weight"] = nonzero[name] & leaving[name][:, None] & entering[name]
        if layer.bias is not None:
            own = require_numbers(name, "bias", layer.bias) != 0
            masks[f"{prefix}bias"] = own & leaving[name] & emitting[name]
    return masks


@torch.random.fork_rng()  # which networks that draw in evaluation mode would move on
def _by_name(model: nn.Module, input_size: Any, elements: Callable[..., Any]) -> dict[str, Tensor]:
    hollow = measurable_copy(model, RULES, device="meta")
    layers = layers_of(hollow, RULES, lambda name, parameter: True)
    traces, _ = traces_of(model, hollow, layers, input_size, RULES)
    uncalled = parents_of_uncalled(hollow, traces)
    rules = {**RULES, **dict.fromkeys(uncalled, functional)}
    layers = layers_of(hollow, rules, lambda name, parameter: True)
    real = measurable_copy(model, RULES)
    same: dict[int, list[str]] = {}
    for name, parameter in real.named_parameters(remove_duplicate=False):
        same.setdefault(id(parameter), []).append(name)
    elements_alive = elements(real, layers, example_input(real, input_size, device=device_of(real)))
    masks = {f"{layer}.{key}" if layer else key: mask for (layer, key), mask in elements_alive.items()}
    for names in same.values():  # of modules under several names, only the first is a layer
        mask = next((masks[name] for name in names if name in masks), None)
        masks |= {} if mask is None else dict.fromkeys(names, mask)
    return masks | _packed(model, masks)


def _packed(model: nn.Module, masks: dict[str, Tensor]) -> dict[str, Tensor]:
    """Masks of nn.MultiheadAttention's packed parameters, from those of the layers made of them."""
    packed = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            prefix = name + "." if name else ""
            for key, kind in (("in_proj_weight", "weight"), ("in_proj_bias", "bias")):
                parts = [masks.get(f"{prefix}{part}_proj.{kind}") for part in "qkv"]
                if getattr(module, key) is not None and all(part is not None for part in parts):
                    packed[prefix + key] = torch.cat(parts)  # type: ignore[arg-type]
            for part in "qkv":
                mask = masks.get(f"{prefix}{part}_proj.weight")
                if module.in_proj_weight is None and mask is not None:
                    packed[f"{prefix}{part}_proj_weight"] = mask
    return packed
