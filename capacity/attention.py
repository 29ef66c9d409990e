"""nn.MultiheadAttention as what it is: four dense layers over tokens.

Its packed projections never run as modules, so nothing could be said about them one by one. In the copy
that is measured each such module is replaced by one with the same numbers in dense layers of their own,
which makes it count as attention written with nn.Linear does.
"""

from typing import Any

import torch
from torch import Tensor, nn


class Projections(nn.Module):
    """q, k and v projections, attention per head, output projection; masks do not change what is stored."""

    def __init__(self, packed: nn.MultiheadAttention) -> None:
        super().__init__()
        self.num_heads, self.batch_first = packed.num_heads, packed.batch_first
        size = packed.embed_dim
        biases = [None] * 3 if packed.in_proj_bias is None else _parts(packed.in_proj_bias, 3)
        if packed.in_proj_weight is not None:
            weights = _parts(packed.in_proj_weight, 3)
        else:
            weights = [packed.q_proj_weight, packed.k_proj_weight, packed.v_proj_weight]
        for name, weight, bias in zip(("q_proj", "k_proj", "v_proj"), weights, biases, strict=True):
            layer = nn.Linear(weight.shape[1], size, bias=False, device="meta")
            layer.weight = weight
            layer.bias = bias
            self.add_module(name, layer)
        self.out_proj: nn.Module = packed.out_proj

    def forward(self, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
        single = query.dim() == 2
        given = [tensor[None] if single else tensor for tensor in (query, key, value)]
        if not self.batch_first and not single:
            given = [tensor.transpose(0, 1) for tensor in given]
        layers = (self.get_submodule(name) for name in ("q_proj", "k_proj", "v_proj"))
        projected = [layer(tensor) for layer, tensor in zip(layers, given, strict=True)]
        q, k, v = (tensor.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for tensor in projected)
        share = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, dim=-1)
        mixed = (share @ v).transpose(1, 2).flatten(2)
        output = self.out_proj(mixed)
        if not self.batch_first and not single:
            output = output.transpose(0, 1)
        return (output[0] if single else output), share.mean(1)


def _parts(packed: nn.Parameter, count: int) -> list[nn.Parameter]:
    """A packed parameter as parameters of their own, marked with the storage of their elements."""
    parts = []
    for chunk in packed.detach().chunk(count):
        part = nn.Parameter(chunk.clone(), requires_grad=packed.requires_grad)
        if hasattr(packed, "element_bits"):
            part.element_bits = packed.element_bits  # type: ignore[attr-defined]
        parts.append(part)
    return parts


def unpack_attention(model: nn.Module) -> nn.Module:
    """Replace, in place, every nn.MultiheadAttention without extra key or value biases; returns the model."""
    found = [
        (name, module)
        for name, module in model.named_modules()
        if type(module) is nn.MultiheadAttention and module.bias_k is None
    ]
    for name, module in found:
        if not name:
            return Projections(module)
        model.set_submodule(name, Projections(module))
    return model
