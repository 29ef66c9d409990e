"""Files whole or absent, one writer at a time, left-overs swept, what is no plain file refused."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from capacity import InputError
from compression.checkpoints import load_json, load_model, save_json, save_model
from compression.storage import (
    hold,
    hold_file,
    is_ours,
    read_text,
    sweep_leftovers,
    write_atomically,
)

HOLDER = (
    "import sys\nfrom compression.storage import hold\n"
    "held = hold(sys.argv[1])\nprint('held', flush=True)\nsys.stdin.read()\n"
)


def holder(folder: Path) -> subprocess.Popen:
    """Another process that holds a folder until its input ends."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], **pipes)
    assert process.stdout.readline() == "held\n"
    return process


def test_one_writer_at_a_time_and_a_killed_one_lets_go(tmp_path: Path) -> None:
    with holder(tmp_path) as other:
        with pytest.raises(InputError, match="another process is at work in"):
            hold(tmp_path)
        other.kill()
        other.wait()
        first = hold(tmp_path)
        assert hold(tmp_path) is first  # in one process as often as it likes
    del first
    with holder(tmp_path) as other:  # nobody here refers to it any more
        other.stdin.close()
    with hold_file(tmp_path / "cache.npy"):
        assert {path.name for path in tmp_path.iterdir()} == {"writer.lock", "cache.npy.lock"}


def test_what_a_killed_writer_leaves_is_swept_by_the_next(tmp_path: Path) -> None:
    def die(beside: Path) -> None:
        beside.write_text("half")
        os._exit(1)

    (tmp_path / "seed-0").mkdir()
    if (child := os.fork()) == 0:
        write_atomically(tmp_path / "seed-0" / "weights", die)
    os.waitpid(child, 0)
    (tmp_path / ".mine").write_text("not ours")
    (left,) = (tmp_path / "seed-0").iterdir()
    assert is_ours(left.name) and not is_ours(".mine")
    hold(tmp_path)
    assert not list((tmp_path / "seed-0").iterdir()) and (tmp_path / ".mine").exists()
    assert sweep_leftovers(tmp_path) == []


def test_errors_name_the_file_that_was_to_be_written(tmp_path: Path) -> None:
    def full(beside: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(beside))

    with pytest.raises(OSError, match=r"No space left on device.*/f\.json'$") as caught:
        write_atomically(tmp_path / "f.json", full)
    assert caught.value.errno == errno.ENOSPC and not list(tmp_path.iterdir())


def test_what_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    (tmp_path / "itself").symlink_to("itself")
    for name in ("pipe", "endless", "itself", "."):
        with pytest.raises(InputError, match="is no file"):
            read_text(tmp_path / name)
    with open(tmp_path / "large", "wb") as file:
        file.truncate(2**33)
    with pytest.raises(InputError, match="8,589,934,592 bytes, more than"):
        load_json(tmp_path / "large")
    with pytest.raises(InputError, match=r"large has 8,589,934,592 bytes"):
        load_model(nn.Linear(2, 2), tmp_path / "large")


@pytest.mark.parametrize("text", ["[1, 2]", "null", "[" * 100_000, "{}", '{"a": 1}', "\ud800", "1" * 5000])
def test_json_that_is_not_ours_is_damaged(tmp_path: Path, text: str) -> None:
    (tmp_path / "f.json").write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(InputError, match=r"f\.json is damaged"):
        load_json(tmp_path / "f.json")


@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_every_bit_of_a_fact_and_of_a_weight_counts(tmp_path_factory, place: int, bit: int) -> None:
    folder = tmp_path_factory.mktemp("f")
    model, facts = nn.Linear(3, 2), {"error": 0.125, "names": ["a", "ρ"], "left": None}
    save_model(model, folder / "m")
    save_json(folder / "f", facts)
    for name in ("m", "f"):
        content = bytearray((folder / name).read_bytes())
        content[place % len(content)] ^= 1 << bit
        (folder / name).write_bytes(content)
    found = nn.Linear(3, 2)
    try:
        assert torch.equal(load_model(found, folder / "m").weight, model.weight)
        assert torch.equal(found.bias, model.bias)
    except InputError as error:
        assert str(folder / "m") in str(error)
    try:
        assert load_json(folder / "f") == facts
    except InputError as error:
        assert str(folder / "f") in str(error)


def test_a_file_of_ours_without_its_checksum_is_damaged_another_s_is_not(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    save_file(dict(model.state_dict()), tmp_path / "ours", metadata={"format": "deepcapacity"})
    with pytest.raises(InputError, match="damaged"):
        load_model(nn.Linear(2, 2), tmp_path / "ours")
    save_file(dict(model.state_dict()), tmp_path / "others", metadata={"format": "pt"})
    assert torch.equal(load_model(nn.Linear(2, 2), tmp_path / "others").weight, model.weight)
    with pytest.raises(InputError, match="damaged"):
        load_model(nn.Linear(2, 2), tmp_path / "others", sealed=True)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_what_is_no_file_is_not_replaced_by_one(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(InputError, match=f"{name} is no file, so none can be put in its place"):
            write_atomically(tmp_path / name, lambda beside: beside.write_text("x"))
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode) and (tmp_path / "folder").is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "pipe"]
