"""encode() and decode(): the smallest honest file of a pruned, shared-weight or quantized network.

The file holds everything but the architecture, bit for bit:

    4 bytes  "DCZ" and the version of the format
    4 bytes  CRC-32 of all that follows
    4 bytes  CRC-32 of the architecture: names, shapes and types of the state dict
    records  one for each tensor, layer by layer, its weight first (see `_Kind`), with its code book
    raw      the bytes of the tensors that are not worth coding
    words    all coded tensors in one stream of a range coder, see `compression.coding`

A tensor is coded when it has few distinct values: zeros cost what it takes to say where the others are,
and the others what it takes to tell them apart. Decoding runs no code from the file, allocates only what
the architecture asks for, and refuses a file that is damaged or of another architecture.
"""

import enum
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from capacity.cloning import clone, fold_masks, fold_parametrizations
from capacity.errors import InputError
from capacity.report import render
from compression.checkpoints import write_whole
from compression.coding import Decoder, Encoder, Meter, code_matrix

if TYPE_CHECKING:
    import pandas as pd

MAGIC = b"DCZ\x01"
HEADER = len(MAGIC) + 8
MOST_VALUES = 4096  # of a code book; with more distinct values a tensor is stored as it is
UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


class _Kind(enum.IntEnum):
    """The first byte of a record, and what follows it. Numbers are varints of 7 bits to the byte."""

    RAW = 0  # nothing; the tensor's bytes are among the raw ones
    RAW_HALF = 1  # nothing; so, but in half precision, which loses nothing
    ZERO = 2  # nothing: all bits are zero
    COUNT = 3  # number: the one integer of a tensor without dimensions
    TIED = 4  # number: which tensor this one shares its memory with
    GRID = 5  # 2 bytes: step in half precision; number: largest multiple of it
    HALF = 6  # number: how many non-zero values; each in half precision
    BOOK = 7  # number: how many non-zero values; each as the tensor has it


CODED = (_Kind.GRID, _Kind.HALF, _Kind.BOOK)


@dataclass(frozen=True)
class _Plan:
    """How a tensor is stored; `values` are those of the symbols 1, 2, ... as the tensor has them."""

    kind: _Kind
    record: bytes
    values: NDArray = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True)
class CodedTensor:
    """One tensor: its elements, what is stored of them, and how many bytes each part takes.

    `entropy_bytes` is the empirical entropy of zero against non-zero and of the non-zero values, each
    element alone; adaptive models can cost less, since weights do not lie scattered evenly.
    """

    name: str
    kind: str
    elements: int
    nonzero: int
    values: int
    book_bytes: int
    position_bytes: float
    value_bytes: float
    raw_bytes: int
    entropy_bytes: float


@dataclass(frozen=True)
class CodingReport:
    """Where the bytes of a file go: `uncoded_bytes` for header, code books and raw tensors, and the rest.

    `coded_bytes` is what the models give the symbols; the coder adds less than eight bytes.
    """

    tensors: tuple[CodedTensor, ...]
    uncoded_bytes: int
    coded_bytes: float

    @property
    def file_bytes(self) -> float:
        """Bytes of the file, to within the coder's last words."""
        return self.uncoded_bytes + self.coded_bytes

    @property
    def dense_bytes(self) -> int:
        """Bytes of all elements in single precision."""
        return 4 * sum(tensor.elements for tensor in self.tensors)

    def to_frame(self) -> "pd.DataFrame":
        """A row per tensor of the state dict."""
        import pandas as pd

        return pd.DataFrame([vars(tensor) for tensor in self.tensors])

    def to_latex(self) -> str:
        """A booktabs table of `to_frame`."""
        return self.to_frame().to_latex(index=False, escape=True, float_format="%.1f")

    def __str__(self) -> str:
        from rich.table import Table

        table = Table()
        columns = (
            "tensor", "kind", "elements", "non-zero", "values", "code book", "positions", "symbols", "raw",
            "entropy",
        )  # fmt: skip
        for column in columns:
            table.add_column(column, justify="left" if column in ("tensor", "kind") else "right")
        for t in self.tensors:
            table.add_row(
                t.name, t.kind, f"{t.elements:,}", f"{t.nonzero:,}", str(t.values), f"{t.book_bytes:,}",
                f"{t.position_bytes:,.1f}", f"{t.value_bytes:,.1f}", f"{t.raw_bytes:,}",
                f"{t.entropy_bytes:,.1f}",
            )  # fmt: skip
        ratio = self.dense_bytes / self.file_bytes
        title = (
            f"{self.dense_bytes:,} -> {self.file_bytes:,.0f} bytes ({ratio:.4g}x); the columns after values"
        )
        title += " are bytes"
        return f"{title}\n{render(table)}"


def encode(model: nn.Module, path: str | Path) -> int:
    """Write a model's state dict to `path`, as small as its zeros and repeated values allow.

    Masks and parametrizations are folded into the weights. The file is written beside and renamed.
    Returns the bytes written.

    Reference: the pipeline of Han et al. 2016, "Deep Compression", arXiv:1510.00149, with adaptive
    arithmetic coding in place of index differences and Huffman codes.
    """
    tensors = _tensors(_folded(model))
    plans = [_plan(tensors, name) for name in tensors]
    coder = Encoder()
    _encode_tensors(coder, tensors, plans)
    words = coder.words().astype("<u4").tobytes()
    architecture = struct.pack("<I", _architecture(tensors))

    def write(beside: Path) -> None:
        crc = zlib.crc32(architecture)
        with open(beside, "wb") as file:
            file.write(MAGIC + bytes(4) + architecture)
            for part in (*(plan.record for plan in plans), *_raw_parts(tensors, plans), words):
                crc = zlib.crc32(part, crc)
                file.write(part)
            file.seek(len(MAGIC))
            file.write(struct.pack("<I", crc))

    write_whole(Path(path), write)
    return Path(path).stat().st_size


def decode(path: str | Path, model: nn.Module) -> nn.Module:
    """A copy of `model` with the weights that `encode` wrote; masks come back as zeros.

    They are the same bit for bit, but that negative zeros in single precision, which masks leave, may come
    back as zeros.

    Raises InputError for a file that is damaged, cut short, of another version or of another
    architecture; nothing in the file is executed, and nothing is allocated but what the model needs.
    """
    copied = _folded(model)
    tensors = _tensors(copied)
    try:
        content = memoryview(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if len(content) < HEADER or bytes(content[:3]) != MAGIC[:3]:
        raise InputError(f"{path} is not a file that encode wrote")
    if content[3] != MAGIC[3]:
        raise InputError(f"{path} has format version {content[3]}; this release reads version {MAGIC[3]}")
    crc, architecture = struct.unpack("<II", content[4:HEADER])
    if zlib.crc32(content[8:]) != crc:
        raise InputError(f"{path} is damaged: its checksum does not match")
    if architecture != _architecture(tensors):
        raise InputError(f"{path} was written from another architecture than this {type(model).__name__}")
    try:
        found = _Reader(content[HEADER:], tensors).tensors()
    except (ValueError, AssertionError, struct.error) as error:
        raise InputError(f"{path} is damaged: {' '.join(str(error).split())[:200]}") from error
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(found[name])
    return copied


def coding_report(model: nn.Module) -> CodingReport:
    """Where the bytes of `encode`'s file go, tensor by tensor, and what they would be by entropy alone."""
    tensors = _tensors(_folded(model))
    plans = [_plan(tensors, name) for name in tensors]
    rows, meters = [], _encode_tensors(None, tensors, plans)
    for (name, tensor), plan, meter in zip(tensors.items(), plans, meters, strict=True):
        patterns = _patterns(tensor)
        nonzero = int(np.count_nonzero(patterns)) if patterns is not None else tensor.numel()
        raw = sum(map(len, _raw_parts({name: tensor}, [plan])))
        entropy = float(raw) if patterns is None or plan.kind not in CODED else _entropy_bits(patterns) / 8
        rows.append(
            CodedTensor(
                name,
                plan.kind.name.lower(),
                tensor.numel(),
                nonzero,
                len(plan.values),
                len(plan.record),
                meter.position_bits / 8,
                meter.symbol_bits / 8,
                raw,
                entropy,
            )
        )
    coded = sum(meter.position_bits + meter.symbol_bits for meter in meters)
    rest = sum(row.book_bytes + row.raw_bytes for row in rows)
    return CodingReport(tuple(rows), HEADER + rest, coded / 8)


def _folded(model: nn.Module) -> nn.Module:
    return fold_parametrizations(fold_masks(clone(model)))


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """The state dict, layer by layer and in each its weight first; tied tensors under each of their names.

    Its own order is not to be relied on: a mask that is folded puts a weight behind its bias.
    """
    state = model.state_dict()
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name in state))
    order = {layer: place for place, layer in enumerate(layers)}

    def place(name: str) -> tuple[int, bool, str]:
        layer, _, key = name.rpartition(".")
        return order[layer], key != "weight", key

    return {name: state[name].detach() for name in sorted(state, key=place)}


def _architecture(tensors: Mapping[str, Tensor]) -> int:
    described = "".join(f"{name} {t.dtype} {tuple(t.shape)}\n" for name, t in tensors.items())
    return zlib.crc32(described.encode())


def _patterns(tensor: Tensor) -> NDArray | None:
    """The bits of each element as unsigned integers; None for types that have no such integer."""
    size = tensor.element_size()
    if size not in UNSIGNED or tensor.is_complex() or tensor.numel() == 0:
        return None
    flat = tensor.cpu().contiguous().flatten()
    patterns = flat.view(torch.uint8).numpy().view(UNSIGNED[size])
    return np.where(flat.numpy() == 0, 0, patterns) if tensor.dtype == torch.float32 else patterns


def _plan(tensors: Mapping[str, Tensor], name: str) -> _Plan:
    """The cheapest way to store a tensor."""
    tensor = tensors[name]
    for index, (other, earlier) in enumerate(tensors.items()):
        if other == name:
            break
        if tensor.numel() and (earlier.data_ptr(), earlier.shape, earlier.stride(), earlier.dtype) == (
            tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype
        ):  # fmt: skip
            return _Plan(_Kind.TIED, bytes([_Kind.TIED]) + _number(index))
    patterns = _patterns(tensor)
    if patterns is None:
        return _Plan(_Kind.RAW, bytes([_Kind.RAW]))
    if tensor.dim() == 0 and not tensor.is_floating_point() and int(tensor) >= 0:
        return _Plan(_Kind.COUNT, bytes([_Kind.COUNT]) + _number(int(tensor)))
    nonzero = patterns[patterns != 0]
    if len(nonzero) == 0:
        return _Plan(_Kind.ZERO, bytes([_Kind.ZERO]))
    half = _exact_half(tensor, nonzero)
    raw = _Plan(_Kind.RAW_HALF, bytes([_Kind.RAW_HALF])) if half else _Plan(_Kind.RAW, bytes([_Kind.RAW]))
    if len(np.unique(nonzero[: 16 * MOST_VALUES])) > MOST_VALUES:
        return raw
    values = np.unique(nonzero)
    if len(values) > MOST_VALUES:
        return raw
    coded = _book(tensor, values)
    size = 8 * tensor.numel() * (2 if half else tensor.element_size())
    return coded if 8 * len(coded.record) + _entropy_bits(patterns) < size else raw


def _exact_half(tensor: Tensor, patterns: NDArray) -> bool:
    """Whether single or double precision values lose nothing in half precision."""
    if tensor.dtype not in (torch.float32, torch.float64):
        return False
    values: NDArray = patterns.view(_float_type(tensor))
    with np.errstate(over="ignore", invalid="ignore"):
        back = values.astype(np.float16).astype(values.dtype)
    return bool((back.view(patterns.dtype) == patterns).all())


def _float_type(tensor: Tensor) -> type:
    return np.float32 if tensor.dtype == torch.float32 else np.float64


def _book(tensor: Tensor, patterns: NDArray) -> _Plan:
    """The code book of these non-zero bit patterns: a grid where they lie on one, else one by one."""
    step = _grid_step(tensor, patterns)
    if step is not None:
        top = round(float(np.abs(_doubles(patterns, tensor)).max()) / float(step))
        record = bytes([_Kind.GRID]) + step.tobytes() + _number(top)
        return _Plan(_Kind.GRID, record, _grid(tensor, step, top))
    count = _number(len(patterns))
    if _exact_half(tensor, patterns):
        halves = patterns.view(_float_type(tensor)).astype("<f2").tobytes()
        return _Plan(_Kind.HALF, bytes([_Kind.HALF]) + count + halves, patterns)
    plain = patterns.astype(patterns.dtype.newbyteorder("<")).tobytes()
    return _Plan(_Kind.BOOK, bytes([_Kind.BOOK]) + count + plain, patterns)


def _doubles(patterns: NDArray, tensor: Tensor) -> NDArray[np.float64]:
    """Bit patterns of a tensor's type as the numbers they stand for."""
    numbers: NDArray[np.float64] = (
        torch.from_numpy(patterns.view(np.uint8)).view(tensor.dtype).double().numpy()
    )
    return numbers


def _grid_step(tensor: Tensor, patterns: NDArray) -> np.float16 | None:
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
        if top <= MOST_VALUES // 2 and np.isin(patterns, _grid(tensor, step, top)).all():
            return np.float16(step)
    return None


def _grid(tensor: Tensor, step: np.float16, top: int) -> NDArray:
    """Bit patterns of the multiples -top, ..., -1, 1, ..., top of the step."""
    levels = torch.cat([torch.arange(-top, 0), torch.arange(1, top + 1)]).double() * float(step)
    patterns = _patterns(levels.to(tensor.dtype))
    assert patterns is not None
    return patterns


def _entropy_bits(patterns: NDArray) -> float:
    """Empirical entropy of an array, each element alone: zero or not, and which value."""
    _, counts = np.unique(patterns[patterns != 0], return_counts=True)
    counts = np.append(counts, len(patterns) - counts.sum())
    counts = counts[counts > 0]
    return float(-(counts * np.log2(counts / counts.sum())).sum())


def _number(value: int) -> bytes:
    """A varint: 7 bits to the byte, lowest first.

    >>> _number(300).hex()
    'ac02'
    """
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out) + bytes([value])


def _raw_parts(tensors: Mapping[str, Tensor], plans: Sequence[_Plan]) -> Iterator[bytes]:
    for tensor, plan in zip(tensors.values(), plans, strict=True):
        if plan.kind is _Kind.RAW:
            yield tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        elif plan.kind is _Kind.RAW_HALF:
            yield tensor.cpu().contiguous().flatten().half().view(torch.uint8).numpy().tobytes()


class _Context:
    """Which units had any weight in the tensor before: the columns of the next that are worth a look."""

    def __init__(self) -> None:
        self.units = np.ones(1, dtype=np.int64)

    def matrix(self, tensor: Tensor) -> tuple[tuple[int, int], NDArray[np.int64]]:
        """Rows and columns as which a tensor is coded, and for each column 1 if it may hold anything."""
        rows = tensor.shape[0] if tensor.dim() > 1 else 1
        columns = tensor.numel() // rows
        if columns % len(self.units):
            return (rows, columns), np.ones(columns, dtype=np.int64)
        return (rows, columns), np.repeat(self.units, columns // len(self.units))

    def see(self, tensor: Tensor, nonzero: NDArray[np.bool_]) -> None:
        """Take note of a tensor: a matrix sets the units, a vector of as many elements adds to them."""
        if tensor.dim() > 1:
            self.units = nonzero.reshape(tensor.shape[0], -1).max(1).astype(np.int64)
        elif tensor.dim() == 1 and len(nonzero) == len(self.units):
            self.units = np.maximum(self.units, nonzero)


def _encode_tensors(
    coder: Encoder | None, tensors: Mapping[str, Tensor], plans: Sequence[_Plan]
) -> list[Meter]:
    """Code all tensors that are worth it in one stream; without a coder, measure what each would cost."""
    context, meters = _Context(), []
    for tensor, plan in zip(tensors.values(), plans, strict=True):
        meters.append(Meter())
        if plan.kind in CODED:
            patterns = _patterns(tensor)
            assert patterns is not None
            (rows, columns), alive = context.matrix(tensor)
            symbols = _symbols(patterns, plan.values).reshape(rows, columns)
            code_matrix(coder or meters[-1], (rows, columns), len(plan.values), alive, symbols)
            context.see(tensor, patterns != 0)
        elif plan.kind is _Kind.ZERO:
            context.see(tensor, np.zeros(tensor.numel(), dtype=bool))
    return meters


def _symbols(patterns: NDArray, values: NDArray) -> NDArray[np.int32]:
    """0 for zero, and 1 + the index of each other bit pattern in `values`."""
    order = np.argsort(values)
    symbols = np.zeros(len(patterns), dtype=np.int32)
    where = np.flatnonzero(patterns)
    symbols[where] = order[np.searchsorted(values[order], patterns[where])] + 1
    return symbols


class _Reader:
    """Reads the records, the raw bytes and the coded words of a file for these tensors."""

    def __init__(self, content: memoryview, model: Mapping[str, Tensor]) -> None:
        self.content, self.model, self.at = content, model, 0

    def tensors(self) -> dict[str, Tensor]:
        """The tensors of the file by name; raises ValueError or AssertionError where it makes no sense."""
        plans = {name: self._record(name) for name in self.model}
        raw = {name: self._take(self._raw_size(name, plan)) for name, plan in plans.items()}
        rest = self.content[self.at :]
        if len(rest) % 4:
            raise ValueError(f"{len(rest)} bytes are no whole number of words")
        decoder = Decoder(np.frombuffer(rest, dtype="<u4").astype(np.uint32))
        found: dict[str, Tensor] = {}
        context = _Context()
        for name, plan in plans.items():
            tensor = self.model[name]
            if plan.kind in CODED:
                patterns = self._coded(decoder, tensor, plan, context)
                found[name] = _from_patterns(patterns, tensor)
            elif plan.kind is _Kind.TIED:
                found[name] = found[list(self.model)[int(plan.values[0])]]
            elif plan.kind is _Kind.ZERO:
                found[name] = torch.zeros_like(tensor, device="cpu")
                context.see(tensor, np.zeros(tensor.numel(), dtype=bool))
            elif plan.kind is _Kind.COUNT:
                found[name] = torch.tensor(int(plan.values[0]), dtype=tensor.dtype)
            else:
                kind = torch.float16 if plan.kind is _Kind.RAW_HALF else tensor.dtype
                flat = torch.frombuffer(bytearray(raw[name]), dtype=kind) if raw[name] else torch.empty(0)
                found[name] = flat.to(tensor.dtype).view(tensor.shape)
        return found

    def _coded(self, decoder: Decoder, tensor: Tensor, plan: _Plan, context: _Context) -> NDArray:
        shape, alive = context.matrix(tensor)
        symbols = code_matrix(decoder, shape, len(plan.values), alive, None).reshape(-1)
        patterns = np.concatenate([np.zeros(1, plan.values.dtype), plan.values])[symbols]
        context.see(tensor, patterns != 0)
        return np.asarray(patterns)

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

    def _raw_size(self, name: str, plan: _Plan) -> int:
        tensor = self.model[name]
        sizes = {_Kind.RAW: tensor.element_size(), _Kind.RAW_HALF: 2}
        return sizes.get(plan.kind, 0) * tensor.numel()

    def _record(self, name: str) -> _Plan:
        tensor, kind = self.model[name], _Kind(self._take(1)[0])
        size = tensor.element_size()
        if kind in CODED and (size not in UNSIGNED or tensor.is_complex() or tensor.numel() == 0):
            raise ValueError(f"{name} cannot be coded")
        if kind in (_Kind.RAW_HALF, _Kind.HALF) and tensor.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"{name} is {tensor.dtype}, which half precision does not stand for")
        if kind is _Kind.TIED:
            earlier = self._read_number(list(self.model).index(name) - 1)
            if (other := list(self.model.values())[earlier]).shape != tensor.shape or (
                other.dtype != tensor.dtype
            ):
                raise ValueError(f"{name} is said to be tied to a tensor of another shape or type")
            return _Plan(kind, b"", np.array([earlier]))
        if kind is _Kind.COUNT:
            if tensor.dim() or tensor.is_floating_point():
                raise ValueError(f"{name} is not a count")
            most = 1 if tensor.dtype == torch.bool else torch.iinfo(tensor.dtype).max
            return _Plan(kind, b"", np.array([self._read_number(most)]))
        if kind is _Kind.GRID:
            step = np.frombuffer(self._take(2), dtype="<f2")[0]
            top = self._read_number(MOST_VALUES // 2)
            if top == 0 or not np.isfinite(step) or tensor.dtype == torch.bool:
                raise ValueError(f"{name} has an impossible grid")
            return _Plan(kind, b"", _grid(tensor, np.float16(step), top))
        if kind in CODED:
            return _Plan(kind, b"", self._read_book(tensor, kind))
        return _Plan(kind, b"")

    def _read_book(self, tensor: Tensor, kind: _Kind) -> NDArray:
        count = self._read_number(MOST_VALUES)
        if count == 0:
            raise ValueError("an empty code book")
        if kind is _Kind.HALF:
            halves = np.frombuffer(self._take(2 * count), dtype="<f2")
            return halves.astype(_float_type(tensor)).view(UNSIGNED[tensor.element_size()])
        unsigned = np.dtype(UNSIGNED[tensor.element_size()])
        content = self._take(unsigned.itemsize * count)
        return np.frombuffer(content, dtype=unsigned.newbyteorder("<")).astype(unsigned)


def _from_patterns(patterns: NDArray, like: Tensor) -> Tensor:
    return torch.from_numpy(patterns.view(np.uint8)).view(like.dtype).view(like.shape)
