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
    CODED,
    HALVES,
    MOST_VALUES,
    UNSIGNED,
    Context,
    Kind,
    Matrix,
    TensorEncoding,
    float_type,
    grid,
    is_packed,
    raw_size,
)
from compression.codec.unpacking import unpack
from compression.counting import memory_of

PART = 2**16  # symbols that are looked up at once


class Reader:
    """Reads the records, the raw bytes and the coded words of a file for these tensors."""

    def __init__(self, content: memoryview, model: Mapping[str, Tensor], version: int) -> None:
        self.content, self.model, self.at = content, model, 0
        self.folds, self.packed = version > 1, version > 2

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """The names and tensors of the file, in order; raises ValueError or AssertionError for nonsense.

        Each is to be written into the one of `model` before the next is asked for: tied ones are read there.
        """
        plans = {name: self._record(name) for name in self.model}
        raw = {name: self._raw(self.model[name], plan) for name, plan in plans.items()}
        rest = self.content[self.at :]
        if len(rest) % 4:
            raise ValueError(f"{len(rest)} bytes are no whole number of words")
        decoder = Decoder(np.frombuffer(rest, dtype="<u4").astype(np.uint32))
        context, sources = Context(), self._sources(plans)
        for name, plan in plans.items():
            tensor = self.model[name]
            if plan.kind in CODED:
                read = self._coded(decoder, tensor, plan, context, raw[name])
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
        self, decoder: Decoder, tensor: Tensor, plan: TensorEncoding, context: Context, raw: memoryview
    ) -> Tensor:
        matrix = Matrix.of(tensor, folds=self.folds)
        alive = context.alive(matrix)
        coded = code_matrix(decoder, matrix.shape, plan.signs, alive, plan.traits, None)
        symbols = matrix.elements(coded)
        context.see(tensor, symbols != 0)
        if not plan.stored:
            book = np.concatenate([np.zeros(1, plan.values.dtype), plan.values])
            return _write(book, symbols, tensor)
        where = torch.from_numpy(np.flatnonzero(symbols))
        if len(where) != plan.stored:
            raise ValueError(f"{len(where)} places for {plan.stored} values")
        flat = torch.zeros(tensor.numel(), dtype=tensor.dtype)
        flat[where] = self._numbers(raw, tensor, plan)
        return flat.view(tensor.shape)

    def _raw(self, tensor: Tensor, plan: TensorEncoding) -> memoryview:
        if not (self.packed and is_packed(tensor, plan)):
            return self._take(raw_size(tensor, plan))
        (length,) = struct.unpack("<Q", self._take(8))
        return self._take(length)

    def _numbers(self, raw: memoryview, like: Tensor, plan: TensorEncoding) -> Tensor:
        """Raw bytes as numbers of the tensor's type."""
        kind = torch.float16 if plan.kind in HALVES else like.dtype
        if self.packed and is_packed(like, plan):
            return unpack(raw, kind, (plan.stored,) if plan.stored else like.shape).to(like.dtype)
        return torch.frombuffer(bytearray(raw), dtype=kind).to(like.dtype) if raw else like.new_empty(0).cpu()

    def _take(self, size: int) -> memoryview:
        if self.at + size > len(self.content):
            raise ValueError(f"it ends {self.at + size - len(self.content)} bytes too early")
        self.at += size
        return self.content[self.at - size : self.at]

    def _read_number(self, most: int) -> int:
        value, shift = 0, 0
        while True:
            byte = self._take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                break
            shift += 7
            if shift > 63:
                raise ValueError("a number does not end")
        if value > most:
            raise ValueError(f"{value} where at most {most} is possible")
        return value

    def _record(self, name: str) -> TensorEncoding:
        plan, tensor = self._plan(name), self.model[name]
        if plan.kind not in CODED or tensor.dim() < 2:
            return plan
        strengths = self._take(1)[0]
        stride = self._read_number(Matrix.of(tensor, folds=self.folds).shape[1])
        return replace(
            plan, traits=ContextParameters(strengths // 16 + WEAKEST, strengths % 16 + WEAKEST, stride)
        )

    def _plan(self, name: str) -> TensorEncoding:
        tensor, kind = self.model[name], Kind(self._take(1)[0])
        size = tensor.element_size()
        if kind in CODED and (size not in UNSIGNED or tensor.is_complex() or tensor.numel() == 0):
            raise ValueError(f"{name} cannot be coded")
        if kind in HALVES and tensor.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"{name} is {tensor.dtype}, which half precision does not stand for")
        if kind is Kind.TIED:
            earlier = self._read_number(list(self.model).index(name) - 1)
            if (other := list(self.model.values())[earlier]).shape != tensor.shape or (
                other.dtype != tensor.dtype
            ):
                raise ValueError(f"{name} is said to be tied to a tensor of another shape or type")
            return TensorEncoding(kind, b"", np.array([earlier]))
        if kind is Kind.COUNT:
            if tensor.dim() or tensor.is_floating_point() or tensor.is_complex():
                raise ValueError(f"{name} is not a count")
            most = 1 if tensor.dtype == torch.bool else torch.iinfo(tensor.dtype).max
            return TensorEncoding(kind, b"", np.array([self._read_number(most)]))
        if kind is Kind.GRID:
            step = np.frombuffer(self._take(2), dtype="<f2")[0]
            top = self._read_number(MOST_VALUES // 2)
            if top == 0 or not np.isfinite(step) or tensor.dtype == torch.bool:
                raise ValueError(f"{name} has an impossible grid")
            return TensorEncoding(kind, b"", grid(tensor, np.float16(step), top))
        if kind in (Kind.SPARSE, Kind.SPARSE_HALF):
            stored = self._read_number(tensor.numel())
            if stored == 0:
                raise ValueError(f"{name} is said to be sparse and to hold nothing")
            return TensorEncoding(kind, b"", np.zeros(1, UNSIGNED[size]), stored)
        if kind in CODED:
            return TensorEncoding(kind, b"", self._read_book(tensor, kind))
        return TensorEncoding(kind, b"")

    def _read_book(self, tensor: Tensor, kind: Kind) -> NDArray[Any]:
        count = self._read_number(MOST_VALUES)
        if count == 0:
            raise ValueError("an empty code book")
        if kind is Kind.HALF:
            halves = np.frombuffer(self._take(2 * count), dtype="<f2")
            return halves.astype(float_type(tensor)).view(UNSIGNED[tensor.element_size()])
        unsigned = np.dtype(UNSIGNED[tensor.element_size()])
        content = self._take(unsigned.itemsize * count)
        return np.frombuffer(content, dtype=unsigned.newbyteorder("<")).astype(unsigned)


def _write(book: NDArray[Any], symbols: NDArray[Any], tensor: Tensor) -> Tensor:
    """Write the bit pattern of each symbol into a tensor, or into one like it in order; returns that one."""
    plain = tensor.device.type == "cpu" and tensor.is_contiguous()
    written = tensor if plain else torch.empty(tensor.shape, dtype=tensor.dtype)
    patterns = written.reshape(-1).view(torch.uint8).numpy().view(book.dtype)
    for start in range(0, len(symbols), PART):  # of all at once NumPy would make eight bytes each
        part = slice(start, start + PART)
        np.take(book, symbols[part], out=patterns[part], mode="clip")
    return written
