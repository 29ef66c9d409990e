"""Adaptive models of sparse, shared weights: where the non-zero weights are, and which value each has.

A weight is coded as a matrix, outputs by inputs, in tiles that grow from a single element on. What a tile
costs is predicted from the tiles before it: how dense the tensor is, and how much denser each row and each
column are than that. The decoder makes the very same predictions, so that no table is stored. They use
integers and the four operations that IEEE 754 defines exactly, and nothing that differs between machines.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]
Floats = NDArray[np.float64]
SMALLEST = 2.0**-16  # of any probability; the coder has 24 bits
STRENGTH = 1.0  # non-zero weights' worth of trust in a row or column being like the others
FIXED = 2.0**24  # sums of probabilities are taken in integers, which no order of addition changes


class Coder(Protocol):
    """One side of the file: takes values and gives them back (encoder), or gives what it reads (decoder)."""

    def flags(self, values: Ints | None, probabilities: Floats) -> Ints:
        """Zeros and ones, each with its own probability of being one."""

    def symbols(self, values: Ints | None, count: int, weights: Floats) -> Ints:
        """`count` symbols of one alphabet, likely in proportion to `weights`."""


class Encoder:
    """Writes; gives back what it was given."""

    def __init__(self) -> None:
        from constriction import stream

        self.coder = stream.queue.RangeEncoder()
        self.flag = stream.model.Bernoulli(perfect=False)
        self.categorical = stream.model.Categorical

    def flags(self, values: Ints | None, probabilities: Floats) -> Ints:
        assert values is not None
        self.coder.encode(values, self.flag, probabilities)
        return values

    def symbols(self, values: Ints | None, count: int, weights: Floats) -> Ints:
        assert values is not None
        self.coder.encode(values, self.categorical(weights / weights.sum(), perfect=False))
        return values

    def words(self) -> NDArray[np.uint32]:
        """What was written."""
        return np.asarray(self.coder.get_compressed(), dtype=np.uint32)


class Decoder:
    """Reads what an Encoder wrote."""

    def __init__(self, words: NDArray[np.uint32]) -> None:
        from constriction import stream

        self.coder = stream.queue.RangeDecoder(words)
        self.flag = stream.model.Bernoulli(perfect=False)
        self.categorical = stream.model.Categorical

    def flags(self, values: Ints | None, probabilities: Floats) -> Ints:
        return np.asarray(self.coder.decode(self.flag, probabilities), dtype=np.int32)

    def symbols(self, values: Ints | None, count: int, weights: Floats) -> Ints:
        model = self.categorical(weights / weights.sum(), perfect=False)
        return np.asarray(self.coder.decode(model, count), dtype=np.int32)


class Meter:
    """Writes nothing, and adds up how many bits an Encoder would write."""

    def __init__(self) -> None:
        self.position_bits = 0.0
        self.symbol_bits = 0.0

    def flags(self, values: Ints | None, probabilities: Floats) -> Ints:
        assert values is not None
        self.position_bits -= float(np.log2(np.where(values, probabilities, 1 - probabilities)).sum())
        return values

    def symbols(self, values: Ints | None, count: int, weights: Floats) -> Ints:
        assert values is not None
        self.symbol_bits -= float(np.log2((weights / weights.sum())[values]).sum())
        return values


def code_matrix(
    coder: Coder, shape: tuple[int, int], letters: int, alive: NDArray[np.int64], values: Ints | None
) -> Ints:
    """Code a matrix of symbols, 0 for a zero weight and 1 to `letters` for the values of a code book.

    Parameters
    ----------
    coder: an Encoder or Meter, which are given `values`, or a Decoder, which is given none
    shape: rows and columns
    alive: per column, 1 if the unit it reads from has any weight of its own, else 0; a guess does no harm

    Returns the symbols, of that shape.
    """
    model = _Model(shape, letters, alive)
    found = np.zeros(shape, dtype=np.int32) if values is None else values
    for rows, columns in _tiles(shape):
        tile = None if values is None else np.ascontiguousarray(values[rows, columns])
        found[rows, columns] = model.code(coder, rows, columns, tile)
    return found


def _bands(length: int) -> list[int]:
    """Where bands begin, and the end: an eighth longer each time.

    >>> _bands(12)
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
    >>> len(_bands(25088))
    82
    """
    edges = [0]
    while edges[-1] < length:
        edges.append(min(length, edges[-1] + max(1, edges[-1] // 8)))
    return edges


def _tiles(shape: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    rows, columns = _bands(shape[0]), _bands(shape[1])
    for top, bottom in pairwise(rows):
        for left, right in pairwise(columns):
            yield slice(top, bottom), slice(left, right)


def _fixed(values: Any) -> Any:
    """Probabilities as integers, to be summed exactly."""
    return np.rint(values * FIXED).astype(np.int64)


class _Model:
    """What is known of a matrix from the tiles coded so far."""

    def __init__(self, shape: tuple[int, int], letters: int, alive: NDArray[np.int64]) -> None:
        rows, columns = shape
        self.alive = alive
        self.ones, self.seen = np.zeros(2, np.int64), np.zeros(2, np.int64)  # dead columns, living ones
        self.in_row, self.in_column = np.zeros(rows, np.int64), np.zeros(columns, np.int64)
        self.due_in_row, self.due_in_column = np.zeros(rows, np.int64), np.zeros(columns, np.int64)
        self.letters = np.zeros(letters, np.int64)

    def code(self, coder: Coder, rows: slice, columns: slice, tile: Ints | None) -> Ints:
        density = self._density()[self.alive[columns]]
        row = (STRENGTH + self.in_row[rows]) / (STRENGTH + self.due_in_row[rows] / FIXED)
        column = (STRENGTH + self.in_column[columns]) / (STRENGTH + self.due_in_column[columns] / FIXED)
        odds = (density / (1 - density) * column) * row[:, None]
        shape = odds.shape
        probabilities = np.clip(odds / (1 + odds), SMALLEST, 1 - SMALLEST).reshape(-1)
        given = None if tile is None else (tile != 0).astype(np.int32).reshape(-1)
        flags = coder.flags(given, probabilities).reshape(shape)
        self._learn(rows, columns, flags, density * column, density, row)
        found = np.zeros(shape, np.int32) if tile is None else tile
        where = flags != 0
        values = None if tile is None else np.ascontiguousarray(tile[where] - 1)
        symbols = self._symbols(coder, int(flags.sum()), values)
        if tile is None:
            found[where] = symbols + 1
        return found

    def _density(self) -> Floats:
        """Of columns that read from a dead unit, and of the others; 1 of 16 is the guess at first."""
        together = (self.ones.sum() + 0.5) / (self.seen.sum() + 8.0)
        return (self.ones + 2.0 * together) / (self.seen + 2.0)

    def _learn(
        self, rows: slice, columns: slice, flags: Ints, by_column: Floats, density: Floats, row: Floats
    ) -> None:
        self.in_row[rows] += flags.sum(1)
        self.in_column[columns] += flags.sum(0)
        self.due_in_row[rows] += int(_fixed(by_column).sum())
        self.due_in_column[columns] += _fixed(density * (int(_fixed(row).sum()) / FIXED))
        counts = flags.sum(0)
        for kind in (0, 1):
            chosen = self.alive[columns] == kind
            self.ones[kind] += int(counts[chosen].sum())
            self.seen[kind] += int(chosen.sum()) * len(flags)

    def _symbols(self, coder: Coder, count: int, values: Ints | None) -> Ints:
        if len(self.letters) == 1 or count == 0:
            return np.zeros(count, np.int32)
        done = []
        for start in range(0, count, 65_536):
            size = min(65_536, count - start)
            part = None if values is None else values[start : start + size]
            found = coder.symbols(part, size, np.asarray(self.letters + 0.5))
            self.letters += np.bincount(found, minlength=len(self.letters))
            done.append(found)
        return np.concatenate(done)
