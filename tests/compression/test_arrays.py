"""Mapped rows: what is no array of ours is refused by its header, before anything is read."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from capacity import InputError
from compression.arrays import LARGEST_HALF, RowWriter, halved, mapped_rows, take_room
from compression.identity import file_sha256


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


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 9), width=st.integers(1, 9), split=st.integers(0, 9))
def test_rows_written_in_batches_are_the_file_that_numpy_writes(
    tmp_path_factory, rows: int, width: int, split: int
) -> None:
    folder = tmp_path_factory.mktemp("r")
    values = np.random.default_rng(rows).normal(size=(rows, width)).astype(np.float16)
    split = min(split, rows)
    with RowWriter(folder / "a.npy", values.shape) as writer:
        writer.add(values[:split])
        sha256 = writer.save()
    with RowWriter(folder / "a.npy", values.shape, rows=split, sha256=sha256 if split else "") as writer:
        writer.add(values[split:])
        assert writer.save() == file_sha256(folder / "a.npy")
    assert (folder / "a.npy").read_bytes() == saved(folder / "b.npy", values).read_bytes()


def test_rows_go_on_only_behind_those_that_were_written(tmp_path: Path) -> None:
    with RowWriter(tmp_path / "a.npy", (4, 3)) as writer:
        writer.add(np.ones((2, 3), np.float16))
        sha256 = writer.save()
    content = bytearray((tmp_path / "a.npy").read_bytes())
    content[130] ^= 1
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.npy is damaged"):
        RowWriter(tmp_path / "a.npy", (4, 3), rows=2, sha256=sha256)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="is no file"):
        RowWriter(tmp_path / "pipe", (4, 3))


def test_another_digest_is_damage(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npy", np.zeros((3, 2), np.float16))
    sha256 = file_sha256(path)
    assert mapped_rows(path, (3, 2), sha256).shape == (3, 2)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="SHA-256"):
        mapped_rows(path, (3, 2), sha256)


def test_room_is_taken_at_once(tmp_path: Path) -> None:
    with open(tmp_path / "a", "wb") as file:
        take_room(file.fileno(), 2**20)
    assert os.stat(tmp_path / "a").st_size == 2**20
    if hasattr(os, "posix_fallocate"):
        assert os.stat(tmp_path / "a").st_blocks * 512 >= 2**20


@pytest.mark.parametrize("value", [LARGEST_HALF * 1.01, -1e9, float("nan"), float("inf")])
def test_what_half_precision_does_not_hold_is_refused(value: float) -> None:
    assert halved(torch.tensor([LARGEST_HALF, -LARGEST_HALF]), "x").tolist() == [LARGEST_HALF, -LARGEST_HALF]
    with pytest.raises(InputError, match="the features exceed 65504"):
        halved(torch.tensor([0.0, value]), "the features")
