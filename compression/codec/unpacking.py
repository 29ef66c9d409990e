"""Packed tensors back, bit for bit; nothing they say is believed before it is checked."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from compression.codec.streams import MOST_RATIO, Cursor, in_threads, widened
from compression.codec.words import (
    COLUMNS,
    FLOATS,
    PLANES,
    REAL,
    ROWS,
    WORDS,
    Grid,
    Layout,
    Scales,
    Words,
    are_many,
    layout_of,
    signs_highest,
    tensor_of,
)


def unpack(content: memoryview, dtype: torch.dtype, shape: Sequence[int]) -> Tensor:
    """The tensor that `pack` was given.

    Raises ValueError where the bytes make no sense; what is allocated is at most 1,032 times their number.
    """
    cursor = Cursor(content)
    reader = _Reader(cursor, dtype, shape)
    cursor.end()
    return reader.tensor()


class _Reader:
    """The blocks of one tensor, found in a file before anything is allocated for them."""

    def __init__(self, cursor: Cursor, dtype: torch.dtype, shape: Sequence[int]) -> None:
        self.dtype, self.shape, self.layout = dtype, shape, layout_of(dtype)
        self.grid = Grid.of(shape, 2 if dtype in REAL else 1)
        size = self.grid.rows * self.grid.columns * self.layout.word.itemsize
        if size > MOST_RATIO * len(cursor.content):
            raise ValueError(f"{len(cursor.content)} bytes cannot hold {tuple(shape)} of {dtype}")
        flags = cursor.number("B")
        if flags and (flags > ROWS + COLUMNS or self.grid.rows == 1 or not self.layout.exponent):
            raise ValueError(f"rows and columns are said to have exponents ({flags})")
        rows = cursor.stream(self.grid.rows).view(np.int8) if flags & ROWS else None
        columns = cursor.stream(self.grid.columns).view(np.int8) if flags & COLUMNS else None
        self.scales = Scales(rows, columns)
        self.blocks = [cursor.take(cursor.number("I")) for _ in range(self.grid.blocks)]

    def tensor(self) -> Tensor:
        """All blocks, each in its place."""
        words = np.empty(self.grid.rows * self.grid.columns, dtype=self.layout.word)

        def work(index: int) -> None:
            part = self.grid.block(index)
            cursor = Cursor(self.blocks[index])
            form, into = cursor.number("B"), words[part]
            if form == WORDS:
                content = cursor.take(into.nbytes)
                into[:] = np.frombuffer(content, dtype=into.dtype.newbyteorder("<"))
            elif form == PLANES:
                into[:] = _byte_planes(cursor, len(into), self.layout, self.layout.bits // 8)
            elif form == FLOATS and self.layout.exponent:
                self._floats(cursor, into, part)
            else:
                raise ValueError(f"a block of form {form}")
            cursor.end()

        in_threads(work, self.grid.blocks)
        return tensor_of(words, self.dtype, self.shape)

    def _floats(self, cursor: Cursor, into: Words, part: slice) -> None:
        layout, kind = self.layout, self.layout.word.type
        base = cursor.number("H")
        if base >= 2**layout.exponent:
            raise ValueError(f"an exponent of {base}")
        symbols = cursor.stream(len(into))
        outside = np.flatnonzero(symbols == 0)
        words = _byte_planes(cursor, len(outside), layout, layout.bits // 8) if len(outside) else None
        rotated = symbols.astype(layout.word)
        rotated <<= kind(layout.rest)
        if are_many(len(outside), len(into)):
            rotated[symbols != 0] |= self._rest(cursor, len(into) - len(outside))
        else:
            rotated |= self._rest(cursor, len(into))
        rotated += kind(base) << kind(layout.mantissa + 1)
        self.scales.apply(rotated, self.grid, part, layout, off=False)
        into[:] = signs_highest(rotated, layout)
        if words is not None:
            into[outside] = words

    def _rest(self, cursor: Cursor, count: int) -> Words:
        """The low bits of so many words."""
        layout, width = self.layout, self.layout.rest % 8
        rest = _byte_planes(cursor, count, layout, layout.rest // 8)
        if width:
            packed = cursor.stream(-(-count // (8 // width)))
            high = widened(packed, count, width).astype(layout.word)
            high <<= layout.word.type(layout.rest - width)
            rest |= high
        return rest


def _byte_planes(cursor: Cursor, count: int, layout: Layout, planes: int) -> Words:
    """Words of which so many low bytes are streams."""
    words = np.zeros(count, dtype=layout.word)
    for byte in range(planes):
        plane = cursor.stream(count)
        words |= plane.astype(layout.word) << layout.word.type(8 * byte) if byte else plane
    return words
