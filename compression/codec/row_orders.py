"""The order in which sorted rows are written, which holds bytes of what comes behind them.

Rows that a reader sorts can be written in any order. Of n different rows that is a choice among n!, so that
log2(n!) bits cost nothing: the first bytes of the rest of the file are not written but told by the order.
The rest of the file follows without them, and the reader, which knows the order when it has read the rows,
puts them in front of it again.

Reference: the free bits of unordered data, as in Kunze et al. 2024, "Entropy Coding of Unordered Data
Structures", arXiv:2408.08837; here as a number of the order, without a stack of symbols.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_ROWS = 4096  # that are sorted; numbering an order takes the square of them
MOST_ELEMENTS = 2**24
LEAST_BYTES = 8  # that an order must hold; beginning anew behind the rows takes about six


def row_order(patterns: NDArray[Any]) -> NDArray[np.int64]:
    """The order that sorts rows of bit patterns: those with most non-zero elements first, then by their bits.

    >>> row_order(np.array([[0, 0], [0, 7], [5, 0], [1, 1]], dtype=np.uint8)).tolist()
    [3, 1, 2, 0]
    """
    counts, keys = np.count_nonzero(patterns, axis=1), _keys(patterns)
    order = sorted(range(len(keys)), key=lambda row: (-int(counts[row]), keys[row]))
    return np.array(order, dtype=np.int64)


def are_sorted(patterns: NDArray[Any]) -> bool:
    """Whether the rows stand in that order."""
    if (np.diff(np.count_nonzero(patterns, axis=1)) > 0).any():  # as most are not, seen without their bits
        return False
    return bool((row_order(patterns) == np.arange(len(patterns))).all())


def free_bytes(patterns: NDArray[Any]) -> int:
    """How many bytes the order of sorted rows can hold; 0 for rows that are not sorted, or too many.

    >>> free_bytes(np.tril(np.ones((40, 40), dtype=np.uint8))[::-1])
    19
    """
    if len(patterns) > MOST_ROWS or patterns.size > MOST_ELEMENTS or not are_sorted(patterns):
        return 0
    return _capacity(len(set(_keys(patterns))))


def written_order(patterns: NDArray[Any], payload: bytes) -> NDArray[np.int64]:
    """The order in which sorted rows are written to hold so many `free_bytes`; repeated rows come last."""
    keys = _keys(patterns)
    first = dict(zip(reversed(keys), reversed(range(len(keys))), strict=True))
    firsts = sorted(first.values())
    order = [firsts[place] for place in _order_of(int.from_bytes(payload, "little"), len(firsts))]
    repeats = [row for row, key in enumerate(keys) if first[key] != row]
    return np.array(order + repeats, dtype=np.int64)


def read_order(patterns: NDArray[Any]) -> tuple[NDArray[np.int64], bytes]:
    """The order that sorts rows as they were written, and the bytes that theirs holds.

    Raises ValueError for an order that holds none.

    >>> rows = np.tril(np.ones((30, 30), dtype=np.uint8))[::-1]
    >>> order = written_order(rows, b"free bytes")
    >>> back, held = read_order(rows[order])
    >>> bool((rows[order][back] == rows).all()), held[:10]
    (True, b'free bytes')
    """
    order, keys = row_order(patterns), _keys(patterns)
    ranks = {key: rank for rank, key in enumerate(dict.fromkeys(keys[row] for row in order))}
    number = _number_of([ranks[key] for key in dict.fromkeys(keys)])
    size = _capacity(len(ranks))
    if number >= 256**size:
        raise ValueError("an order of rows that holds nothing")
    return order, number.to_bytes(size, "little")


def _keys(patterns: NDArray[Any]) -> list[bytes]:
    """The bits of each row, the same on every machine."""
    rows = np.ascontiguousarray(patterns, patterns.dtype.newbyteorder("<"))
    return [row.tobytes() for row in rows]


def _capacity(count: int) -> int:
    """Bytes that an order of so many different rows holds."""
    return (math.factorial(count).bit_length() - 1) // 8


def _order_of(number: int, count: int) -> list[int]:
    """The order of so many things that has this number, below count!.

    >>> [_order_of(number, 3) for number in range(3)]
    [[0, 1, 2], [0, 2, 1], [1, 0, 2]]
    """
    digits = []
    for base in range(1, count + 1):
        number, digit = divmod(number, base)
        digits.append(digit)
    left = list(range(count))
    return [left.pop(digit) for digit in reversed(digits)]


def _number_of(order: Sequence[int]) -> int:
    """The number of an order, from 0 on.

    >>> _number_of([1, 0, 2])
    2
    """
    left, number = list(range(len(order))), 0
    for place, item in enumerate(order):
        digit = left.index(item)
        number = number * (len(order) - place) + digit
        left.pop(digit)
    return number
