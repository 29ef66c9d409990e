"""Which layers feed which, found by dyeing: one forward pass, no graph tracer, no weights in memory.

Raw input and the output of every counted layer are each multiplied by a scalar of their own that requires
a gradient, the output after being cut from what came before. At the next layer, autograd's own bookkeeping
then leads from the layer's input back to exactly the scalars it descends from. The factor is a product
rather than a leaf so that in-place activations stay legal.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from capacity.errors import InputError
from capacity.inputs import map_tensors, tensors_in
from capacity.layers import Layer

RAW = None  # the source of data that passed through no counted layer

Layers = Mapping[str, tuple[Layer, nn.Module]]
Visit = Callable[[Layer, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


@dataclass
class Trace:
    """What reached one layer, and what left it, summed over its calls; elements are per sample."""

    raw: bool = False
    entering_elements: int = 0
    leaving_elements: int = 0
    sources: dict[str, None] = field(default_factory=dict)  # names of the layers that feed it, in order
    untraced: bool = False  # an input came from nowhere: the model detached it


@contextmanager
def intercepted(layers: Layers, visit: Visit) -> Iterator[None]:
    """Within it, each layer's forward is `visit(layer, forward, args, kwargs)` (on a copy of a model)."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    own = {name: module.__dict__.get("forward") for name, (_, module) in layers.items()}
    for layer, module in layers.values():
        forward = module.forward

        def call(*args: Any, _layer: Layer = layer, _forward: Any = forward, **kwargs: Any) -> Any:
            return visit(_layer, _forward, args, kwargs)

        module.forward = call
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for name, (_, module) in layers.items():
            del module.forward
            if own[name] is not None:
                module.__dict__["forward"] = own[name]


def trace(
    model: nn.Module, layers: Layers, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Trace]:
    """One dyed forward pass; a Trace for each layer that was reached, in order of first execution."""
    dyes: dict[Tensor, str | None] = {}
    traces: dict[str, Trace] = {}
    batch = next((t.shape[0] for t in tensors_in((args, kwargs)) if t.dim()), 1)
    counted = {name: pair for name, pair in layers.items() if pair[0].counted}

    def dyed(tensor: Tensor, name: str | None) -> Tensor:
        if not (tensor.is_floating_point() or tensor.is_complex()):
            return tensor
        with torch.enable_grad():
            dye = torch.ones((), dtype=tensor.dtype, device=tensor.device, requires_grad=True)
            dyes[dye] = name
            return tensor.detach() * dye

    def visit(
        layer: Layer, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        note = traces.setdefault(layer.name, Trace())
        for tensor in tensors_in((args, kwargs)):
            found = _sources(tensor, dyes)
            if RAW in found or not (tensor.is_floating_point() or tensor.is_complex()):
                note.raw = True
            elif found:
                note.entering_elements += tensor.numel() // batch
            else:
                note.untraced = True
            note.sources.update({name: None for name in found if name is not RAW})
        output = forward(*args, **kwargs)
        note.leaving_elements += sum(tensor.numel() for tensor in tensors_in(output)) // batch
        return output if layer.container else map_tensors(output, partial(dyed, name=layer.name))

    with torch.enable_grad(), intercepted(counted, visit):
        output = model(
            *map_tensors(args, partial(dyed, name=RAW)), **map_tensors(kwargs, partial(dyed, name=RAW))
        )
    if not tensors_in(output):
        raise InputError(f"the model returned no tensor but {type(output).__name__}; nothing can be measured")
    return traces


def _sources(tensor: Tensor, dyes: Mapping[Tensor, str | None]) -> dict[str | None, None]:
    """The names behind a tensor's dyes: a walk from its gradient function to the scalars below it."""
    found: dict[str | None, None] = {}
    if tensor.grad_fn is None:
        return found
    seen, stack = {tensor.grad_fn}, [tensor.grad_fn]
    while stack:
        node = stack.pop()
        variable = getattr(node, "variable", None)
        if variable is not None and variable in dyes:
            found[dyes[variable]] = None
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                stack.append(following)
    return found
