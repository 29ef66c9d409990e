"""Numbers as words: the bits of each type, rows and columns of a tensor, and the exponents these have."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Words = NDArray[Any]
BLOCK = 2**18  # elements
ROWS, COLUMNS = 1, 2
WORDS, PLANES, FLOATS = 0, 1, 2  # forms of a block
SYMBOLS = 256
REAL = {torch.complex32: torch.float16, torch.complex64: torch.float32, torch.complex128: torch.float64}


@dataclass(frozen=True)
class Layout:
    """Bits of a number: so many of exponent, of mantissa, and of that mantissa in the symbol."""

    bits: int
    exponent: int = 0
    mantissa: int = 0
    symbol: int = 0

    @property
    def rest(self) -> int:
        """Low bits of the mantissa, and the sign."""
        return self.mantissa - self.symbol + 1

    @property
    def window(self) -> int:
        """Exponents that have symbols."""
        return SYMBOLS >> self.symbol

    @property
    def word(self) -> np.dtype[Any]:
        return np.dtype(f"u{self.bits // 8}")


LAYOUTS = {
    torch.float32: Layout(32, 8, 23, 4),
    torch.float64: Layout(64, 11, 52, 4),
    torch.float16: Layout(16, 5, 10, 3),
    torch.bfloat16: Layout(16, 8, 7, 4),
}


def layout_of(dtype: torch.dtype) -> Layout:
    """The bits of a type, complex ones by their parts; of what is no float only how many."""
    dtype = REAL.get(dtype, dtype)
    return LAYOUTS.get(dtype) or Layout(8 * dtype.itemsize)


@dataclass(frozen=True)
class Grid:
    """A tensor as rows of words; where it has no such rows it is one."""

    rows: int
    columns: int

    @classmethod
    def of(cls, shape: Sequence[int], parts: int = 1) -> "Grid":
        """Outputs by inputs, each element of so many words.

        >>> Grid.of((16, 3, 5, 5)), Grid.of((7,)), Grid.of((0, 4))
        (Grid(rows=16, columns=75), Grid(rows=1, columns=7), Grid(rows=1, columns=0))
        """
        count = parts
        for size in shape:
            count *= size
        rows = shape[0] if len(shape) > 1 and count else 1
        return cls(rows, count // rows) if 8 <= count // rows <= BLOCK and rows >= 8 else cls(1, count)

    @property
    def step(self) -> int:
        """Words of a block: whole rows if there are several."""
        return BLOCK if self.rows == 1 else max(1, BLOCK // self.columns) * self.columns

    @property
    def blocks(self) -> int:
        return -(-self.rows * self.columns // self.step)

    def block(self, index: int) -> slice:
        return slice(index * self.step, min((index + 1) * self.step, self.rows * self.columns))


@dataclass(frozen=True)
class Scales:
    """Exponents of rows and columns that are taken off; None for none."""

    rows: NDArray[np.int8] | None = None
    columns: NDArray[np.int8] | None = None

    def apply(self, words: Words, grid: Grid, block: slice, layout: Layout, *, off: bool) -> None:
        """Take them off the words of a block, whose signs are lowest, or put them on again; in place."""
        change = np.subtract if off else np.add
        table = words.reshape(-1, grid.columns) if grid.rows > 1 else words.reshape(1, -1)
        by = layout.word.type(layout.mantissa + 1)
        if self.columns is not None:
            change(table, self.columns.astype(layout.word) << by, out=table)
        if self.rows is not None:
            part = self.rows[block.start // grid.columns : block.start // grid.columns + len(table)]
            change(table, (part.astype(layout.word) << by)[:, None], out=table)


def are_many(outside: int, words: int) -> bool:
    """Whether so many of a block's words lie outside the window that their low bits are left out."""
    return 8 * outside > words


def words_of(tensor: Tensor) -> Words:
    """The bits of a tensor's elements, or of their real and imaginary parts, in order."""
    if not tensor.numel():  # whose strides may be such that no view is possible
        return np.empty(0, dtype=layout_of(tensor.dtype).word)
    flat = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().view(layout_of(tensor.dtype).word)


def tensor_of(words: Words, dtype: torch.dtype, shape: Sequence[int]) -> Tensor:
    """The tensor that `words_of` was given; the memory stays the same."""
    if not len(words):
        return torch.empty(tuple(shape), dtype=dtype)
    return torch.from_numpy(words.view(np.uint8)).view(dtype).reshape(tuple(shape))


def signs_lowest(words: Words, layout: Layout) -> Words:
    """Words with their highest bit moved below all others."""
    one = layout.word.type(1)
    return np.asarray((words << one) | (words >> layout.word.type(layout.bits - 1)))


def signs_highest(words: Words, layout: Layout) -> Words:
    """What `signs_lowest` was given."""
    one = layout.word.type(1)
    return np.asarray((words >> one) | (words << layout.word.type(layout.bits - 1)))
