"""Numbers of the model's own that enter layers as data does: tables, coordinates, learned tokens."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from capacity.inputs import map_tensors
from capacity.layers import Layer
from capacity.states import State, entering
from capacity.structure import Structure
from capacity.tracing import Layers, intercepted


def constant_inputs(
    model: torch.nn.Module, layers: Layers, states: Mapping[str, State], example: Any
) -> dict[tuple[str, int], list[Tensor]]:
    """By layer and number of the call, True at the input elements that are not zero and come from nowhere.

    Neither the model's inputs nor any layer reaches them: where both are NaN, these are not. Empty where the
    model does not run on NaN.
    """
    constants: dict[tuple[str, int], list[Tensor]] = {}
    calls: Counter[str] = Counter()

    def visit(layer: Layer, forward: Any, args: Any, kwargs: Any) -> Any:
        if layer.container or not layer.counted:
            return forward(*args, **kwargs)
        tensors = entering(states[layer.name], args, kwargs)
        constants[layer.name, calls[layer.name]] = [(t != 0) & ~torch.isnan(t) for t in tensors]
        calls[layer.name] += 1
        clean_args, clean_kwargs = map_tensors((args, kwargs), _clean)
        return map_tensors(forward(*clean_args, **clean_kwargs), filled)

    try:
        with torch.no_grad(), intercepted(layers, visit), Structure(model):
            args, kwargs = map_tensors(example, filled)
            model(*args, **kwargs)
    except Exception:  # whatever the model's own code raises on NaN
        return {}
    return constants


def filled(tensor: Tensor) -> Tensor:
    """NaN everywhere; integers as they are."""
    return torch.full_like(tensor, torch.nan) if tensor.is_floating_point() else tensor


def _clean(tensor: Tensor) -> Tensor:
    return torch.nan_to_num(tensor) if tensor.is_floating_point() else tensor
