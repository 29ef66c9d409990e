"""Each number once: parameters and bytes of a network in which tensors may be shared."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, fx, nn

from capacity.cloning import memory_view, storage_bits

DEQUANTIZING = ("quantized_decomposed.dequantize", "torchao.dequantize_affine")
FROZEN = "_frozen_param"  # as torchao names what it made of weights
SMALLEST_SCALE = 2.0**-40  # of integers; torchao's own, 2^-12, rounds weak channels and activations to zero
SMALLEST_HALF, LARGEST_HALF = 2.0**-24, 65504.0  # above zero in half precision
HALVES = (2.0**-14, LARGEST_HALF)  # sizes that half precision has with all its bits
PART = 2**18  # numbers that are looked at together: what a core's cache holds
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
    rounded = rounded_tensors(model)
    buffers = [buffer for name, buffer in model.named_buffers() if name in rounded]
    return distinct([*model.parameters(), *buffers])


def rounded_tensors(model: nn.Module) -> set[str]:
    """Names, in the state dict of a network that `quantize` made, of the integers that weights became.

    In a graph, or behind parametrizations that store them (`stores`). Other integers may lie there, such as
    codes in a buffer of the model's own.
    """
    names = set()
    for path, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, fx.GraphModule):
            calls = (node for node in module.graph.nodes if node.op == "call_function" and node.args)
            read = (node.args[0] for node in calls if str(node.target).startswith(DEQUANTIZING))
            stored = {node.target for node in read if isinstance(node, fx.Node) and node.op == "get_attr"}
            own = (target for target in map(str, stored) if target.startswith(FROZEN))
            names |= {f"{path}.{target}".removeprefix(".") for target in own}
        elif getattr(module, "stores", False):
            names.add(f"{path.rpartition('.')[0]}.original0")
    return names


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


def all_finite(tensor: Tensor) -> bool:
    """Whether no number is NaN or infinite, at the cost of a sum.

    >>> all_finite(torch.tensor([3e38, 3e38])), all_finite(torch.tensor([1.0, float("nan")]))
    (True, False)
    """
    return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())


def subnormal(tensor: Tensor) -> Tensor:
    """Where numbers are too small for a full mantissa, which a CPU computes with many times more slowly.

    >>> subnormal(torch.tensor([0.0, 1e-39, 1e-37])).tolist()
    [False, True, False]
    """
    if not _may_be_slow(tensor):
        return torch.zeros(tensor.shape, dtype=torch.bool, device=tensor.device)
    return (tensor != 0) & (tensor.abs() < torch.finfo(tensor.dtype).tiny)


def _may_be_slow(tensor: Tensor) -> bool:
    return tensor.dtype in SLOW and not tensor.is_meta and tensor.layout == torch.strided


def subnormal_count(model: nn.Module) -> int:
    """Subnormal numbers among the distinct parameters and buffers."""
    return sum(int(subnormal(t.detach()).sum()) for t in distinct([*model.parameters(), *model.buffers()]))


@torch.no_grad()
def flush_subnormals(model: nn.Module) -> int:
    """Set subnormal parameters and buffers to zero, in place; returns how many there were."""
    flushed = 0
    for tensor in distinct([*model.parameters(), *model.buffers()]):
        if not _may_be_slow(tensor):
            continue
        tiny = torch.finfo(tensor.dtype).tiny
        for part in tensor.view(-1).split(PART) if tensor.is_contiguous() else (tensor,):
            if part.numel() and not part.abs().min() >= tiny:  # a fraction of the mask's cost; or NaN
                small = subnormal(part)
                if count := int(small.sum()):
                    part[small] = 0
                    flushed += count
    return flushed
