"""Floating-point operations of fused kernels that `torch.utils.flop_counter` does not know.

A multiply-add counts as two; only matrix products and convolutions count, as in torch's own counter.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import sdpa_flop_count

aten = torch.ops.aten

Shape = Sequence[int]


def attention_flops(query: Shape, key: Shape, value: Shape, *others: Any, **named: Any) -> int:
    """2·b·h·s·t·(d + v): queries (b, h, s, d) times keys (b, h', t, d), and weights times values.

    >>> attention_flops((1, 4, 64, 16), (1, 4, 64, 16), (1, 4, 64, 16))
    1048576
    """
    return int(sdpa_flop_count(query, key, value))


def packed_attention_flops(query: Shape, key: Shape, embed_dim: int) -> int:
    """Projections in and out of width e and the attention between them: 8·b·s·e² + 4·b·s·t·e if s = t."""
    batch, length, _ = query
    others = key[1]
    projections = 2 * batch * embed_dim**2 * (2 * length + 2 * others)
    return projections + 4 * batch * length * others * embed_dim


def encoder_layer_flops(source: Shape, embed_dim: int, *others: Any, **named: Any) -> int:
    """A whole encoder layer in one kernel: attention, and a feed-forward of weights (f, e) and (e, f)."""
    widths = [shape for shape in others if isinstance(shape, Sequence) and len(shape) == 2]
    hidden = widths[-1][-1]  # the last matrix leads back: embed_dim by hidden
    hidden_flops = 4 * prod(source[:-1]) * embed_dim * int(hidden)
    return packed_attention_flops(source, source, embed_dim) + hidden_flops


def multi_head_flops(
    query: Shape, key: Shape, value: Shape, embed_dim: int, *others: Any, **named: Any
) -> int:
    """As `packed_attention_flops`."""
    return packed_attention_flops(query, key, embed_dim)


def bilinear_flops(first: Shape, weight: Shape, second: Shape, *dimensions: Any, **named: Any) -> int:
    """xᵀWy for each output: W times y first, 2·n·o·i·j, then x times that, 2·n·o·i.

    dimensions: those that each of the three is expanded by, then those that are summed over

    >>> bilinear_flops((1, 5), (7, 5, 6), (1, 6), (1, 3), (0,), (1, 2), (2, 3))
    490
    """
    *expansions, sumdim = dimensions[:4]
    sizes = [1] * (len(first) + len(expansions[0]))
    for shape, expand in zip((first, weight, second), expansions, strict=True):
        given = iter(shape)
        for place in range(len(sizes)):
            size = 1 if place in expand else next(given)
            sizes[place] = max(sizes[place], size)
    last = sizes[max(sumdim)] if len(sumdim) else 1
    return 2 * prod(sizes) + 2 * prod(sizes) // last


def recurrent_layer_flops(
    inputs: Shape, weight_input: Shape, weight_hidden: Shape, *others: Any, **named: Any
) -> int:
    """One direction of one layer: every step of every sequence meets both matrices.

    >>> recurrent_layer_flops((5, 1, 10), (80, 10), (80, 20))
    24000
    """
    return 2 * prod(inputs[:-1]) * (prod(weight_input) + prod(weight_hidden))


def recurrent_stack_flops(inputs: Shape, weights: Sequence[Shape], *others: Any, **named: Any) -> int:
    """All layers and directions: 2 for each step of each sequence and element of a matrix."""
    return 2 * prod(inputs[:-1]) * sum(prod(shape) for shape in weights if len(shape) == 2)


def vector_flops(matrix: Shape, vector: Shape, *others: Any, **named: Any) -> int:
    """A matrix, or another vector, times a vector."""
    return 2 * prod(matrix)


def added_vector_flops(added: Shape, matrix: Shape, vector: Shape, *others: Any, **named: Any) -> int:
    """As `vector_flops`."""
    return 2 * prod(matrix)


def batched_flops(added: Shape, first: Shape, second: Shape, *others: Any, **named: Any) -> int:
    """Matrices (b, n, m) and (b, m, p), or one of each."""
    return 2 * prod(first) * second[-1]


def product_flops(first: Shape, second: Shape, *others: Any, **named: Any) -> int:
    """Matrices (n, m) and (m, p)."""
    return 2 * prod(first) * second[-1]


def transposed_product_flops(first: Shape, second: Shape, *others: Any, **named: Any) -> int:
    """Rows (..., m) times a weight (p, m)."""
    return 2 * prod(first) * second[0]


FORMULAS: Mapping[Any, Callable[..., int]] = {
    aten._scaled_dot_product_flash_attention_for_cpu: attention_flops,
    aten._scaled_dot_product_fused_attention_overrideable: attention_flops,
    aten._transformer_encoder_layer_fwd: encoder_layer_flops,
    aten._native_multi_head_attention: multi_head_flops,
    aten._trilinear: bilinear_flops,
    aten.mkldnn_rnn_layer: recurrent_layer_flops,
    aten._cudnn_rnn: recurrent_stack_flops,
    aten.mv: vector_flops,
    aten.dot: vector_flops,
    aten.vdot: vector_flops,
    aten.addmv: added_vector_flops,
    aten.addbmm: batched_flops,
    aten._addmm_activation: batched_flops,
    aten._int_mm: product_flops,
    aten._weight_int8pack_mm: transposed_product_flops,
}


@contextmanager
def counter() -> Iterator[Any]:
    """torch's counter with these formulas, and with attention in parts that it sees."""
    from torch.utils.flop_counter import FlopCounterMode

    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with FlopCounterMode(display=False, custom_mapping=dict(FORMULAS)) as counter:
            yield counter
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
