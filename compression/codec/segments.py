"""The coded words of a file: one stream, which begins anew behind each tensor whose rows' order holds bytes.

What follows such a tensor is known before its order is chosen, so that a file is written from its end on.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from compression.codec.context_model import BitCounter, Coder, Encoder, Rows, code_matrix
from compression.codec.records import (
    CODED,
    Context,
    Kind,
    TensorEncoding,
    bit_patterns,
    nonzero,
    symbols_of,
    varint,
)
from compression.codec.row_orders import written_order


@dataclass(frozen=True)
class _Matrix:
    """The symbols of a tensor that is coded, and which of its columns read from living units."""

    plan: TensorEncoding
    shape: tuple[int, int]
    symbols: NDArray[Any] | Rows
    alive: NDArray[np.int64]

    def code(self, coder: Coder) -> None:
        """Code it as it is."""
        code_matrix(coder, self.shape, self.plan.signs, self.alive, self.plan.traits, self.symbols)

    def holding(self, payload: bytes) -> "_Matrix":
        """The same with its rows, which are at hand, in the order that holds these bytes."""
        assert not callable(self.symbols)
        return replace(self, symbols=self.symbols[written_order(self.symbols, payload)])


def coded_words(tensors: Mapping[str, Tensor], plans: Sequence[TensorEncoding]) -> bytes:
    """All tensors that are worth it, coded."""
    if not any(plan.rows for plan in plans):
        coder = _coder(matrix for _, matrix in _matrices(tensors, plans))
        return coder.words().astype("<u4").tobytes()
    segments: list[list[_Matrix]] = [[]]
    for _, matrix in _matrices(tensors, plans):
        segments[-1].append(matrix)
        if matrix.plan.rows:
            segments.append([])
    rest = _coder(segments.pop()).shortest()
    for *before, last in reversed(segments):
        size = last.plan.free_bytes
        stream = _coder([*before, last.holding(rest[:size].ljust(size, b"\0"))]).shortest()
        rest = varint(len(stream)) + stream + rest[size:]
    return rest


def metered(tensors: Mapping[str, Tensor], plans: Sequence[TensorEncoding]) -> list[BitCounter]:
    """What each tensor would cost, coded; where the order of rows is free, in the one that they have."""
    meters = [BitCounter() for _ in plans]
    for place, matrix in _matrices(tensors, plans):
        matrix.code(meters[place])
    return meters


def saved_bytes(plans: Sequence[TensorEncoding], meters: Sequence[BitCounter]) -> list[float]:
    """Bytes that the order of each tensor's rows holds: no more than follow."""
    rest, saved = 0.0, list[float]()
    for plan, meter in zip(reversed(plans), reversed(meters), strict=True):
        saved.append(min(rest, plan.free_bytes))
        rest += (meter.position_bits + meter.symbol_bits) / 8 - saved[-1]
    return saved[::-1]


def _coder(matrices: Iterable[_Matrix]) -> Encoder:
    coder = Encoder()
    for matrix in matrices:
        matrix.code(coder)
    return coder


def _matrices(
    tensors: Mapping[str, Tensor], plans: Sequence[TensorEncoding]
) -> Iterator[tuple[int, _Matrix]]:
    """What is coded of the tensors, in order, and their places."""
    context = Context()
    for place, (tensor, plan) in enumerate(zip(tensors.values(), plans, strict=True)):
        if plan.kind in CODED:
            patterns = bit_patterns(tensor)
            assert patterns is not None
            layout = plan.matrix(tensor)
            yield place, _Matrix(plan, layout.shape, _symbols(tensor, plan, patterns), context.alive(layout))
            context.see(tensor, nonzero(patterns, tensor))
        elif plan.kind is Kind.ZERO:
            context.see(tensor, np.zeros(tensor.numel(), dtype=bool))


def _symbols(tensor: Tensor, plan: TensorEncoding, patterns: NDArray[Any]) -> NDArray[Any] | Rows:
    """The symbols of a tensor, of many rows those that are asked for."""
    layout = plan.matrix(tensor)
    if layout.folds > 1 or plan.rows:
        return layout.laid_out(symbols_of(patterns[: layout.elements_in_all], plan, tensor))

    def make(start: int, stop: int) -> NDArray[Any]:
        part = patterns[start * layout.columns : stop * layout.columns]
        return symbols_of(part, plan, tensor).reshape(-1, layout.columns)

    return make
