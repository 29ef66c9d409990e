"""Layers that only some inputs reach: experts that the data choose, branches that values decide."""

from typing import Any

import torch
from torch import Tensor, nn

from capacity.inputs import map_tensors
from capacity.tracing import Layers, Trace, counted, trace

PASSES = 64  # at most, one sample each
PATIENCE = 8  # passes in a row that reach nothing new


def add_other_ways(
    model: nn.Module, layers: Layers, traces: dict[str, Trace], args: Any, kwargs: Any
) -> list[str]:
    """Add to the traces of a real pass what passes with other inputs reach; returns notes.

    Without effect where the pass reached all layers, or where no other input reaches more.
    """
    wanted = {
        name for name, (layer, _) in counted(layers).items() if layer.parameters and not layer.container
    }
    generator, first, idle = torch.Generator().manual_seed(0), set(traces), 0
    for _ in range(PASSES):
        if wanted <= set(traces) or idle == PATIENCE:
            break
        known = set(traces)
        try:
            others = map_tensors((args, kwargs), lambda tensor: _other(tensor, generator))
            _add(traces, trace(model, layers, *others))
        except Exception:  # an input that this model does not take
            idle += 1
            continue
        idle = 0 if set(traces) > known else idle + 1
    added = [name for name in traces if name not in first]
    few = ", ".join(added[:4]) + (f" and {len(added) - 4} more" if len(added) > 4 else "")
    return (
        [f"{few}: reached by other inputs than the example, so the way depends on the data"] if added else []
    )


def _other(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Normal noise in place of floats; of integers, others from the range they span."""
    if tensor.dtype == torch.bool or tensor.is_complex() or not tensor.numel():
        return tensor
    if tensor.is_floating_point():
        drawn = torch.randn(tensor.shape, generator=generator)
    else:
        drawn = torch.randint(int(tensor.min()), int(tensor.max()) + 1, tensor.shape, generator=generator)
    return drawn.to(tensor.device, tensor.dtype)


def _add(traces: dict[str, Trace], others: dict[str, Trace]) -> None:
    """Put the layers of another pass in their order among those known, and join what is known of both."""
    order, waiting = list(traces), list[str]()
    for name, other in others.items():
        if name not in traces:
            traces[name] = other
            waiting.append(name)
            continue
        place = order.index(name)
        order[place:place] = waiting
        waiting = []
        own = traces[name]
        own.raw, own.called = own.raw or other.raw, own.called or other.called
        own.sources.update(other.sources)
        own.entering_elements = max(own.entering_elements, other.entering_elements)
        own.leaving_elements = max(own.leaving_elements, other.leaving_elements)
        own.untraced = max(own.untraced, other.untraced)
    joined = {name: traces[name] for name in [*order, *waiting]}
    traces.clear()
    traces.update(joined)
