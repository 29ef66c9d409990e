"""Mapped rows: what is no array of ours is refused by its header, before anything is read."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capacity import InputError
from compression.arrays import mapped_rows


def saved(path: Path, rows: np.ndarray) -> Path:
    with open(path, "wb") as file:
        np.save(file, rows)
    return path


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 9), width=st.integers(1, 9))
def test_rows_come_back_as_they_were(tmp_path_factory, rows: int, width: int) -> None:
    values = np.random.default_rng(rows).normal(size=(rows, width)).astype(np.float16)
    found = mapped_rows(saved(tmp_path_factory.mktemp("r") / "a.npy", values), (rows, width))
    assert np.array_equal(found, values) and not found.flags.writeable


@pytest.mark.parametrize(
    "rows",
    [np.zeros((3, 2), np.float32), np.zeros((3, 2), ">f2"), np.zeros((4, 2), np.float16),
     np.zeros((2, 3), np.float16), np.zeros(6, np.float16), np.asfortranarray(np.zeros((3, 2), np.float16)),
     np.full((3, 2), np.nan, np.float16), np.array([[None, 1]] * 3, object)],
    ids=["type", "bytes", "more rows", "turned", "flat", "by columns", "nan", "objects"],
)  # fmt: skip
def test_other_arrays_are_damaged(tmp_path: Path, rows: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", rows, allow_pickle=True)
    with pytest.raises(InputError, match=r"a\.npy is damaged"):
        mapped_rows(tmp_path / "a.npy", (3, 2))


@pytest.mark.parametrize(
    "text", ["", "[" * 9000, "{'descr': '<f2'}", "__import__('os')", "{'shape': (2**60,"]
)
def test_headers_that_are_none_are_damaged(tmp_path: Path, text: str) -> None:
    head = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()
    (tmp_path / "a.npy").write_bytes(head + bytes(12))
    with pytest.raises(InputError, match=r"a\.npy is damaged"):
        mapped_rows(tmp_path / "a.npy", (3, 2))


def test_cut_longer_and_no_files_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npy", np.zeros((3, 2), np.float16))
    whole = path.read_bytes()
    for content in (whole[:-1], whole + b"\0", whole[:5], b""):
        path.write_bytes(content)
        with pytest.raises(InputError, match="damaged"):
            mapped_rows(path, (3, 2))
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(InputError, match="is no file"):
            mapped_rows(tmp_path / name, (3, 2))
