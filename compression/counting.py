"""Each number once: parameters and bytes of a network in which tensors may be shared."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, fx, nn

from capacity.cloning import memory_view, storage_bits

SLOW = (torch.float32, torch.float64, torch.bfloat16)  # whose subnormal numbers make a CPU's kernels slow


def distinct(tensors: Iterable[Tensor]) -> list[Tensor]:
    """The tensors without those that are the same memory seen the same way as an earlier one.

    >>> weight = torch.zeros(2, 3)
    >>> len(distinct([weight, weight.detach(), weight.T, weight.clone()]))
    3
    """
    return list({memory_view(tensor): tensor for tensor in reversed(list(tensors))}.values())[::-1]


def memory_of(tensor: Tensor) -> Any:
    """Where a tensor's numbers lie: equal for tensors that share them."""
    try:
        return tensor.untyped_storage()._cdata if tensor.numel() else id(tensor)
    except (RuntimeError, NotImplementedError):
        return id(tensor)


def parameters_of(model: nn.Module) -> list[Tensor]:
    """The distinct parameters, a tied one once; of a quantized graph, its integer weights too.

    Buffers such as a batch norm's running mean are none, nor are the scales of integers.
    """
    held: list[Tensor] = list(model.parameters())
    if isinstance(model, fx.GraphModule):
        names = {str(node.target) for node in model.graph.nodes if node.op == "get_attr"}
        held += [
            buffer
            for name, buffer in model.named_buffers()
            if name in names and buffer.dtype == torch.int8 and buffer.dim() > 1
        ]
    return distinct(held)


def parameter_count(model: nn.Module) -> int:
    """Numbers in `parameters_of`.

    >>> tied = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4))
    >>> tied[2].weight = tied[0].weight
    >>> parameter_count(tied)
    32
    """
    return sum(parameter.numel() for parameter in parameters_of(model))


def nonzero_count(model: nn.Module) -> int:
    """Those of them that are not zero."""
    return sum(int(torch.count_nonzero(parameter)) for parameter in parameters_of(model))


def stored_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of a state dict, which may hold more, by `get_extra_state`."""
    state = model.state_dict(keep_vars=True)
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def state_bytes(model: nn.Module) -> int:
    """Bytes of the distinct tensors of the state dict, parameters and buffers."""
    return sum(storage_bits(tensor) for tensor in distinct(stored_tensors(model).values())) // 8


def subnormal(tensor: Tensor) -> Tensor:
    """Where numbers are too small for a full mantissa, which a CPU computes with many times more slowly.

    >>> subnormal(torch.tensor([0.0, 1e-39, 1e-37])).tolist()
    [False, True, False]
    """
    if tensor.dtype not in SLOW or tensor.is_meta or tensor.layout != torch.strided:
        return torch.zeros(tensor.shape, dtype=torch.bool, device=tensor.device)
    return (tensor != 0) & (tensor.abs() < torch.finfo(tensor.dtype).tiny)


def subnormal_count(model: nn.Module) -> int:
    """Subnormal numbers among the distinct parameters and buffers."""
    return sum(int(subnormal(t.detach()).sum()) for t in distinct([*model.parameters(), *model.buffers()]))


@torch.no_grad()
def flush_subnormals(model: nn.Module) -> int:
    """Set subnormal parameters and buffers to zero, in place; returns how many there were."""
    flushed = 0
    for tensor in distinct([*model.parameters(), *model.buffers()]):
        small = subnormal(tensor)
        count = int(small.sum())
        if count:
            tensor[small] = 0
            flushed += count
    return flushed
