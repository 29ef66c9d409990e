"""Dense tensors without loss: sign, exponent and mantissa of floating-point numbers in planes of their own.

The sign and the low bits of a mantissa are noise that nothing shortens. The exponent and the next bits of
the mantissa make a symbol of eight bits, of which few are common: weights of one layer are of one size. Each
row (output) and each column (input) has an exponent of its own, which is taken off first, so that what is
left is alike everywhere; Huffman codes that adapt along the tensor shorten it.

    1 byte    1: rows have an exponent, 2: columns have one
    streams   those exponents, one signed byte each
    blocks    of 262,144 elements or whole rows: 4 bytes of length, 1 byte of form, and
        WORDS   the bytes as they are
        PLANES  a stream for each byte of a word, the lowest first
        FLOATS  2 bytes, the lowest exponent of the window; streams of symbols, of the words outside the
                window (symbol 0; a stream for each byte), and of the low bits with the sign below them

Any type of any shape comes back bit for bit: NaN payloads, negative zeros and subnormal numbers too.
"""

import struct

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from compression.codec.context_model import entropy_bits
from compression.codec.streams import in_threads, narrow, stream_of
from compression.codec.words import (
    COLUMNS,
    FLOATS,
    PLANES,
    ROWS,
    SYMBOLS,
    WORDS,
    Grid,
    Layout,
    Scales,
    Words,
    are_many,
    layout_of,
    signs_lowest,
    words_of,
)

SAMPLE = 2**16  # words by which it is decided which exponents are taken off
SCALE_BITS = 4  # what the exponent of a row or column takes, about
FARTHEST = 120  # from the others, of an exponent
LOOKED_AT = 2048  # elements of a row or column for its mean


def pack(tensor: Tensor) -> bytes:
    """A tensor in as few bytes as its exponents allow; `unpack` is given its type and shape."""
    layout, words = layout_of(tensor.dtype), words_of(tensor)
    grid = Grid.of(tensor.shape, len(words) // max(1, tensor.numel()))
    scales = scales_of(words, grid, layout) if grid.rows > 1 and layout.exponent else Scales()
    blocks = [b""] * grid.blocks

    def work(index: int) -> None:
        part = grid.block(index)
        own = _floats(words[part], layout, grid, part, scales) if layout.exponent else _planes(words[part])
        best = own if len(own) <= words[part].nbytes else _words(words[part])
        blocks[index] = struct.pack("<I", len(best)) + best

    in_threads(work, grid.blocks)
    if all(block[4] == WORDS for block in blocks):
        scales = Scales()
    flags = ROWS * (scales.rows is not None) + COLUMNS * (scales.columns is not None)
    streams = [stream_of(part.view(np.uint8)) for part in (scales.rows, scales.columns) if part is not None]
    return b"".join([bytes([flags]), *streams, *blocks])


def _words(words: Words) -> bytes:
    return bytes([WORDS]) + words.astype(words.dtype.newbyteorder("<")).tobytes()


def _planes(words: Words) -> bytes:
    return bytes([PLANES]) + b"".join(_byte_planes(words, words.itemsize))


def _byte_planes(words: Words, count: int) -> list[bytes]:
    kind = words.dtype.type
    return [stream_of((words >> kind(8 * byte)).astype(np.uint8)) for byte in range(count)]


def _floats(words: Words, layout: Layout, grid: Grid, part: slice, scales: Scales) -> bytes:
    kind, rotated = layout.word.type, signs_lowest(words, layout)
    scales.apply(rotated, grid, part, layout, off=True)
    base = _window(rotated[words << kind(1) != 0] >> kind(layout.mantissa + 1), layout)
    rotated -= kind(base) << kind(layout.mantissa + 1)
    symbols = rotated >> kind(layout.rest)
    outside = (symbols >= SYMBOLS) | (symbols == 0)
    places = np.flatnonzero(outside)
    symbols[places] = 0
    rotated &= kind(2**layout.rest - 1)
    rest = rotated[~outside] if are_many(len(places), len(words)) else rotated
    streams = [stream_of(symbols.astype(np.uint8))]
    if len(places):
        streams += _byte_planes(words[places], words.itemsize)
    streams += _byte_planes(rest, layout.rest // 8)
    if width := layout.rest % 8:
        streams.append(stream_of(narrow(rest >> kind(layout.rest - width), width)))
    return bytes([FLOATS]) + struct.pack("<H", base) + b"".join(streams)


def _window(exponents: Words, layout: Layout) -> int:
    """The lowest exponent of the window that holds most, zeros aside; from the highest it goes on at 0."""
    counts = np.bincount(exponents.astype(np.int64), minlength=2**layout.exponent)
    sums = np.cumsum(np.concatenate([[0], counts, counts[: layout.window]]))
    return int((sums[layout.window :][: len(counts)] - sums[: len(counts)]).argmax())


def scales_of(words: Words, grid: Grid, layout: Layout) -> Scales:
    """The exponents of rows, of columns, of both or none: what makes a sample's symbols cheapest."""
    rows, columns = _means(words.reshape(grid.rows, grid.columns), layout)
    chosen = np.arange(0, grid.rows, max(1, len(words) // SAMPLE))
    sample = words.reshape(grid.rows, grid.columns)[chosen].reshape(-1)
    choices = [Scales(), Scales(rows, None), Scales(None, columns), Scales(rows, columns)]
    costs = []
    for scales in choices:
        part = Scales(None if scales.rows is None else scales.rows[chosen], scales.columns)
        rotated = signs_lowest(sample, layout)
        part.apply(rotated, grid, slice(0, len(sample)), layout, off=True)
        counts = np.bincount((rotated >> layout.word.type(layout.rest)).astype(np.int64))
        sides = sum(len(part) for part in (scales.rows, scales.columns) if part is not None)
        costs.append(entropy_bits(counts) * len(words) / len(sample) + SCALE_BITS * sides)
    return choices[int(np.argmin(costs))]


def _means(table: Words, layout: Layout) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Mean exponents of rows and columns as distances from the mean of all; of a sample each."""
    across, down = (max(1, size // LOOKED_AT) for size in reversed(table.shape))
    rows = _mean_exponents(table[:, ::across], layout, np.zeros(1))
    middle = float(np.median(rows))
    rows = np.rint(np.clip(rows - middle, -FARTHEST, FARTHEST))
    columns = _mean_exponents(table[::down].T, layout, rows[::down] + middle)
    columns = np.rint(np.clip(columns, -FARTHEST, FARTHEST))
    return rows.astype(np.int8), columns.astype(np.int8)


def _mean_exponents(table: Words, layout: Layout, taken: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each row's numbers that are not subnormal, less what is taken off each column; 0 where none is."""
    by, most = layout.word.type(layout.mantissa), layout.word.type(2**layout.exponent - 1)
    exponents = ((table >> by) & most).astype(np.float32)
    some = exponents > 0
    sums = np.where(some, exponents - taken, 0).sum(1, dtype=np.float64)
    return np.asarray(sums / np.maximum(some.sum(1), 1))
