"""Rows of half floats in a .npy file, memory-mapped; its header is checked before it is believed."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from capacity.errors import InputError
from capacity.inputs import first_line
from compression.storage import require_plain

CHUNK = 2**22  # values looked at together


def mapped_rows(path: str | Path, shape: Sequence[int]) -> np.ndarray:
    """(rows, ...) half floats of this shape, read-only from `path`.

    Raises InputError naming the file if it is no plain file or no .npy of version 1, if its type, order,
    shape or number of bytes is another, or if a value is not finite.
    """
    path = require_plain(path)
    try:
        with open(path, "rb") as file:
            if np.lib.format.read_magic(file) != (1, 0):
                raise ValueError("another version of the format")
            found, by_columns, kind = np.lib.format.read_array_header_1_0(file)
            start = file.tell()
    except Exception as error:  # whatever numpy's reader stumbles over
        raise InputError(f"{path} is damaged: {first_line(error, 120)}; remove it") from error
    if kind != np.float16 or by_columns or found != tuple(shape):
        raise InputError(
            f"{path} is damaged: it holds {kind} of shape {found}, not float16 of {tuple(shape)}; remove it"
        )
    expected = start + 2 * int(np.prod(found, dtype=object))
    if (size := path.stat().st_size) != expected:
        raise InputError(f"{path} is damaged: it has {size:,} bytes, not {expected:,}; remove it")
    rows = np.memmap(path, np.float16, "r", start, tuple(shape))
    step = max(1, CHUNK // max(1, rows[:1].size))
    if not all(np.isfinite(rows[at : at + step]).all() for at in range(0, len(rows), step)):
        raise InputError(f"{path} is damaged: it holds values that are not finite; remove it")
    return rows
