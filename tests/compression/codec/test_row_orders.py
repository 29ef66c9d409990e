"""Orders of sorted rows: numbered, and read back."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compression.codec.row_orders import are_sorted, free_bytes, read_order, row_order, written_order


@st.composite
def matrices(draw: st.DrawFn) -> np.ndarray:
    """Rows of few values, so that some repeat and some hold nothing."""
    rows, columns = draw(st.integers(1, 60)), draw(st.integers(1, 12))
    kind = draw(st.sampled_from([np.uint8, np.uint16, np.uint32, np.uint64]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    values = np.array([0, 0, 1, 2, np.iinfo(kind).max], dtype=kind)
    return values[rng.integers(0, draw(st.integers(1, 5)), (rows, columns))]


def distinct(rows: np.ndarray) -> int:
    return len(np.unique(rows, axis=0))


@given(matrices())
@settings(max_examples=200)
def test_rows_are_sorted_by_how_many_weights_they_hold_and_then_by_their_bits(rows: np.ndarray) -> None:
    order = row_order(rows)
    assert sorted(order.tolist()) == list(range(len(rows)))
    ordered = rows[order]
    plain = sorted(
        rows.tolist(),
        key=lambda row: (
            -sum(value != 0 for value in row),
            b"".join(value.to_bytes(rows.dtype.itemsize, "little") for value in row),
        ),
    )
    assert ordered.tolist() == plain
    assert are_sorted(ordered) and (are_sorted(rows) == (rows == ordered).all())


@given(matrices(), st.binary(min_size=40, max_size=40))
@settings(max_examples=200)
def test_an_order_holds_bytes_and_gives_them_back(rows: np.ndarray, payload: bytes) -> None:
    ordered = rows[row_order(rows)]
    size = free_bytes(ordered)
    assert 256**size <= math.factorial(distinct(rows)) < 256 ** (size + 1)
    written = ordered[written_order(ordered, payload[:size])]
    back, held = read_order(written)
    assert held == payload[:size]
    assert (written[back] == ordered).all()


def test_every_order_is_sorted_back() -> None:
    """Of five rows and a repeated one: 120 orders, which are too few to hold a byte."""
    rows = np.array([[2], [3], [4], [5], [6], [6]], dtype=np.uint8)
    read = 0
    for order in itertools.permutations(range(5)):
        written = rows[[*order, 5]]
        try:
            back, held = read_order(written)
        except ValueError:
            continue
        assert written[back].tolist() == rows.tolist() and held == b""
        read += 1
    assert read == 1


def test_orders_beyond_the_last_byte_hold_nothing() -> None:
    """Of 720 orders of six rows 256 hold a byte; the rest was written by nobody."""
    rows = np.arange(1, 7, dtype=np.uint8)[:, None]
    held, refused = [], 0
    for order in itertools.permutations(range(6)):
        try:
            held.append(read_order(rows[list(order)])[1])
        except ValueError:
            refused += 1
    assert sorted(held) == [bytes([value]) for value in range(256)] and refused == 720 - 256


def test_rows_that_are_not_sorted_or_too_many_are_left_as_they_are() -> None:
    rows = np.arange(1, 5000, dtype=np.uint32)[:, None]
    ordered = rows[row_order(rows)]
    assert free_bytes(ordered) == 0
    assert free_bytes(ordered[:4000]) == (math.factorial(4000).bit_length() - 1) // 8
    assert free_bytes(ordered[:4000][::-1]) == 0


@pytest.mark.parametrize("count", [0, 1])
def test_no_rows_have_no_order(count: int) -> None:
    rows = np.ones((count, 3), dtype=np.uint8)
    assert free_bytes(rows) == 0
    back, held = read_order(rows)
    assert len(back) == count and held == b""
