"""The loops of the context model compiled by numba, where it is installed (the extra [fast]): the same bits.

Each kernel does with one element what `context_model` does with arrays of them, in the same order of the
same operations; sums are of integers. No operation is contracted or reordered: numba's fastmath stays off.
"""

import functools
from typing import Any

import numpy as np

FIXED = 2.0**24  # sums of probabilities are taken in integers, which no order of addition changes
SMALLEST_MATRIX = 8_000_000  # elements from which loading the compiled kernels, a second or two, is paid back


def worth_it(elements: int) -> bool:
    """Whether compiled kernels code a matrix of so many elements here; small ones once they are loaded."""
    loaded = kernels.cache_info().currsize > 0
    return (loaded or elements >= SMALLEST_MATRIX) and kernels() is not None


@functools.cache
def kernels() -> tuple[Any, Any, Any] | None:
    """`_predict`, `_learn` and `_weigh`, compiled and called once; None where numba cannot.

    They are kept beside the code for the next process, or where numba can, or not at all.
    """
    try:
        import numba
    except Exception:  # not installed, or not for this release of NumPy
        return None
    if getattr(numba.config, "DISABLE_JIT", False):
        return None
    for cached in (True, False):
        try:
            compiled = [
                numba.njit(nogil=True, error_model="numpy", cache=cached)(kernel)
                for kernel in (_predict, _learn, _weigh)
            ]
            _call(*compiled)
        except (OSError, RuntimeError):  # no folder to keep them in, or a full one
            continue
        except Exception:  # whatever a compiler stumbles over
            return None
        return compiled[0], compiled[1], compiled[2]
    return None


def _call(predict: Any, learn: Any, weigh: Any) -> None:
    """Call the kernels with arguments of the kinds that they are given, as they are compiled then."""

    def integers(*shape: int) -> Any:
        return np.zeros(shape, np.int64)

    span, matrix = (0, 1, 0, 0), (np.zeros(1, np.int32), integers(1), np.arange(2), integers(1))
    sums = (integers(2, 1), integers(2, 1), integers(2, 4), integers(2, 2))
    flags, floats = np.zeros(1, np.int32), [np.zeros(1) for _ in range(4)]
    out = (*floats[:3], integers(1), integers(1), flags, floats[3])
    predict(span, matrix, sums, (1.0, 1.0, 0.5, 1.0, 1.0), out)
    learn(span, matrix, sums, out, (flags, integers(1)), (integers(3, 1), integers(3)))
    weigh(integers(3, 1), 0, 1, np.zeros(1))


def _predict(span: Any, matrix: Any, sums: Any, priors: Any, out: Any) -> None:
    """Probabilities of the elements of one step, and what `_learn` is to add up.

    Parameters
    ----------
    span: first band, band after the last, step, stride
    matrix: values; the place of each row at step 0; where bands begin, and the end; columns that live
    sums: (2, n) of rows, of columns and of neighbours, non-zero elements and those that were due; (2, 2),
        non-zero and all elements of dead and living columns
    priors: of rows, of columns, smallest probability, 2^-24, trust in neighbours
    out: of each element its probability, odds, what is due by its row, which neighbours are there, the value
        to its left, and whether it is not zero; of each band what is due by its column
    """
    values, first, starts, alive = matrix
    rows, columns, near, totals = sums
    probabilities, odds_of, by_rows, kinds, lefts, flags, by_columns = out
    row_prior, column_prior, smallest, unit, trust = priors
    top, bottom, step, stride = span
    together = (totals[0, 0] + totals[0, 1] + 0.5) / (totals[1, 0] + totals[1, 1] + 8.0)
    dead = (totals[0, 0] + 2.0 * together) / (totals[1, 0] + 2.0)
    living = (totals[0, 1] + 2.0 * together) / (totals[1, 1] + 2.0)
    nearby = (trust + near[0]) / (trust + near[1] * unit)
    low = starts[top]
    for b in range(top, bottom):
        c = step - b
        density = living if alive[c] == 1 else dead
        by_column = density * ((column_prior + columns[0, c]) / (column_prior + columns[1, c] * unit))
        by_columns[b] = by_column
        odds_of_column = by_column / (1 - density)
        for r in range(starts[b], starts[b + 1]):
            i, at = r - low, first[r] + step
            left = values[at - 1] if c > 0 else 0
            up = values[at - stride] if stride > 0 and c >= stride else 0
            kind = (1 if left != 0 else 0) + (2 if up != 0 else 0)
            row = (row_prior + rows[0, r]) / (row_prior + rows[1, r] * unit)
            odds = odds_of_column * row
            likely = odds * nearby[kind]
            probability = likely / (1 + likely)
            if probability < smallest:
                probability = smallest
            elif probability > 1 - smallest:
                probability = 1 - smallest
            probabilities[i], odds_of[i], by_rows[i] = probability, odds, density * row
            kinds[i], lefts[i], flags[i] = kind, left, 1 if values[at] != 0 else 0


def _learn(span: Any, matrix: Any, sums: Any, out: Any, given: Any, survivors: Any) -> None:
    """Add up what one step said; arguments as for `_predict`.

    Parameters
    ----------
    given: the flags that were coded, and the sign of each value
    survivors: (3, n), elements that are not zero by the sign of the value to their left, and how many
    """
    _, first, starts, alive = matrix
    rows, columns, near, totals = sums
    _, odds_of, by_rows, kinds, lefts, _, by_columns = out
    flags, signs = given
    places, counts = survivors
    top, bottom, step, _ = span
    low = starts[top]
    counts[:] = 0
    for b in range(top, bottom):
        c, ones, due = step - b, 0, np.int64(0)
        due_in_row = np.int64(np.rint(by_columns[b] * FIXED))
        for r in range(starts[b], starts[b + 1]):
            i = r - low
            flag, kind, odds = flags[i], kinds[i], odds_of[i]
            near[0, kind] += flag
            near[1, kind] += np.int64(np.rint(odds / (1 + odds) * FIXED))
            rows[0, r] += flag
            rows[1, r] += due_in_row
            ones += flag
            due += np.int64(np.rint(by_rows[i] * FIXED))
            if flag:
                sign = signs[lefts[i]]
                places[sign, counts[sign]] = first[r] + step
                counts[sign] += 1
        columns[0, c] += ones
        columns[1, c] += due
        totals[0, alive[c]] += ones
        totals[1, alive[c]] += starts[b + 1] - starts[b]


def _weigh(letters: Any, kind: int, trust: int, weights: Any) -> None:
    """How likely each value is after one of this sign, in proportion."""
    total = 0
    for n in range(letters.shape[1]):
        total += 2 * (letters[0, n] + letters[1, n] + letters[2, n]) + 1
    for n in range(letters.shape[1]):
        together = 2 * (letters[0, n] + letters[1, n] + letters[2, n]) + 1
        weights[n] = letters[kind, n] * 4096 + (trust * 4096 * together) // total + 1
