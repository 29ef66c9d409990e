"""Unpacked attention computes what nn.MultiheadAttention computes, masks and all."""

import pytest
import torch
from torch import nn

from capacity.attention import unpack_attention
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


def test_without_a_batch_and_inside_an_encoder_layer() -> None:
    torch.manual_seed(0)
    packed = nn.MultiheadAttention(12, 3).eval()
    x = torch.randn(5, 12)
    torch.testing.assert_close(unpack_attention(clone(packed))(x, x, x), packed(x, x, x))
    layer = nn.TransformerEncoderLayer(12, 3, 24, batch_first=True).eval()
    x = torch.randn(2, 5, 12)
    torch.testing.assert_close(unpack_attention(clone(layer))(x), layer(x), atol=1e-6, rtol=1e-5)
