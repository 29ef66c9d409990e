"""Layers as matrices: each output is the product of its row and what the layer was given there."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compression.feedback.layers import matrices_of, rows_of, weight_of


@settings(max_examples=25)
@given(
    st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), st.integers(0, 2), st.integers(1, 2),
    st.sampled_from([1, 2, 4]), st.sampled_from(["zeros", "circular", "replicate"]),
)  # fmt: skip
def test_a_convolution_is_the_product_of_its_matrices_and_rows(
    sides, kernel, stride, padding, dilation, groups, mode
):
    generator = torch.Generator().manual_seed(0)
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[sides - 1]
    layer = kind(
        4, 8, kernel, stride, padding, dilation, groups, bias=False, padding_mode=mode, dtype=torch.float64
    )
    x = torch.randn(3, 4, *(7, 6, 5)[:sides], generator=generator, dtype=torch.float64)
    with torch.no_grad():
        wanted = layer(x).unflatten(1, (groups, -1)).movedim(0, 2).flatten(2)  # groups, outputs, positions
        found = matrices_of(layer, layer.weight) @ rows_of(layer, x).transpose(1, 2)
    assert torch.allclose(found, wanted, atol=1e-12)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_padding_by_name(padding):
    layer = nn.Conv2d(2, 3, 4, padding=padding, bias=False)
    x = torch.randn(2, 2, 6, 5, generator=torch.Generator().manual_seed(0))
    found = matrices_of(layer, layer.weight) @ rows_of(layer, x).transpose(1, 2)
    assert torch.allclose(found, layer(x).movedim(0, 1).flatten(1)[None], atol=1e-5)


def test_dense_layers_of_both_kinds():
    Conv1D = pytest.importorskip("transformers.pytorch_utils").Conv1D

    x = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    for layer in (nn.Linear(4, 3, bias=False), Conv1D(3, 4)):
        found = rows_of(layer, x)[0] @ matrices_of(layer, layer.weight)[0].t()
        assert torch.allclose(found.view(2, 5, 3), layer(x), atol=1e-6)
        back = weight_of(layer, matrices_of(layer, layer.weight), layer.weight.shape)
        assert torch.equal(back, layer.weight)
