"""One file of a checkpoint, packed tensor by tensor, so that a loader reads one layer and no other.

    4 bytes  "DCZ" and 4, the version of the format
    tensors  each packed by itself, see `compression.codec.packing`
    index    JSON, deflated: what was packed; of each tensor the name, type, shape, place and CRC-32
    16 bytes of the index: how many deflated, how many plain, CRC-32; "DCZ" and 4 once more

Nothing that the index says is believed before it is checked, and nothing in the file is executed.
"""

import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from capacity.errors import InputError
from compression.codec.packing import pack
from compression.codec.streams import MOST_RATIO
from compression.codec.unpacking import unpack
from compression.codec.words import words_of
from compression.storage import require_plain

MAGIC = b"DCZ"
VERSION = 4
FOOTER = struct.Struct("<III")
ENDS = len(MAGIC) + 1
MOST_INDEX = 2**30  # bytes of an index
DTYPES = {
    str(kind).removeprefix("torch."): kind
    for kind in vars(torch).values()
    if isinstance(kind, torch.dtype) and not str(kind).startswith(("torch.q", "torch.bits"))
}


@dataclass(frozen=True)
class Source:
    """The file that was packed.

    `header` is that of a safetensors file, which is restored byte for byte; None for a state dict of
    torch.save, of which the tensors are restored. `sha256` is of the file, or of these tensors in order.
    """

    name: str
    bytes: int
    sha256: str
    header: str | None


@dataclass(frozen=True)
class Entry:
    """Where a tensor lies in the file, and what it is; what is `same_as` an earlier one lies there."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int
    crc32: int
    same_as: str | None = None


class ArchiveWriter:
    """Writes tensors one after another, and at last what they are."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.at = file, ENDS
        self.entries: list[Entry] = []
        file.write(MAGIC + bytes([VERSION]))

    def add(self, name: str, tensor: Tensor, same_as: str | None = None) -> None:
        """A tensor, or another name of one that is there."""
        content = pack(tensor) if same_as is None else b""
        kind, shape = str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)
        crc = zlib.crc32(content)
        self.entries.append(Entry(name, kind, shape, self.at, len(content), crc, same_as))
        self.file.write(content)
        self.at += len(content)

    def end(self, source: Source) -> None:
        """The index; the file is whole then."""
        facts = {"source": asdict(source), "tensors": [list(vars(entry).values()) for entry in self.entries]}
        plain = json.dumps(facts, separators=(",", ":")).encode()
        index = zlib.compress(plain, 9)
        self.file.write(index + FOOTER.pack(len(index), len(plain), zlib.crc32(index)))
        self.file.write(MAGIC + bytes([VERSION]))


class Archive(Mapping[str, Tensor]):
    """The tensors of a packed file by name, each read from disk when it is asked for.

    Raises InputError for a file that is damaged, cut short or of a newer version; a tensor's own bytes are
    checked when it is read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = require_plain(path)
        try:
            with open(self.path, "rb") as file:
                self.source, self.entries = self._index(file)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error}") from error
        except (ValueError, TypeError, KeyError, RecursionError, zlib.error) as error:
            raise InputError(f"{path} is damaged: its index makes no sense ({error})") from error

    def _index(self, file: BinaryIO) -> tuple[Source, dict[str, Entry]]:
        size, tail = file.seek(0, 2), FOOTER.size + ENDS
        file.seek(0)
        start = file.read(ENDS)
        if start[:-1] != MAGIC or len(start) < ENDS:
            raise InputError(f"{self.path} is not a file that encode wrote")
        if start[-1] > VERSION:
            raise InputError(
                f"{self.path} has format version {start[-1]}; this release reads up to {VERSION}"
            )
        if start[-1] != VERSION:
            raise InputError(f"{self.path} holds one model's weights: decode(path, model) reads it")
        if size < ENDS + tail:
            raise ValueError("it is cut short")
        file.seek(size - tail)
        footer = file.read(tail)
        length, plain, crc = FOOTER.unpack(footer[: FOOTER.size])
        begins = size - tail - length
        if footer[FOOTER.size :] != start or begins < ENDS:
            raise ValueError("it is cut short")
        if plain > min(MOST_INDEX, MOST_RATIO * length):
            raise ValueError(f"{length} bytes cannot hold {plain}")
        file.seek(begins)
        index = file.read(length)
        if zlib.crc32(index) != crc:
            raise ValueError("checksum")
        text = zlib.decompressobj().decompress(index, plain + 1)
        if len(text) != plain:
            raise ValueError(f"it holds no {plain} bytes")
        facts = json.loads(text)
        entries: dict[str, Entry] = {}
        for row in facts["tensors"]:
            entry = _checked(Entry(*row), entries, begins)
            entries[entry.name] = entry
        return Source(**facts["source"]), entries

    def __getitem__(self, name: str) -> Tensor:
        entry = self.entries[name]
        entry = self.entries[entry.same_as] if entry.same_as is not None else entry
        try:
            with open(self.path, "rb") as file:
                file.seek(entry.start)
                content = file.read(entry.size)
        except OSError as error:
            raise InputError(f"{self.path} cannot be read: {error}") from error
        if len(content) != entry.size or zlib.crc32(content) != entry.crc32:
            raise InputError(f"{self.path} is damaged: the checksum of {name!r} does not match")
        try:
            return unpack(memoryview(content), DTYPES[entry.dtype], entry.shape)
        except (ValueError, MemoryError) as error:
            raise InputError(f"{self.path} is damaged: {name!r}: {error}") from error

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


def _checked(entry: Entry, earlier: Mapping[str, Entry], most: int) -> Entry:
    """An entry that can be read; raises ValueError for others."""
    numbers = [*entry.shape, entry.start, entry.size, entry.crc32]
    if not isinstance(entry.name, str) or not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError("no name, or no numbers")
    if entry.name in earlier or entry.dtype not in DTYPES or not ENDS <= entry.start <= most - entry.size:
        raise ValueError(f"{entry.name!r} has no place")
    other = earlier.get(entry.same_as) if entry.same_as is not None else entry
    if other is None or (other.dtype, list(other.shape)) != (entry.dtype, list(entry.shape)):
        raise ValueError(f"{entry.name!r} is said to be {entry.same_as!r}")
    return entry


def bytes_of(tensor: Tensor) -> memoryview:
    """The bytes of a tensor as files have them, lowest first."""
    words = words_of(tensor)
    return words.astype(words.dtype.newbyteorder("<"), copy=False).view(np.uint8).data
