"""nn.MultiheadAttention as what it is: four dense layers over tokens.

Its packed projections never run as modules, so nothing could be said about them one by one. In the copy
that is measured each such module is replaced by one with the same numbers in dense layers of their own,
which makes it count as attention written with nn.Linear does. Shrinking does the same, because the packed
module cannot lose a head without losing a part of the embedding.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Projections(nn.Module):
    """Attention with q, k, v and output projections in dense layers; called as nn.MultiheadAttention is.

    `num_heads` heads of `num_heads · head width` units in all, which need not be the embedding's width.
    """

    in_proj_bias = None  # keeps nn.TransformerEncoderLayer off its fused path, which reads packed weights
    fused = False  # computes step by step, as what follows values through it must see; see `fuse_attention`

    def __init__(self, packed: nn.MultiheadAttention) -> None:
        super().__init__()
        self.num_heads, self.batch_first = packed.num_heads, packed.batch_first
        self.dropout = packed.dropout
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
        # as a plain dense layer: the original's class is private to the packed module
        output = nn.Linear(size, size, bias=False, device="meta")
        output.weight, output.bias = packed.out_proj.weight, packed.out_proj.bias
        self.out_proj = output
        self.train(packed.training)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        *flags: bool,
        **named: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Outputs and, where asked for, the weights of each key; shapes as of nn.MultiheadAttention.

        flags, named: whether to average the weights over heads; whether the mask is causal, which it says
        """
        average = named.get("average_attn_weights", flags[0] if flags else True)
        single = query.dim() == 2
        given = [tensor[None] if single else tensor for tensor in (query, key, value)]
        if not self.batch_first and not single:
            given = [tensor.transpose(0, 1) for tensor in given]
        layers = (self.get_submodule(name) for name in ("q_proj", "k_proj", "v_proj"))
        projected = [layer(tensor) for layer, tensor in zip(layers, given, strict=True)]
        q, k, v = (tensor.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for tensor in projected)
        mask = self._mask(attn_mask, key_padding_mask, q, k)
        weights = None
        if self._fuses() and not need_weights:
            mixed = F.scaled_dot_product_attention(q, k, v, mask)
        else:
            scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
            share = torch.softmax(scores if mask is None else scores + mask, dim=-1)
            mixed = F.dropout(share, self.dropout, self.training) @ v
            if need_weights:
                weights = share.mean(1) if average else share
        output = self.out_proj(mixed.transpose(1, 2).flatten(2))
        if not self.batch_first and not single:
            output = output.transpose(0, 1)
        if single:
            output, weights = output[0], None if weights is None else weights[0]
        return output, weights

    def _fuses(self) -> bool:
        """Whether torch's kernel computes: in no pass that a gradient, an export or dropout follows."""
        followed = torch.is_grad_enabled() or torch.compiler.is_exporting()
        return self.fused and not followed and not (self.training and self.dropout)

    def _mask(self, attn_mask: Tensor | None, padding: Tensor | None, q: Tensor, k: Tensor) -> Tensor | None:
        """Both masks as what is added to the (B, heads, queries, keys) scores; True forbids."""
        total = None
        batch, heads, queries, _ = q.shape
        keys = k.shape[2]
        everywhere = attn_mask is not None and attn_mask.dim() == 2
        shape = (1, 1, queries, keys) if everywhere else (batch, heads, queries, keys)
        for mask, wide in ((attn_mask, shape), (padding, (batch, 1, 1, keys))):
            if mask is not None:
                if mask.dtype == torch.bool:
                    mask = torch.zeros_like(mask, dtype=q.dtype).masked_fill_(mask, -torch.inf)
                total = mask.reshape(wide) if total is None else total + mask.reshape(wide)
        return total


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
    """Replace, in place, every nn.MultiheadAttention without extra key or value biases; returns the model.

    All of them then compute step by step, those too that were replaced before.
    """
    _set_fused(model, False)
    parts = [
        (name, module)
        for name, module in model.named_modules()
        if type(module) is nn.MultiheadAttention and module.bias_k is None
    ]
    for name, module in parts:
        if not name:
            return Projections(module)
        model.set_submodule(name, Projections(module))
    return model


def fuse_attention(model: nn.Module) -> nn.Module:
    """Let unpacked attention run in torch's kernel where no gradient is wanted; in place, returns the model.

    nn.MultiheadAttention does so; a shrunk network must not be slower for having it in layers of its own.
    """
    _set_fused(model, True)
    return model


def _set_fused(model: nn.Module, fused: bool) -> None:
    for module in model.modules():
        if isinstance(module, Projections):
            module.fused = fused
