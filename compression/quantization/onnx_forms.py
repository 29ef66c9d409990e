"""Operations in the forms that torch's ONNX exporter takes, while a network is exported."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

ATTENTION = (scaled_dot_product_attention, torch.ops.aten.scaled_dot_product_attention.default)
EXPERTS = "transformers.grouped_mm_fallback.default"  # by name: transformers registers it
DIMENSIONS = 4  # of what the exporter takes attention of


class ForOnnx(TorchFunctionMode):
    """Within it, views may copy, attention has four dimensions, and experts are products of each.

    A graph holds views where an attention kernel of its own tracing laid out its results otherwise than that
    of the exporter's; windows of pictures are a dimension more than the exporter knows.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.ops.aten.view.default:
            return torch.reshape(*args, **kwargs)
        if func in ATTENTION and (args[0] if args else kwargs["query"]).dim() != DIMENSIONS:
            return attention(*args, **kwargs)
        if str(func) == EXPERTS:
            return products_of_experts(*args, **kwargs)
        return func(*args, **kwargs)


def products_of_experts(rows: Tensor, weights: Tensor, ends: Tensor) -> Tensor:
    """Each of the rows (n, inputs) by its expert of (experts, inputs, outputs), where those of each end.

    All experts are given all rows, and what is not theirs is left out: how many are is told by the data.

    >>> rows, weights = torch.ones(3, 1), torch.tensor([[[2.0]], [[5.0]]])
    >>> products_of_experts(rows, weights, torch.tensor([1, 2])).flatten().tolist()
    [2.0, 5.0, 0.0]
    """
    places = torch.arange(rows.shape[0], device=rows.device)
    before = torch.cat([torch.zeros_like(ends[:1]), ends[:-1]])
    result = rows.new_zeros(rows.shape[0], weights.shape[2])
    for expert in range(weights.shape[0]):
        own = (places >= before[expert]) & (places < ends[expert])
        result = result + torch.where(own[:, None], rows @ weights[expert], 0.0)
    return result


def attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *args: Any, **kwargs: Any
) -> Tensor:
    """`scaled_dot_product_attention` over (..., heads, positions, features), in four dimensions."""
    given = [query, key, value]
    count = max(tensor.dim() for tensor in given)
    most = max(count, DIMENSIONS)
    given = [_with_dimensions(tensor, most) for tensor in given]
    before = given[0].shape[: 1 - DIMENSIONS]
    if any(tensor.shape[: 1 - DIMENSIONS] != before for tensor in given):
        before = torch.broadcast_shapes(*(tensor.shape[: 1 - DIMENSIONS] for tensor in given))

    def laid_out(tensor: Tensor) -> Tensor:
        return tensor.expand(*before, *tensor.shape[1 - DIMENSIONS :]).flatten(0, most - DIMENSIONS)

    if attn_mask is not None:
        attn_mask = _with_dimensions(attn_mask, 2)
        attn_mask = attn_mask if attn_mask.dim() == 2 else laid_out(_with_dimensions(attn_mask, most))
    query, key, value = map(laid_out, given)
    result: Tensor = scaled_dot_product_attention(query, key, value, attn_mask, *args, **kwargs)
    result = result.reshape(*before, *result.shape[1:])
    for _ in range(most - count):
        result = result.squeeze(0)
    return result


def _with_dimensions(tensor: Tensor, count: int) -> Tensor:
    """A tensor with dimensions of one before its own, until there are so many."""
    for _ in range(count - tensor.dim()):
        tensor = tensor.unsqueeze(0)
    return tensor
