"""encode() and decode(): the smallest honest file of a pruned, shared-weight or quantized network.

The file holds everything but the architecture, and what `get_extra_state` keeps, bit for bit:

    4 bytes  "DCZ" and the version of the format: 5 where the order of rows holds bytes, else 3 where raw
             bytes are packed, else 2 where a tensor is folded (see `records.Matrix`), else 1
    4 bytes  CRC-32 of all that follows
    4 bytes  CRC-32 of the architecture: names, shapes and types of the state dict
    records  one for each tensor, layer by layer, its weight first (see `Kind`), with its code book
    raw      the bytes of the tensors that are not worth coding; of many numbers in planes of their exponents
             and mantissas, see `compression.codec.packing`
    words    all coded tensors in one stream of a range coder, see `compression.codec.context_model`; it
             ends with each tensor whose rows' order holds bytes, its words counted first, and begins anew
             with these bytes and those that follow, see `compression.codec.segments`

A tensor is coded when it has few distinct values: zeros cost what it takes to say where the others are,
and the others what it takes to tell them apart. Decoding runs no code from the file, allocates only what
the architecture asks for, and refuses a file that is damaged or of another architecture.
"""

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn

from capacity import checks
from capacity.cloning import as_plain, plain_copy
from capacity.columns import KEY, Column
from capacity.errors import InputError
from capacity.inputs import without_weights
from capacity.tables import Table, Tabular
from compression.checkpoints import most_bytes
from compression.codec.reader import Reader
from compression.codec.records import (
    CODED,
    Matrix,
    TensorEncoding,
    bit_patterns,
    is_packed,
    nonzero,
    pattern_bits,
    plan_of,
    raw_parts,
)
from compression.codec.segments import coded_words, metered, saved_bytes
from compression.counting import distinct
from compression.storage import require_plain, write_atomically

MAGIC = b"DCZ"
HEADER = len(MAGIC) + 9
VERSIONS = (1, 2, 3, 5)  # 2: few rows of very many columns are folded; 3: raw bytes packed; 5: free orders
CHECKPOINT = 4


@dataclass(frozen=True)
class CodedTensor:
    """One tensor: its elements, what is stored of them, and how many bytes each part takes.

    `entropy_bytes` is the empirical entropy of zero against non-zero and of the non-zero values, each
    element alone; adaptive models can cost less, since weights do not lie scattered evenly. `tied` tensors
    are the memory of an earlier one under another name.
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
    tied: bool = False


COLUMNS = (
    Column("name", "tensor", importance=KEY),
    Column("kind", "kind", importance=4),
    Column("elements", "elements", style=",", importance=9),
    Column("nonzero", "non-zero", style=",", importance=8),
    Column("values", "values", style=",", importance=3),
    Column("book_bytes", "code book", "bytes", style=",", importance=5),
    Column("position_bytes", "positions", "bytes", style=",.1f", importance=7),
    Column("value_bytes", "symbols", "bytes", style=",.1f", importance=7),
    Column("raw_bytes", "raw", "bytes", style=",", importance=6),
    Column("entropy_bytes", "by entropy", "bytes", style=",.1f", importance=2),
)


@dataclass(frozen=True)
class CodingReport(Tabular):
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
        """Bytes of all elements in single precision, tied ones once."""
        return 4 * sum(tensor.elements for tensor in self.tensors if not tensor.tied)

    def table(self) -> Table:
        """A row per tensor of the state dict."""
        ratio = self.dense_bytes / self.file_bytes
        title = f"{self.dense_bytes:,} -> {self.file_bytes:,.0f} bytes ({ratio:.4g}x)"
        rows = [vars(tensor) for tensor in self.tensors]
        return Table(COLUMNS, rows, title, label="tab:coding")


@checks.arguments(path=checks.path)
def encode(model: nn.Module, path: str | Path) -> int:
    """Write a model's state dict to `path`, as small as its zeros and repeated values allow.

    Masks and parametrizations are folded into the weights, but for weights stored as integers. The file is
    written beside and renamed.
    Returns the bytes written.

    Reference: the pipeline of Han et al. 2016, "Deep Compression", arXiv:1510.00149, with adaptive
    arithmetic coding in place of index differences and Huffman codes.
    """
    tensors = _read(model)
    plans = [plan_of(tensors, name) for name in tensors]
    words = coded_words(tensors, plans)
    architecture = struct.pack("<I", _architecture(tensors))
    version = _version(tensors, plans)

    def write(beside: Path) -> None:
        crc = zlib.crc32(architecture)
        with open(beside, "wb") as file:
            file.write(MAGIC + bytes([version]) + bytes(4) + architecture)
            raw = raw_parts(tensors, plans, packed=version > 2)
            for part in chain((plan.record for plan in plans), raw, [words]):
                crc = zlib.crc32(part, crc)
                file.write(part)
            file.seek(len(MAGIC) + 1)
            file.write(struct.pack("<I", crc))

    write_atomically(Path(path), write)
    return Path(path).stat().st_size


@checks.arguments(path=checks.path)
def decode(path: str | Path, model: nn.Module) -> nn.Module:
    """A copy of `model` with the weights that `encode` wrote; masks come back as zeros.

    They are the same bit for bit, NaN and infinity too, but that negative zeros, which masks leave, may come
    back as zeros.

    Raises InputError for a file that is damaged, cut short, of another version or of another
    architecture; nothing in the file is executed, and nothing is allocated but what the model needs.
    """
    copied = plain_copy(model, stored=False)
    tensors = _tensors(copied)
    content = _content(require_plain(path), most_bytes(copied))
    if content[3] == CHECKPOINT:
        raise InputError(
            f"{path} is a packed checkpoint: open_checkpoint reads it, decode_checkpoint restores it"
        )
    if content[3] not in VERSIONS:
        raise InputError(f"{path} has format version {content[3]}; this release reads up to {VERSIONS[-1]}")
    crc, architecture = struct.unpack("<II", content[4:HEADER])
    if zlib.crc32(content[8:]) != crc:
        raise InputError(f"{path} is damaged: its checksum does not match")
    if architecture != _architecture(tensors):  # perhaps of a model with integers, when those were folded too
        copied = plain_copy(model)
        tensors = _tensors(copied)
    if architecture != _architecture(tensors):
        raise InputError(f"{path} was written from another architecture than this {type(model).__name__}")
    try:
        with torch.no_grad():
            for name, tensor in Reader(content[HEADER:], tensors, content[3]).tensors():
                if tensor is not tensors[name]:
                    tensors[name].copy_(tensor)
    except (ValueError, AssertionError, struct.error) as error:
        raise InputError(f"{path} is damaged: {' '.join(str(error).split())[:200]}") from error
    return copied


def _content(path: Path, most: int) -> memoryview:
    """The bytes of a file that begins as `encode`'s do; another's, or a larger one, is not read."""
    try:
        with open(path, "rb") as file:
            start = file.read(HEADER)
            if len(start) < HEADER or start[: len(MAGIC)] != MAGIC:
                raise InputError(f"{path} is not a file that encode wrote")
            require_plain(path, most)
            return memoryview(start + file.read())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def coding_report(model: nn.Module) -> CodingReport:
    """Where the bytes of `encode`'s file go, tensor by tensor, and what they would be by entropy alone."""
    tensors = _read(model)
    plans = [plan_of(tensors, name) for name in tensors]
    rows, meters = [], metered(tensors, plans)
    packed = _version(tensors, plans) > 2
    once = {id(tensor) for tensor in distinct(tensors.values())}
    orders = saved_bytes(plans, meters)
    for (name, tensor), plan, meter, saved in zip(tensors.items(), plans, meters, orders, strict=True):
        patterns = bit_patterns(tensor)
        there = tensor.numel() if patterns is None else int(nonzero(patterns, tensor).sum())
        raw = sum(map(len, raw_parts({name: tensor}, [plan], packed=packed)))
        entropy = float(raw)
        if patterns is not None and plan.kind in CODED:
            entropy = pattern_bits(patterns, tensor) / 8
        rows.append(
            CodedTensor(
                name,
                plan.kind.name.lower(),
                tensor.numel(),
                there,
                len(plan.values),
                len(plan.record),
                meter.position_bits / 8 - saved,
                meter.symbol_bits / 8,
                raw,
                entropy,
                id(tensor) not in once,
            )
        )
    coded = sum(row.position_bytes + row.value_bytes for row in rows)
    rest = sum(row.book_bytes + row.raw_bytes for row in rows)
    return CodingReport(tuple(rows), HEADER + rest, coded)


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """The state dict, layer by layer and in each its weight first; tied tensors under each of their names.

    Its own order is not to be relied on: a mask that is folded puts a weight behind its bias.
    """
    state = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    for name, tensor in state.items():
        if tensor.is_meta:
            raise without_weights(name)
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name in state))
    order = {layer: place for place, layer in enumerate(layers)}

    def place(name: str) -> tuple[int, bool, str]:
        layer, _, key = name.rpartition(".")
        return order[layer], key != "weight", key

    return {name: state[name].detach() for name in sorted(state, key=place)}


def _read(model: nn.Module) -> dict[str, Tensor]:
    """The same, of a model whose masks are folded, as plain numbers; only to be read."""
    tensors = _tensors(as_plain(model, stored=False))
    return {name: tensor.resolve_conj().resolve_neg() for name, tensor in tensors.items()}


def _version(tensors: Mapping[str, Tensor], plans: Sequence[TensorEncoding]) -> int:
    """The oldest version of the format that these tensors can be written in."""
    pairs = list(zip(tensors.values(), plans, strict=True))
    if any(plan.rows for plan in plans):
        return 5
    if any(is_packed(tensor, plan) for tensor, plan in pairs):
        return 3
    return 2 if any(plan.kind in CODED and Matrix.of(tensor).folds > 1 for tensor, plan in pairs) else 1


def _architecture(tensors: Mapping[str, Tensor]) -> int:
    described = "".join(f"{name} {t.dtype} {tuple(t.shape)}\n" for name, t in tensors.items())
    return zlib.crc32(described.encode())
