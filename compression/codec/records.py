"""How one tensor is stored in a compressed file: the kinds of records, and the cheapest for a tensor."""

import enum
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from capacity.errors import InputError
from compression._moved import keep_old_names
from compression.codec.compiled_model import kernels_for
from compression.codec.context_model import WEAKEST, ContextParameters, entropy_bits, symbol_type, traits_of
from compression.codec.packing import pack
from compression.codec.row_orders import LEAST_BYTES, MOST_ELEMENTS, free_bytes

MOST_VALUES = 4096  # of a code book; with more distinct values a tensor is stored as it is
PART = 2**22  # elements that are compared at once
PACKED = 1024  # numbers from which what is not coded is packed
BOOK_SHARE = 0.05  # of a tensor's bits, from which its code book may cost more than it saves
LONG, FOLDED = 8192, 4096  # columns from which few rows are folded, and of what is folded
CHANGED = "the weights changed while they were read: encode a copy, or wait until nothing writes to them"
UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


class Kind(enum.IntEnum):
    """The first byte of a record, and what follows it. Numbers are varints of 7 bits to the byte.

    Where a tensor of several dimensions is coded, its record ends with its traits (see
    `compression.codec.context_model`): a byte with the strengths of rows and of columns, four bits each, and
    a number, the stride. In files of version 3 the raw bytes of many numbers are packed, length first.
    From version 5 on rows that are sorted, those without any weight last, can be written in an order that
    holds bytes of what comes behind them (see `compression.codec.row_orders`).
    """

    RAW = 0  # nothing; the tensor's bytes are among the raw ones
    RAW_HALF = 1  # nothing; so, but in half precision, which loses nothing
    ZERO = 2  # nothing: all bits are zero
    COUNT = 3  # number: the one integer of a tensor without dimensions
    TIED = 4  # number: which tensor this one shares its memory with
    GRID = 5  # 2 bytes: step in half precision; number: largest multiple of it
    HALF = 6  # number: how many non-zero values; each in half precision
    BOOK = 7  # number: how many non-zero values; each as the tensor has it
    SPARSE = 8  # number: how many elements are not zero; their bytes are among the raw ones, in order
    SPARSE_HALF = 9  # so, but in half precision
    SORTED = 10  # number: how many rows hold anything; then a record of GRID, HALF or BOOK


CODED = (Kind.GRID, Kind.HALF, Kind.BOOK, Kind.SPARSE, Kind.SPARSE_HALF)
RAW = (Kind.RAW, Kind.RAW_HALF, Kind.SPARSE, Kind.SPARSE_HALF)
BOOKS = (Kind.GRID, Kind.HALF, Kind.BOOK)
HALVES = (Kind.RAW_HALF, Kind.HALF, Kind.SPARSE_HALF)


@dataclass(frozen=True)
class TensorEncoding:
    """How a tensor is stored.

    `values` are the bit patterns of the symbols 1, 2, ...; where each non-zero element is stored by itself
    there is one symbol, and `stored` counts them. Of sorted rows whose order holds `free_bytes` of what
    follows the first `rows` are written, and no other holds anything.
    """

    kind: Kind
    record: bytes
    values: NDArray[Any] = field(default_factory=lambda: np.zeros(0))
    stored: int = 0
    traits: ContextParameters = field(default_factory=ContextParameters)
    rows: int = 0
    free_bytes: int = 0

    def matrix(self, tensor: Tensor, *, folds: bool = True) -> "Matrix":
        """Rows and columns as which the tensor is coded."""
        matrix = Matrix.of(tensor, folds=folds and not self.rows)
        return replace(matrix, rows=self.rows) if self.rows else matrix

    @property
    def signs(self) -> NDArray[np.int64]:
        """For each symbol 1 if its value is positive and 2 if it is negative; by the highest bit."""
        highest = 8 * self.values.dtype.itemsize - 1
        return 1 + np.asarray(self.values >> self.values.dtype.type(highest)).astype(np.int64)


def bit_patterns(tensor: Tensor) -> NDArray[Any] | None:
    """The bits of each element as unsigned integers; None for types that have no such integer."""
    size = tensor.element_size()
    if size not in UNSIGNED or tensor.is_complex() or tensor.numel() == 0:
        return None
    flat = tensor.cpu().contiguous().flatten()
    patterns: NDArray[Any] = flat.view(torch.uint8).numpy().view(UNSIGNED[size])
    return patterns


def negative_zero(tensor: Tensor) -> int:
    """The bit pattern that is zero too; 0 for integers, which have no other."""
    return 1 << (8 * tensor.element_size() - 1) if tensor.is_floating_point() else 0


def nonzero(patterns: NDArray[Any], tensor: Tensor) -> NDArray[np.bool_]:
    """Which bit patterns of a tensor are neither zero nor negative zero."""
    there: NDArray[np.bool_] = patterns != 0
    if zero := negative_zero(tensor):
        for start in range(0, len(patterns), PART):
            part = slice(start, start + PART)
            there[part] &= patterns[part] != patterns.dtype.type(zero)
    return there


def plan_of(tensors: Mapping[str, Tensor], name: str) -> TensorEncoding:
    """The cheapest way to store a tensor."""
    tensor = tensors[name]
    for index, (other, earlier) in enumerate(tensors.items()):
        if other == name:
            break
        if tensor.numel() and (earlier.data_ptr(), earlier.shape, earlier.stride(), earlier.dtype) == (
            tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype
        ):  # fmt: skip
            return TensorEncoding(Kind.TIED, bytes([Kind.TIED]) + varint(index))
    patterns = bit_patterns(tensor)
    if patterns is None:
        return TensorEncoding(Kind.RAW, bytes([Kind.RAW]))
    if tensor.dim() == 0 and not tensor.is_floating_point() and int(tensor) >= 0:
        return TensorEncoding(Kind.COUNT, bytes([Kind.COUNT]) + varint(int(tensor)))
    plan = _cheapest(tensor, patterns)
    if plan.kind not in CODED or tensor.dim() < 2:
        return plan
    if plan.kind in BOOKS and patterns.size <= MOST_ELEMENTS:
        plan = _in_free_order(plan, sortable(tensor, patterns))
    matrix = plan.matrix(tensor)
    traits = traits_of(matrix.laid_out(nonzero(patterns[: matrix.elements_in_all], tensor)))
    strengths = 16 * (traits.row_strength - WEAKEST) + traits.column_strength - WEAKEST
    return replace(plan, record=plan.record + bytes([strengths]) + varint(traits.stride), traits=traits)


def sortable(tensor: Tensor, patterns: NDArray[Any]) -> NDArray[Any]:
    """Bit patterns as rows, negative zeros as zeros."""
    rows: NDArray[Any] = np.where(nonzero(patterns, tensor), patterns, patterns.dtype.type(0))
    return rows.reshape(tensor.shape[0], -1)


def _in_free_order(plan: TensorEncoding, patterns: NDArray[Any]) -> TensorEncoding:
    """The same plan, and where the rows are sorted that of their first ones, in an order that holds bytes."""
    rows = int(np.count_nonzero(patterns.any(1)))
    size = free_bytes(patterns[:rows])
    if size < LEAST_BYTES or patterns[rows:].any():
        return plan
    record = bytes([Kind.SORTED]) + varint(rows) + plan.record
    return replace(plan, record=record, rows=rows, free_bytes=size)


def _cheapest(tensor: Tensor, patterns: NDArray[Any]) -> TensorEncoding:
    """With a code book if the values are few, else one by one."""
    numbers = patterns[nonzero(patterns, tensor)]
    if len(numbers) == 0:
        return TensorEncoding(Kind.ZERO, bytes([Kind.ZERO]))
    raw, raw_bits = _uncoded(tensor, numbers)
    if len(np.unique(numbers[: 16 * MOST_VALUES])) > MOST_VALUES:
        return raw
    values, counts = np.unique(numbers, return_counts=True)
    if len(values) > MOST_VALUES:
        return raw
    coded = _book(tensor, values)
    bits = entropy_bits(np.append(counts, len(patterns) - len(numbers)))
    if 8 * len(coded.record) > BOOK_SHARE * bits and is_packed(tensor, raw):
        places = entropy_bits(np.array([len(numbers), len(patterns) - len(numbers)])) if raw.stored else 0.0
        raw_bits = places + 8 * sum(map(len, raw_parts({"": tensor}, [raw], packed=True)))
    return coded if bits + 8 * len(coded.record) < raw_bits else raw


def _uncoded(tensor: Tensor, numbers: NDArray[Any]) -> tuple[TensorEncoding, float]:
    """All elements one by one, or only those that are not zero, whichever takes less; and how many bits."""
    half, stored = _exact_half(tensor, numbers), len(numbers)
    kind, sparse_kind = (Kind.RAW_HALF, Kind.SPARSE_HALF) if half else (Kind.RAW, Kind.SPARSE)
    encoding = TensorEncoding(kind, bytes([kind]))
    sparse = TensorEncoding(
        sparse_kind, bytes([sparse_kind]) + varint(stored), np.zeros(1, numbers.dtype), stored
    )
    sizes = [8.0 * (len(plan.record) + raw_size(tensor, plan)) for plan in (encoding, sparse)]
    sizes[1] += entropy_bits(np.array([stored, tensor.numel() - stored]))
    return (sparse, sizes[1]) if sizes[1] < sizes[0] else (encoding, sizes[0])


def raw_size(tensor: Tensor, plan: TensorEncoding) -> int:
    """Bytes among the raw ones that belong to a tensor."""
    if plan.kind not in RAW:
        return 0
    elements = plan.stored if plan.kind in CODED else tensor.numel()
    return elements * (2 if plan.kind in HALVES else tensor.element_size())


def _exact_half(tensor: Tensor, patterns: NDArray[Any]) -> bool:
    """Whether single or double precision values lose nothing in half precision."""
    if tensor.dtype not in (torch.float32, torch.float64):
        return False
    values: NDArray[Any] = patterns.view(float_type(tensor))
    with np.errstate(over="ignore", invalid="ignore"):
        back = values.astype(np.float16).astype(values.dtype)
    return bool((back.view(patterns.dtype) == patterns).all())


def float_type(tensor: Tensor) -> type:
    return np.float32 if tensor.dtype == torch.float32 else np.float64


def _book(tensor: Tensor, patterns: NDArray[Any]) -> TensorEncoding:
    """The code book of these non-zero bit patterns: a grid where they lie on one, else one by one."""
    step = _grid_step(tensor, patterns)
    if step is not None:
        top = round(float(np.abs(_doubles(patterns, tensor)).max()) / float(step))
        record = bytes([Kind.GRID]) + step.tobytes() + varint(top)
        return TensorEncoding(Kind.GRID, record, grid(tensor, step, top))
    count = varint(len(patterns))
    if _exact_half(tensor, patterns):
        halves = patterns.view(float_type(tensor)).astype("<f2").tobytes()
        return TensorEncoding(Kind.HALF, bytes([Kind.HALF]) + count + halves, patterns)
    plain = patterns.astype(patterns.dtype.newbyteorder("<")).tobytes()
    return TensorEncoding(Kind.BOOK, bytes([Kind.BOOK]) + count + plain, patterns)


def _doubles(patterns: NDArray[Any], tensor: Tensor) -> NDArray[np.float64]:
    """Bit patterns of a tensor's type as the numbers they stand for."""
    numbers: NDArray[np.float64] = (
        torch.from_numpy(patterns.view(np.uint8)).view(tensor.dtype).double().numpy()
    )
    return numbers


def _grid_step(tensor: Tensor, patterns: NDArray[Any]) -> np.float16 | None:
    """The step of which all values are multiples, and not too few of the multiples; None if there is none."""
    if tensor.dtype == torch.bool:
        return None
    sizes: NDArray[np.float64] = np.abs(_doubles(patterns, tensor))
    smallest, largest = float(sizes.min()), float(sizes.max())
    if not np.isfinite(largest) or smallest == 0:
        return None
    for part in range(1, 17):
        step = np.float16(smallest / part)
        if not 0 < float(step) < np.inf or not largest / float(step) <= 2 * len(patterns) + 8:
            continue
        top = round(largest / float(step))
        if top <= MOST_VALUES // 2 and np.isin(patterns, grid(tensor, step, top)).all():
            return np.float16(step)
    return None


def grid(tensor: Tensor, step: np.float16, top: int) -> NDArray[Any]:
    """Bit patterns of the multiples -top, ..., -1, 1, ..., top of the step."""
    levels = torch.cat([torch.arange(-top, 0), torch.arange(1, top + 1)]).double() * float(step)
    patterns = bit_patterns(levels.to(tensor.dtype))
    assert patterns is not None
    return patterns


def pattern_bits(patterns: NDArray[Any], tensor: Tensor) -> float:
    """Empirical entropy of a tensor's bit patterns, each element alone."""
    _, counts = np.unique(patterns[nonzero(patterns, tensor)], return_counts=True)
    return entropy_bits(np.append(counts, len(patterns) - counts.sum()))


def varint(value: int) -> bytes:
    """A varint: 7 bits to the byte, lowest first.

    >>> varint(300).hex()
    'ac02'
    """
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out) + bytes([value])


def raw_parts(
    tensors: Mapping[str, Tensor], plans: Sequence[TensorEncoding], *, packed: bool
) -> Iterator[bytes]:
    """The bytes of what is not coded, in order; with `packed`, those of many numbers packed, length first."""
    for tensor, plan in zip(tensors.values(), plans, strict=True):
        if plan.kind in RAW:
            numbers = tensor.cpu()
            numbers = numbers[numbers != 0] if plan.stored else numbers
            if plan.stored not in (0, numbers.numel()):
                raise InputError(CHANGED)
            numbers = numbers.half() if plan.kind in HALVES else numbers
            if packed and is_packed(tensor, plan):
                content = pack(numbers)
                yield struct.pack("<Q", len(content)) + content
            else:
                yield numbers.contiguous().flatten().view(torch.uint8).numpy().tobytes()


def is_packed(tensor: Tensor, plan: TensorEncoding) -> bool:
    """Whether a tensor's own bytes are packed as `compression.codec.packing` does, from version 3 on."""
    return plan.kind in RAW and (plan.stored or tensor.numel()) >= PACKED


@dataclass(frozen=True)
class Matrix:
    """Rows and columns as which a tensor is coded; each of its rows is folded into `folds` of them.

    Each column is a step of the coder, so that a few rows of very many columns are folded into more and
    shorter ones, the last of each filled up with zeros.
    """

    rows: int
    columns: int
    folds: int = 1

    @classmethod
    def of(cls, tensor: Tensor, *, folds: bool = True) -> "Matrix":
        """Outputs by inputs; a vector is one row. Files of the format's first version fold nothing.

        >>> Matrix.of(torch.empty(1, 10_000)), Matrix.of(torch.empty(4096, 25_088)).folds
        (Matrix(rows=1, columns=10000, folds=3), 1)
        """
        rows = tensor.shape[0] if tensor.dim() > 1 else 1
        columns = tensor.numel() // rows
        long = folds and columns > LONG and columns > 64 * rows
        return cls(rows, columns, -(-columns // FOLDED) if long else 1)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns when folded."""
        return self.rows * self.folds, -(-self.columns // self.folds)

    @property
    def elements_in_all(self) -> int:
        """Elements of all rows."""
        return self.rows * self.columns

    def laid_out(self, elements: NDArray[Any]) -> NDArray[Any]:
        """A tensor's elements in this shape."""
        added = self.folds * self.shape[1] - self.columns
        rows = elements.reshape(self.rows, self.columns)
        return (np.pad(rows, ((0, 0), (0, added))) if added else rows).reshape(self.shape)

    def elements(self, laid_out: NDArray[Any]) -> NDArray[Any]:
        """The elements of what `laid_out` gave.

        >>> matrix = Matrix(2, 5, 2)
        >>> matrix.elements(matrix.laid_out(np.arange(10))).tolist()
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
        """
        return laid_out.reshape(self.rows, -1)[:, : self.columns].reshape(-1)


class Context:
    """Which units had any weight in the tensor before: the columns of the next that are worth a look."""

    def __init__(self) -> None:
        self.units = np.ones(1, dtype=np.int64)

    def alive(self, matrix: Matrix) -> NDArray[np.int64]:
        """For each column 1 if it may hold anything; of what is folded for each."""
        columns = matrix.shape[1]
        if matrix.folds > 1 or columns % len(self.units):
            return np.ones(columns, dtype=np.int64)
        return np.repeat(self.units, columns // len(self.units))

    def see(self, tensor: Tensor, nonzero: NDArray[np.bool_]) -> None:
        """Take note of a tensor: a matrix sets the units, a vector of as many elements adds to them."""
        if tensor.dim() > 1:
            self.units = nonzero.reshape(tensor.shape[0], -1).max(1).astype(np.int64)
        elif tensor.dim() == 1 and len(nonzero) == len(self.units):
            self.units = np.maximum(self.units, nonzero)


def symbols_of(
    patterns: NDArray[Any], plan: TensorEncoding, tensor: Tensor
) -> NDArray[np.unsignedinteger[Any]]:
    """0 for zero, and 1 + the index of each other bit pattern of a tensor in the code book."""
    if plan.stored:
        return nonzero(patterns, tensor).view(np.uint8)
    order = np.argsort(plan.values)
    symbols = np.zeros(len(patterns), symbol_type(len(plan.values)))
    compiled = kernels_for(len(patterns), wide=symbols.dtype == np.uint16)
    if compiled is not None and patterns.dtype == np.uint32:
        zero = np.uint32(negative_zero(tensor))
        if not compiled.look_up(patterns, zero, plan.values[order], order, symbols):
            raise InputError(CHANGED)
        return symbols
    where = np.flatnonzero(nonzero(patterns, tensor))
    places = np.searchsorted(plan.values[order], patterns[where])
    if not np.array_equal(np.take(plan.values[order], places, mode="clip"), patterns[where]):
        raise InputError(CHANGED)
    symbols[where] = order[places] + 1
    return symbols


keep_old_names(__name__)
