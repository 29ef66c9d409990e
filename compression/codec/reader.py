"""Reader: what `encode` wrote, back into tensors; nothing it says is believed before it is checked."""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compression.codec.context_model import WEAKEST, ContextParameters, Decoder, code_matrix
from compression.codec.records import (
    BOOKS,
    CODED,
    HALVES,
    MOST_VALUES,
    UNSIGNED,
    Context,
    Kind,
    TensorEncoding,
    float_type,
    grid,
    is_packed,
    raw_size,
)
from compression.codec.row_orders import MOST_ELEMENTS, MOST_ROWS, read_order
from compression.codec.streams import Cursor
from compression.codec.unpacking import unpack
from compression.counting import memory_of

PART = 2**16  # symbols that are looked up at once


class Reader:
    """Reads the records, the raw bytes and the coded words of a file for these tensors."""

    def __init__(self, content: memoryview, model: Mapping[str, Tensor], version: int) -> None:
        self.cursor, self.model = Cursor(content), model
        self.folds, self.packed, self.orders = version > 1, version > 2, version > 4

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """The names and tensors of the file, in order; raises ValueError or AssertionError for nonsense.

        Each is to be written into the one of `model` before the next is asked for: tied ones are read there.
        """
        plans = {name: self._record(name) for name in self.model}
        raw = {name: self._raw(self.model[name], plan) for name, plan in plans.items()}
        words = _Words(self.cursor.rest(), sum(plan.rows > 0 for plan in plans.values()), orders=self.orders)
        context, sources = Context(), self._sources(plans)
        for name, plan in plans.items():
            tensor = self.model[name]
            if plan.kind in CODED:
                read = self._coded(words, tensor, plan, context, raw[name])
            elif plan.kind is Kind.TIED:
                read = sources.get(earlier := self._tied(plan), self.model[earlier])
            elif plan.kind is Kind.ZERO:
                read = torch.zeros_like(tensor, device="cpu")
                context.see(tensor, np.zeros(tensor.numel(), dtype=bool))
            elif plan.kind is Kind.COUNT:
                read = torch.tensor(int(plan.values[0]), dtype=tensor.dtype)
            else:
                read = self._numbers(raw[name], tensor, plan).view(tensor.shape)
            if name in sources:
                sources[name] = read.clone()
            yield name, read

    def _tied(self, plan: TensorEncoding) -> str:
        """The earlier tensor that one is tied to."""
        return list(self.model)[int(plan.values[0])]

    def _sources(self, plans: Mapping[str, TensorEncoding]) -> dict[str, Tensor]:
        """Tensors that later ones are tied to, and whose memory others of the model share, by name.

        They are to be kept: what is read for those others lies over them by then.
        """
        tied = {name: self._tied(plan) for name, plan in plans.items() if plan.kind is Kind.TIED}
        sharing: dict[Any, set[str]] = {}
        for name, tensor in self.model.items():
            sharing.setdefault(memory_of(tensor), set()).add(name)
        own = {source: {name for name in tied if tied[name] == source} | {source} for source in tied.values()}
        return {
            source: self.model[source]
            for source, names in own.items()
            if sharing[memory_of(self.model[source])] - names
        }

    def _coded(
        self, words: "_Words", tensor: Tensor, plan: TensorEncoding, context: Context, raw: memoryview
    ) -> Tensor:
        matrix = plan.matrix(tensor, folds=self.folds)
        alive = context.alive(matrix)
        coded = code_matrix(words.decoder, matrix.shape, plan.signs, alive, plan.traits, None)
        if plan.rows:
            order, held = read_order(_book_of(plan)[coded])
            words.begin_anew(held)
            coded = np.pad(coded[order], ((0, tensor.shape[0] - plan.rows), (0, 0)))
        symbols = coded.reshape(-1) if plan.rows else matrix.elements(coded)
        context.see(tensor, symbols != 0)
        if not plan.stored:
            return _write(_book_of(plan), symbols, tensor)
        where = torch.from_numpy(np.flatnonzero(symbols))
        if len(where) != plan.stored:
            raise ValueError(f"{len(where)} places for {plan.stored} values")
        flat = torch.zeros(tensor.numel(), dtype=tensor.dtype)
        flat[where] = self._numbers(raw, tensor, plan)
        return flat.view(tensor.shape)

    def _raw(self, tensor: Tensor, plan: TensorEncoding) -> memoryview:
        if not (self.packed and is_packed(tensor, plan)):
            return self.cursor.take(raw_size(tensor, plan))
        (length,) = struct.unpack("<Q", self.cursor.take(8))
        return self.cursor.take(length)

    def _numbers(self, raw: memoryview, like: Tensor, plan: TensorEncoding) -> Tensor:
        """Raw bytes as numbers of the tensor's type."""
        kind = torch.float16 if plan.kind in HALVES else like.dtype
        if self.packed and is_packed(like, plan):
            return unpack(raw, kind, (plan.stored,) if plan.stored else like.shape).to(like.dtype)
        return torch.frombuffer(bytearray(raw), dtype=kind).to(like.dtype) if raw else like.new_empty(0).cpu()

    def _record(self, name: str) -> TensorEncoding:
        tensor, rows = self.model[name], 0
        kind = Kind(self.cursor.take(1)[0])
        if self.orders and kind is Kind.SORTED:
            rows = self.cursor.varint(min(MOST_ROWS, tensor.shape[0] if tensor.dim() > 1 else 0))
            if not rows or rows * (tensor.numel() // tensor.shape[0]) > MOST_ELEMENTS:
                raise ValueError(f"{name} has no {rows} rows in an order")
            kind = Kind(self.cursor.take(1)[0])
            if kind not in BOOKS:
                raise ValueError(f"{name} is said to be sorted, and has no book of values")
        plan = replace(self._plan(name, kind), rows=rows)
        if plan.kind not in CODED or tensor.dim() < 2:
            return plan
        strengths = self.cursor.take(1)[0]
        stride = self.cursor.varint(plan.matrix(tensor, folds=self.folds).shape[1])
        return replace(
            plan, traits=ContextParameters(strengths // 16 + WEAKEST, strengths % 16 + WEAKEST, stride)
        )

    def _plan(self, name: str, kind: Kind) -> TensorEncoding:
        tensor = self.model[name]
        size = tensor.element_size()
        if kind is Kind.SORTED:
            raise ValueError(f"{name} is said to be sorted where nothing can be")
        if kind in CODED and (size not in UNSIGNED or tensor.is_complex() or tensor.numel() == 0):
            raise ValueError(f"{name} cannot be coded")
        if kind in HALVES and tensor.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"{name} is {tensor.dtype}, which half precision does not stand for")
        if kind is Kind.TIED:
            earlier = self.cursor.varint(list(self.model).index(name) - 1)
            if (other := list(self.model.values())[earlier]).shape != tensor.shape or (
                other.dtype != tensor.dtype
            ):
                raise ValueError(f"{name} is said to be tied to a tensor of another shape or type")
            return TensorEncoding(kind, b"", np.array([earlier]))
        if kind is Kind.COUNT:
            if tensor.dim() or tensor.is_floating_point() or tensor.is_complex():
                raise ValueError(f"{name} is not a count")
            most = 1 if tensor.dtype == torch.bool else torch.iinfo(tensor.dtype).max
            return TensorEncoding(kind, b"", np.array([self.cursor.varint(most)]))
        if kind is Kind.GRID:
            step = np.frombuffer(self.cursor.take(2), dtype="<f2")[0]
            top = self.cursor.varint(MOST_VALUES // 2)
            if top == 0 or not np.isfinite(step) or tensor.dtype == torch.bool:
                raise ValueError(f"{name} has an impossible grid")
            return TensorEncoding(kind, b"", grid(tensor, np.float16(step), top))
        if kind in (Kind.SPARSE, Kind.SPARSE_HALF):
            stored = self.cursor.varint(tensor.numel())
            if stored == 0:
                raise ValueError(f"{name} is said to be sparse and to hold nothing")
            return TensorEncoding(kind, b"", np.zeros(1, UNSIGNED[size]), stored)
        if kind in CODED:
            return TensorEncoding(kind, b"", self._read_book(tensor, kind))
        return TensorEncoding(kind, b"")

    def _read_book(self, tensor: Tensor, kind: Kind) -> NDArray[Any]:
        count = self.cursor.varint(MOST_VALUES)
        if count == 0:
            raise ValueError("an empty code book")
        if kind is Kind.HALF:
            halves = np.frombuffer(self.cursor.take(2 * count), dtype="<f2")
            return halves.astype(float_type(tensor)).view(UNSIGNED[tensor.element_size()])
        unsigned = np.dtype(UNSIGNED[tensor.element_size()])
        content = self.cursor.take(unsigned.itemsize * count)
        return np.frombuffer(content, dtype=unsigned.newbyteorder("<")).astype(unsigned)


class _Words:
    """The coded words of a file; where orders hold bytes, highest byte first and with zeros behind the end.

    times: how often they begin anew
    """

    def __init__(self, content: memoryview, times: int, *, orders: bool) -> None:
        self.times, self.rest = times, content
        if orders:
            self.begin_anew(b"")
            return
        if len(content) % 4:
            raise ValueError(f"{len(content)} bytes are no whole number of words")
        self.decoder = Decoder(np.frombuffer(content, dtype="<u4").astype(np.uint32))

    def begin_anew(self, held: bytes) -> None:
        """Go on with the bytes that an order of rows held, and those behind it."""
        cursor = Cursor(memoryview(held + bytes(self.rest)))
        stream = cursor.take(cursor.varint(len(cursor.content))) if self.times else cursor.rest()
        self.rest, self.times = cursor.rest(), self.times - 1
        padded = bytes(stream) + bytes(8 + -len(stream) % 4)
        self.decoder = Decoder(np.frombuffer(padded, dtype=">u4").astype(np.uint32))


def _book_of(plan: TensorEncoding) -> NDArray[Any]:
    """The bit pattern of each symbol, zero's first."""
    return np.concatenate([np.zeros(1, plan.values.dtype), plan.values])


def _write(book: NDArray[Any], symbols: NDArray[Any], tensor: Tensor) -> Tensor:
    """Write the bit pattern of each symbol into a tensor, or into one like it in order; returns that one."""
    plain = tensor.device.type == "cpu" and tensor.is_contiguous()
    written = tensor if plain else torch.empty(tensor.shape, dtype=tensor.dtype)
    patterns = written.reshape(-1).view(torch.uint8).numpy().view(book.dtype)
    for start in range(0, len(symbols), PART):  # of all at once NumPy would make eight bytes each
        part = slice(start, start + PART)
        np.take(book, symbols[part], out=patterns[part], mode="clip")
    return written
