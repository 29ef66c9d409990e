"""Operations in the forms that torch's ONNX exporter takes, while a network is exported."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

ATTENTION = (scaled_dot_product_attention, torch.ops.aten.scaled_dot_product_attention.default)
DIMENSIONS = 4  # of what the exporter takes attention of


class ForOnnx(TorchFunctionMode):
    """Within it, views may copy and attention has four dimensions, whatever it was written with.

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
        if func in ATTENTION and args and args[0].dim() != DIMENSIONS:
            return attention(*args, **kwargs)
        return func(*args, **kwargs)


def attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *args: Any, **kwargs: Any
) -> Tensor:
    """`scaled_dot_product_attention` over (..., heads, positions, features), in four dimensions."""
    before = query.shape[: 1 - DIMENSIONS] if query.dim() >= DIMENSIONS else ()

    def laid_out(tensor: Tensor) -> Tensor:
        while tensor.dim() < DIMENSIONS:
            tensor = tensor.unsqueeze(0)
        return tensor.flatten(0, tensor.dim() - DIMENSIONS)

    if attn_mask is not None and attn_mask.dim() > 2:
        attn_mask = laid_out(attn_mask.expand(*query.shape[:-2], *attn_mask.shape[-2:]))
    given = (laid_out(query), laid_out(key), laid_out(value), attn_mask)
    result: Tensor = scaled_dot_product_attention(*given, *args, **kwargs)
    for _ in range(DIMENSIONS - query.dim()):
        result = result.squeeze(0)
    return result.reshape(*before, *result.shape[1:]) if query.dim() >= DIMENSIONS else result
