"""FLOPs of fused kernels by hand, on the meta device and, where values decide what is run, on real memory."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from compression.costs import flops
from compression.operations import counter

S, E, H = 6, 16, 24  # steps, width, width of the feed-forward
PROJECTIONS = 2 * S * E * 3 * E + 2 * S * E * E
ATTENTION = PROJECTIONS + 4 * S * S * E


class Called(nn.Module):
    """The module called in some way; on values, so that it cannot run without memory."""

    def __init__(self, inner: nn.Module, call: Callable, *, on_values: bool) -> None:
        super().__init__()
        self.inner, self.call, self.on_values = inner, call, on_values

    def forward(self, x: Tensor) -> Tensor:
        return x if self.on_values and float(x.sum()) < -1e9 else self.call(self.inner, x)


def packed(module: nn.Module, x: Tensor) -> Tensor:
    return module(nn.utils.rnn.pack_sequence([x[0], x[0][:3]]))[0].data


CASES = {
    "encoder layer": (
        nn.TransformerEncoderLayer(E, 4, H, batch_first=True), (S, E), None, ATTENTION + 4 * S * E * H),
    "encoder": (
        nn.TransformerEncoder(nn.TransformerEncoderLayer(E, 4, H, batch_first=True), 3), (S, E), None,
        3 * (ATTENTION + 4 * S * E * H)),
    "attention": (
        nn.MultiheadAttention(E, 4, batch_first=True), (S, E), lambda m, x: m(x, x, x)[0], ATTENTION),
    "without its weights": (
        nn.MultiheadAttention(E, 4, batch_first=True), (S, E),
        lambda m, x: m(x, x, x, need_weights=False)[0], ATTENTION),
    "function": (
        nn.Identity(), (4, S, 8), lambda m, x: F.scaled_dot_product_attention(x, x[:, :, :4], x[:, :, :4]),
        2 * 4 * S * 4 * (8 + 8)),
    "LSTM": (nn.LSTM(10, 20, batch_first=True), (S, 10), None, 2 * S * 4 * 20 * (10 + 20)),
    "LSTM, both ways, two layers": (
        nn.LSTM(10, 20, 2, batch_first=True, bidirectional=True), (S, 10), None,
        2 * 2 * S * 4 * 20 * (10 + 20) + 2 * 2 * S * 4 * 20 * (40 + 20)),
    "LSTM, packed": (nn.LSTM(10, 20), (S, 10), packed, 2 * (S + 3) * 4 * 20 * (10 + 20)),
    "LSTM, projected": (
        nn.LSTM(10, 20, proj_size=7, batch_first=True), (S, 10), None,
        2 * S * 4 * 20 * (10 + 7) + 2 * S * 20 * 7),
    "GRU": (nn.GRU(10, 20, batch_first=True), (S, 10), None, 2 * S * 3 * 20 * (10 + 20)),
    "RNN": (nn.RNN(10, 20, batch_first=True), (S, 10), None, 2 * S * 20 * (10 + 20)),
    "LSTM cell": (nn.LSTMCell(10, 20), (10,), lambda m, x: m(x)[0], 2 * 4 * 20 * (10 + 20)),
    "bilinear": (nn.Bilinear(5, 5, 7), (5,), lambda m, x: m(x, x), 2 * 7 * 5 * 5 + 2 * 7 * 5),
    "matrix times vector": (nn.Linear(5, 7), (5,), lambda m, x: m.weight @ x[0], 2 * 5 * 7),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("on_values", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_by_hand(name: str, on_values: bool) -> None:
    module, size, call, expected = CASES[name]
    first = call or (lambda m, x: m(x)[0] if isinstance(m, nn.RNNBase) else m(x))
    assert flops(Called(module, first, on_values=on_values), size) == expected


def test_two_different_inputs_of_a_bilinear_layer() -> None:
    assert flops(nn.Bilinear(5, 6, 7), [(5,), (6,)]) == 490


@settings(deadline=None, max_examples=30)
@given(
    batch=st.integers(1, 3), heads=st.integers(1, 3), queries=st.integers(1, 9), keys=st.integers(1, 9),
    width=st.integers(1, 8),
)  # fmt: skip
def test_the_fused_kernel_counts_what_its_products_count(batch, heads, queries, keys, width) -> None:
    query, key = torch.randn(batch, heads, queries, width), torch.randn(batch, heads, keys, width)
    with counter() as fused, torch.no_grad():
        F.scaled_dot_product_attention(query, key, key)
    with counter() as parts, torch.no_grad():
        torch.softmax(query @ key.mT, -1) @ key
    assert fused.get_total_flops() == parts.get_total_flops() == 4 * query.numel() * keys


def test_whole_layers_in_one_kernel_and_the_switch_is_put_back() -> None:
    layer = nn.TransformerEncoderLayer(E, 4, H, batch_first=True).eval()
    x, own = torch.randn(2, S, E), layer.self_attn
    packed_attention = (own.in_proj_weight, own.in_proj_bias, own.out_proj.weight, own.out_proj.bias)
    norms = [t for norm in (layer.norm1, layer.norm2) for t in (norm.weight, norm.bias)]
    hidden = [t for dense in (layer.linear1, layer.linear2) for t in (dense.weight, dense.bias)]
    with counter() as found, torch.no_grad():
        torch._transformer_encoder_layer_fwd(x, E, 4, *packed_attention, False, False, 1e-5, *norms, *hidden)
    assert found.get_total_flops() == 2 * (ATTENTION + 4 * S * E * H)
    with counter() as found, torch.no_grad():
        torch._native_multi_head_attention(x, x, x, E, 4, *packed_attention)
    assert found.get_total_flops() == 2 * ATTENTION
    assert torch.backends.mha.get_fastpath_enabled()
