"""Unpacked attention computes what nn.MultiheadAttention computes, masks and all."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from capacity.attention import fuse_attention, unpack_attention
from capacity.cloning import clone

CAUSAL = torch.triu(torch.ones(5, 5, dtype=torch.bool), 1)
PADDING = torch.arange(5).expand(4, 5) >= torch.tensor([[5], [4], [3], [5]])
PER_HEAD = torch.randn(12, 5, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("sizes", [{}, {"kdim": 7, "vdim": 5}, {"bias": False}])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"need_weights": False},
        {"attn_mask": CAUSAL},
        {"attn_mask": CAUSAL, "key_padding_mask": PADDING},
        {"attn_mask": PER_HEAD, "average_attn_weights": False},
    ],
)
def test_it_equals_the_packed_module(batch_first: bool, sizes: dict, options: dict) -> None:
    torch.manual_seed(0)
    packed = nn.MultiheadAttention(12, 3, batch_first=batch_first, **sizes).eval()
    if packed.in_proj_bias is not None:
        nn.init.normal_(packed.in_proj_bias)
    unpacked = unpack_attention(clone(packed))
    assert unpacked is not packed
    shape = (4, 5) if batch_first else (5, 4)
    given = [torch.randn(*shape, sizes.get(key, 12)) for key in ("", "kdim", "vdim")]
    expected, found = packed(*given, **options), unpacked(*given, **options)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    fuse_attention(unpacked)
    for gradients in (False, True):
        with torch.set_grad_enabled(gradients):
            torch.testing.assert_close(unpacked(*given, **options), expected, atol=1e-6, rtol=1e-5)


def test_the_kernel_computes_where_nothing_follows_the_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    kernel = functional.scaled_dot_product_attention
    monkeypatch.setattr(
        functional, "scaled_dot_product_attention", lambda *given: calls.append(1) or kernel(*given)
    )
    unpacked = unpack_attention(nn.MultiheadAttention(12, 3, dropout=0.1, batch_first=True).eval())
    x = torch.randn(2, 5, 12)

    def fused(*, need_weights: bool = False, grad: bool = False) -> bool:
        calls.clear()
        with torch.set_grad_enabled(grad):
            unpacked(x, x, x, need_weights=need_weights)
        return bool(calls)

    assert not fused()
    fuse_attention(unpacked)
    assert fused() and not fused(need_weights=True) and not fused(grad=True)
    unpacked.train()
    assert not fused()
    unpack_attention(unpacked.eval())
    assert not fused()


def test_without_a_batch_and_inside_an_encoder_layer() -> None:
    torch.manual_seed(0)
    packed = nn.MultiheadAttention(12, 3).eval()
    x = torch.randn(5, 12)
    torch.testing.assert_close(unpack_attention(clone(packed))(x, x, x), packed(x, x, x))
    layer = nn.TransformerEncoderLayer(12, 3, 24, batch_first=True).eval()
    x = torch.randn(2, 5, 12)
    torch.testing.assert_close(unpack_attention(clone(layer))(x), layer(x), atol=1e-6, rtol=1e-5)
