"""The loops of the context model compiled by numba, where it is installed (the extra [fast]): the same bits.

Each kernel does with one element what `context_model` does with arrays of them, in the same order of the
same operations; sums are of integers. No operation is contracted or reordered: numba's fastmath stays off.
The matrix is turned, so that the rows that one step codes lie beside each other; the loops over them begin
at zero, call nothing and write to one array each, which a compiler makes vector instructions of.
"""

import functools
from types import SimpleNamespace
from typing import Any

import numpy as np

FIXED = 2.0**24  # sums of probabilities are taken in integers, which no order of addition changes
SMALLEST_MATRIX = 8_000_000  # elements from which loading the compiled kernels, a second or two, is paid back
TILE = 64  # rows and columns that are turned at once
SYMBOLS = (np.uint8, np.uint16)


def kernels_for(elements: int, *, wide: bool = False) -> SimpleNamespace | None:
    """The kernels where they pay for so many elements, for few once they are loaded; else None."""
    loaded = kernels.cache_info().currsize > 0
    return kernels(wide=wide) if loaded or elements >= SMALLEST_MATRIX else None


@functools.cache
def kernels(*, wide: bool = False) -> SimpleNamespace | None:
    """The functions below by name, without the line that each begins with, compiled; None where numba cannot.

    For symbols of eight bits, or of sixteen, which few files have. They are kept beside the code for the next
    process, or where numba can, or not at all.
    """
    try:
        import numba
    except Exception:  # not installed, or not for this release of NumPy
        return None
    if getattr(numba.config, "DISABLE_JIT", False):
        return None
    for cached in (True, False):
        try:
            compile_ = numba.njit(nogil=True, error_model="numpy", cache=cached)
            compiled = SimpleNamespace(**{each.__name__[1:]: compile_(each) for each in KERNELS})
            _call(compiled, SYMBOLS[wide])
        except (OSError, RuntimeError):  # no folder to keep them in, or a full one
            continue
        except Exception:  # whatever a compiler stumbles over
            return None
        return compiled
    return None


def _call(compiled: SimpleNamespace, kind: type) -> None:
    """Call the kernels with arguments of the kinds that they are given, as they are compiled then."""

    def integers(*shape: int) -> Any:
        return np.zeros(shape, np.int64)

    span, sums = (0, 1, 0, 0, 1), (integers(2, 1), integers(2, 1), integers(2, 4), integers(2, 2))
    flags, letters, numbers = np.zeros(1, np.int32), integers(3, 1), np.zeros(1)
    values: Any = np.zeros((2, 1), kind)
    matrix = (values, np.arange(2), integers(1))
    compiled.turn(values[1:], values[1:], 0)
    priors = (1.0, 1.0, 0.5, 1.0, 1.0)
    compiled.expect(span, matrix, sums, priors, numbers)
    compiled.predict(span, matrix, sums, priors, (numbers, flags))
    compiled.learn(span, matrix, sums, (flags, integers(1)), (integers(3, 1), integers(3)))
    compiled.read(values.reshape(-1), integers(3, 1)[0], flags, letters[0])
    compiled.write(values.reshape(-1), integers(3, 1)[0], flags, letters[0])
    compiled.look_up(np.ones(1, np.uint32), np.uint32(0), np.ones(1, np.uint32), integers(1), values[0])
    compiled.weigh(letters, 0, 1, numbers)
    compiled.pairs(np.zeros((1, 2), np.bool_), integers(2))


def _turn(matrix: Any, turned: Any, first_row: int) -> None:
    """Write a matrix with its columns as rows, from the one of this number on, tile by tile."""
    rows, columns = matrix.shape
    for top in range(0, rows, TILE):
        for first in range(0, columns, TILE):
            for c in range(first, min(first + TILE, columns)):
                for r in range(top, min(top + TILE, rows)):
                    turned[c, first_row + r] = matrix[r, c]


def _expect(span: Any, matrix: Any, sums: Any, priors: Any, odds: Any) -> None:
    """Odds of the elements of one step by their rows and columns; adds up what was due by them.

    Parameters
    ----------
    span: first band, band after the last, step, stride, rows of zeros above the turned matrix
    matrix: values, turned; where bands begin, and the end; columns that live
    sums: (2, n) of rows, of columns and of neighbours, non-zero elements and those that were due; (2, 2),
        non-zero and all elements of dead and living columns
    priors: of rows, of columns, smallest probability, 2^-24, trust in neighbours
    """
    _, starts, alive = matrix
    rows, columns, _, totals = sums
    row_prior, column_prior, _, unit, _ = priors
    top, bottom, step, _, _ = span
    together = (totals[0, 0] + totals[0, 1] + 0.5) / (totals[1, 0] + totals[1, 1] + 8.0)
    dead = (totals[0, 0] + 2.0 * together) / (totals[1, 0] + 2.0)
    living = (totals[0, 1] + 2.0 * together) / (totals[1, 1] + 2.0)
    for b in range(top, bottom):
        c, begin, end = step - b, starts[b], starts[b + 1]
        density = living if alive[c] == 1 else dead
        by_column = density * ((column_prior + columns[0, c]) / (column_prior + columns[1, c] * unit))
        odds_of_column = by_column / (1 - density)
        due_in_row, due_in_column = np.int64(np.rint(by_column * FIXED)), np.int64(0)
        ones, seen = rows[0, begin:end], rows[1, begin:end]
        likely = odds[begin - starts[top] : end - starts[top]]
        for i in range(end - begin):
            row = (row_prior + ones[i]) / (row_prior + seen[i] * unit)
            likely[i] = odds_of_column * row
            due_in_column += np.int64(np.rint(density * row * FIXED))
            seen[i] += due_in_row
        columns[1, c] += due_in_column


def _predict(span: Any, matrix: Any, sums: Any, priors: Any, out: Any) -> None:
    """Probabilities by the odds and by neighbours, and whether each element is not zero; as for `_expect`.

    out: of each element its odds, which become its probability, and whether it is not zero
    """
    values, starts, alive = matrix
    _, _, near, totals = sums
    _, _, smallest, unit, trust = priors
    top, bottom, step, stride, above = span
    nearby = (trust + near[0]) / (trust + near[1] * unit)
    by_none, by_left, by_up, by_both = nearby[0], nearby[1], nearby[2], nearby[3]
    due, due_left, due_up, due_both = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    for b in range(top, bottom):
        begin, end = starts[b], starts[b + 1]
        at, place = above + step - b, slice(begin - starts[top], end - starts[top])
        likely, flags = out[0][place], out[1][place]
        left, up = values[at - 1, begin:end], values[at - stride if stride else 0, begin:end]
        for i in range(end - begin):
            odds = likely[i]
            below, beside = (by_both if left[i] else by_up), (by_left if left[i] else by_none)
            weighed = odds * (below if up[i] else beside)
            likely[i] = max(min(weighed / (1 + weighed), 1 - smallest), smallest)
            share = np.int64(np.rint(odds / (1 + odds) * FIXED))
            due += share
            due_left += share if left[i] else 0
            due_up += share if up[i] else 0
            due_both += share if left[i] and up[i] else 0
        here = values[at, begin:end]
        for i in range(end - begin):
            flags[i] = 1 if here[i] else 0
        totals[1, alive[step - b]] += end - begin
    near[1, 0] += due - due_left - due_up + due_both
    near[1, 1] += due_left - due_both
    near[1, 2] += due_up - due_both
    near[1, 3] += due_both


def _learn(span: Any, matrix: Any, sums: Any, given: Any, survivors: Any) -> None:
    """Add up the elements of one step that are not zero; arguments as for `_expect`.

    Parameters
    ----------
    given: the flags that were coded, and the sign of each value
    survivors: (3, n), places of elements that are not zero by the sign of the value to their left; how many
    """
    values, starts, alive = matrix
    rows, columns, near, totals = sums
    flags, signs = given
    places, counts = survivors
    top, bottom, step, stride, above = span
    low = starts[top]
    counts[:] = 0
    for b in range(top, bottom):
        c, ones = step - b, 0
        at = above + c
        upper = at - stride if stride else 0
        for r in range(starts[b], starts[b + 1]):
            if flags[r - low]:
                left = values[at - 1, r]
                near[0, (1 if left else 0) + (2 if values[upper, r] else 0)] += 1
                rows[0, r] += 1
                ones += 1
                sign = signs[left]
                places[sign, counts[sign]] = at * rows.shape[1] + r
                counts[sign] += 1
        columns[0, c] += ones
        totals[0, alive[c]] += ones


def _weigh(letters: Any, kind: int, trust: int, probabilities: Any) -> None:
    """How likely each value is after one of this sign."""
    total, weights = 0, 0.0
    for n in range(letters.shape[1]):
        total += 2 * (letters[0, n] + letters[1, n] + letters[2, n]) + 1
    for n in range(letters.shape[1]):
        together = 2 * (letters[0, n] + letters[1, n] + letters[2, n]) + 1
        probabilities[n] = letters[kind, n] * 4096 + (trust * 4096 * together) // total + 1
        weights += probabilities[n]  # integers, of which no order of addition changes the sum
    for n in range(letters.shape[1]):
        probabilities[n] /= weights


def _read(values: Any, places: Any, symbols: Any, letters: Any) -> None:
    """The symbols at these places of the turned matrix; counts them."""
    for i in range(len(places)):
        symbols[i] = values[places[i]] - 1
        letters[symbols[i]] += 1


def _write(values: Any, places: Any, symbols: Any, letters: Any) -> None:
    """Put symbols at these places of the turned matrix; counts them."""
    for i in range(len(places)):
        values[places[i]] = symbols[i] + 1
        letters[symbols[i]] += 1


def _look_up(patterns: Any, zero: Any, book: Any, order: Any, symbols: Any) -> bool:
    """For each pattern 1 + its place in a code book, given in order; whether all are there.

    zero: a pattern that has no place there, as 0 has none
    """
    for i in range(len(patterns)):
        pattern = patterns[i]
        if pattern and pattern != zero:
            low, high = 0, len(book)
            while low < high:
                middle = (low + high) // 2
                if book[middle] < pattern:
                    low = middle + 1
                else:
                    high = middle
            if low == len(book) or book[low] != pattern:
                return False
            symbols[i] = order[low] + 1
    return True


def _pairs(mask: Any, counts: Any) -> None:
    """How many elements of a mask have another so many columns before them, for each distance."""
    rows, columns = mask.shape
    for r in range(rows):
        row = mask[r]
        for c in range(columns):
            if row[c]:
                for distance in range(2, min(len(counts), c + 1)):
                    counts[distance] += row[c - distance]


KERNELS = (_turn, _expect, _predict, _learn, _weigh, _read, _write, _look_up, _pairs)
