"""Rows of half floats in a .npy file: written a batch at a time, memory-mapped where they are read.

The header of what is read is checked before it is believed.
"""

import errno
import hashlib
import os
import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from torch import Tensor

from capacity.errors import InputError
from capacity.inputs import first_line
from compression.counting import LARGEST_HALF
from compression.identity import file_sha256
from compression.storage import require_plain

CHUNK = 2**22  # values looked at together
NO_ROOM_TAKEN = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)  # by file systems that cannot, who need not


class RowWriter:
    """Writes (rows, ...) half floats to `path` batch by batch, with the SHA-256 of all so far.

    Room for all rows is taken first: a disk too small says so before anything is computed, and none of the
    file is missing where it is mapped. `rows` that are there already, of a file of this SHA-256, are kept.

    Raises OSError where there is no room, InputError if the rows that are there are others.
    """

    def __init__(self, path: Path, shape: Sequence[int], *, rows: int = 0, sha256: str = "") -> None:
        self.shape, self.rows = tuple(shape), rows
        self._digest = hashlib.sha256()
        header = _header(shape)
        start = len(header) + rows * _row_bytes(shape)
        self._file = open(require_plain(path), "r+b" if rows else "w+b")  # noqa: SIM115
        try:
            if rows:
                self._read(start)
            else:
                take_room(self._file.fileno(), len(header) + shape[0] * _row_bytes(shape))
                self._add(header)
            if rows and self._digest.hexdigest() != sha256:
                raise InputError(f"{path} is damaged: its SHA-256 is another; remove it")
        except BaseException:
            self._file.close()
            raise

    def _read(self, size: int) -> None:
        while size > 0 and (block := self._file.read(min(size, 2**20))):
            self._digest.update(block)
            size -= len(block)

    def _add(self, content: bytes) -> None:
        self._file.write(content)
        self._digest.update(content)

    def add(self, rows: np.ndarray) -> None:
        """Write a batch of half floats behind those that are there."""
        self._add(np.ascontiguousarray(rows, dtype="<f2").tobytes())
        self.rows += len(rows)

    def save(self) -> str:
        """The SHA-256 of the header and all rows so far, which are on the disk now."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._digest.hexdigest()

    def __enter__(self) -> "RowWriter":
        return self

    def __exit__(self, *unused: object) -> None:
        self._file.close()


def take_room(number: int, size: int) -> None:
    """Give an open file its size, and take its blocks, where the system and its file system can.

    Raises OSError where there is not room enough.
    """
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(number, 0, size)
        except OSError as error:
            if error.errno not in NO_ROOM_TAKEN:
                raise
    os.ftruncate(number, size)


def _header(shape: Sequence[int]) -> bytes:
    place = BytesIO()
    facts = {"descr": "<f2", "fortran_order": False, "shape": tuple(shape)}
    np.lib.format.write_array_header_1_0(place, facts)
    return place.getvalue()


def _row_bytes(shape: Sequence[int]) -> int:
    return 2 * int(np.prod(shape[1:], dtype=object))


def halved(values: Tensor, what: str) -> np.ndarray:
    """Values in half precision; raises InputError, saying of `what`, where it cannot hold them."""
    if not bool((values.abs() <= LARGEST_HALF).all()):
        raise InputError(
            f"{what} exceed {LARGEST_HALF:g}, the most that half precision holds, or are not finite"
        )
    halves: np.ndarray = values.half().cpu().numpy()
    return halves


def mapped_rows(path: str | Path, shape: Sequence[int], sha256: str | None = None) -> np.ndarray:
    """(rows, ...) half floats of this shape, read-only from `path`.

    Raises InputError naming the file if it is no plain file or no .npy of version 1, if its type, order,
    shape, number of bytes or SHA-256 is another, or if a value is not finite.
    """
    path = require_plain(path)
    try:
        with open(path, "rb") as file, warnings.catch_warnings(action="error"):
            if np.lib.format.read_magic(file) != (1, 0):
                raise ValueError("another version of the format")
            held, by_columns, kind = np.lib.format.read_array_header_1_0(file)
            start = file.tell()
    except Exception as error:  # whatever numpy's reader stumbles over
        raise InputError(f"{path} is damaged: {first_line(error, 120)}; remove it") from error
    if kind != np.float16 or by_columns or held != tuple(shape):
        raise InputError(
            f"{path} is damaged: it holds {kind} of shape {held}, not float16 of {tuple(shape)}; remove it"
        )
    expected = start + 2 * int(np.prod(held, dtype=object))
    if (size := path.stat().st_size) != expected:
        raise InputError(f"{path} is damaged: it has {size:,} bytes, not {expected:,}; remove it")
    if sha256 is not None and file_sha256(path) != sha256:
        raise InputError(f"{path} is damaged: its SHA-256 is not that of what was written; remove it")
    rows = np.memmap(path, np.float16, "r", start, tuple(shape))
    step = max(1, CHUNK // max(1, rows[:1].size))
    if not all(np.isfinite(rows[at : at + step]).all() for at in range(0, len(rows), step)):
        raise InputError(f"{path} is damaged: it holds values that are not finite; remove it")
    return rows
