"""Checkpoints without loss: the same files come back, one layer is read alone, what is wrong is named."""

import hashlib
import json
import os
import random
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running import run_script
from safetensors.torch import load_file, save_file

from capacity import InputError
from compression.codec import Archive, decode, decode_checkpoint, encode_checkpoint, open_checkpoint
from compression.codec.archive import ENDS, FOOTER
from compression.codec.packing import pack
from compression.storage import write_folder_atomically


def weights(seed: int, dtype: torch.dtype = torch.bfloat16) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        f"layers.{seed}.weight": (torch.randn(64, 96, generator=generator) / 8).to(dtype),
        f"layers.{seed}.bias": torch.zeros(64, dtype=dtype),
        f"layers.{seed}.steps": torch.tensor(3),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards and their index as Hugging Face writes them, a state dict, and files without weights."""
    path = tmp_path_factory.mktemp("checkpoint") / "net"
    (path / "vae").mkdir(parents=True)
    shards = {f"model-{n:05}-of-00002.safetensors": weights(n) for n in (1, 2)}
    for name, tensors in shards.items():
        save_file(tensors, path / name, metadata={"format": "pt"})
    weight_map = {key: name for name, tensors in shards.items() for key in tensors}
    index = {"metadata": {}, "weight_map": weight_map}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    (path / "config.json").write_text("{}")
    tied = torch.randn(8, 16, generator=torch.Generator().manual_seed(5))
    torch.save({"first": tied, "second": tied, "across": tied.t(), "none": tied[:0]}, path / "vae" / "net.pt")
    torch.save({"optimizer": {"lr": 0.1}}, path / "optimizer.pt")
    return path


@pytest.fixture(scope="module")
def packed(folder: Path) -> Path:
    encode_checkpoint(folder, folder.with_name("packed"))
    return folder.with_name("packed")


def test_a_folder_comes_back(folder: Path, packed: Path, tmp_path: Path) -> None:
    decode_checkpoint(packed, tmp_path / "back")
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert names == sorted(
        path.relative_to(tmp_path / "back").as_posix()
        for path in (tmp_path / "back").rglob("*")
        if path.is_file()
    )
    for name in (name for name in names if name != "vae/net.pt"):
        assert (tmp_path / "back" / name).read_bytes() == (folder / name).read_bytes(), name
    before = torch.load(folder / "vae" / "net.pt", weights_only=True)
    after = torch.load(tmp_path / "back" / "vae" / "net.pt", weights_only=True)
    assert list(after) == list(before)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert after["first"].data_ptr() == after["second"].data_ptr() != after["across"].data_ptr()


def test_the_report_says_what_was_packed_and_what_copied(folder: Path, tmp_path: Path) -> None:
    told: list[str] = []
    report = encode_checkpoint(folder, tmp_path / "packed", on_progress=told.append)
    rows = {file.name: file for file in report.files}
    assert len(told) == len(rows) == 6 and "model-00001-of-00002.safetensors: " in told[1]
    shard = rows["model-00002-of-00002.safetensors"]
    source = folder / shard.name
    assert shard.source_bytes == source.stat().st_size and shard.tensors == 3 and not shard.copied
    assert shard.sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    assert rows["config.json"].copied == "no weights"
    assert "'optimizer' is dict" in rows["optimizer.pt"].copied
    assert report.file_bytes == sum(
        path.stat().st_size
        for path in (tmp_path / "packed").rglob("*")
        if path.name != "checkpoint.json" and path.is_file()
    )
    assert "checkpoint" not in str(report) and str(report).startswith(f"{report.source_bytes:,} -> ")


def test_one_layer_is_read_and_no_other(folder: Path, packed: Path, tmp_path: Path) -> None:
    """Of a file whose other tensors are destroyed one still comes back."""
    read = open_checkpoint(packed)
    assert len(read) == 10 and set(weights(1)) < set(read)
    for name, tensor in {**weights(1), **weights(2)}.items():
        assert read[name].dtype == tensor.dtype and torch.equal(read[name], tensor)
    shard = packed / "model-00001-of-00002.safetensors.dcz"
    wanted = Archive(shard).entries["layers.1.weight"]
    content = shard.read_bytes()
    kept = slice(wanted.start, wanted.start + wanted.size)
    end = len(content) - ENDS - FOOTER.size - FOOTER.unpack(content[-ENDS - FOOTER.size : -ENDS])[0]
    destroyed = (
        content[:ENDS] + bytes(kept.start - ENDS) + content[kept] + bytes(end - kept.stop) + content[end:]
    )
    (tmp_path / "one.dcz").write_bytes(destroyed)
    again = open_checkpoint(tmp_path / "one.dcz")
    assert torch.equal(again["layers.1.weight"], weights(1)["layers.1.weight"])
    with pytest.raises(InputError, match=r"one\.dcz is damaged: the checksum of 'layers\.1\.bias'"):
        again["layers.1.bias"]


DTYPES = [
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.int8, torch.int64, torch.uint8, torch.bool,
]  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kinds=st.lists(
        st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 9), max_size=3).map(tuple)), max_size=4
    ),
    suffix=st.sampled_from([".safetensors", ".pt"]), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_any_tensors_come_back(
    kinds: list[tuple[torch.dtype, tuple[int, ...]]], suffix: str, seed: int, tmp_path: Path
) -> None:
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for place, (dtype, shape) in enumerate(kinds):
        found = torch.empty(shape, dtype=dtype)
        most = 2 if dtype == torch.bool else 256
        count = found.numel() * dtype.itemsize
        bits = torch.randint(most, (count,), generator=generator, dtype=torch.uint8)
        tensors[f"t{place}"] = bits.view(dtype).reshape(shape) if count else found
    source, target, back = (tmp_path / f"{name}{suffix}" for name in ("source", "target", "back"))
    save_file(tensors, source) if suffix == ".safetensors" else torch.save(tensors, source)
    encode_checkpoint(source, target)
    back.unlink(missing_ok=True)
    decode_checkpoint(target, back)
    found = load_file(back) if suffix == ".safetensors" else torch.load(back, weights_only=True)
    assert suffix != ".safetensors" or back.read_bytes() == source.read_bytes()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype and found[name].shape == tensor.shape
        assert pack(found[name]) == pack(tensor)


def copy_of(packed: Path, target: Path) -> Path:
    write_folder_atomically(target, lambda inner: [
        (inner / p.relative_to(packed)).parent.mkdir(parents=True, exist_ok=True)
        or (inner / p.relative_to(packed)).write_bytes(p.read_bytes())
        for p in packed.rglob("*") if p.is_file()
    ])  # fmt: skip
    return target


def test_a_missing_or_damaged_shard_is_named(folder: Path, packed: Path, tmp_path: Path) -> None:
    shard = "model-00002-of-00002.safetensors"
    source = copy_of(folder, tmp_path / "source")
    (source / shard).unlink()
    with pytest.raises(InputError, match=f"source lacks {shard}, which model.safetensors.index.json names"):
        encode_checkpoint(source, tmp_path / "x")
    (source / shard).write_bytes((folder / shard).read_bytes()[:-5])
    with pytest.raises(InputError, match=f"{shard} is damaged"):
        encode_checkpoint(source, tmp_path / "x")
    for suffix, content in ((".dcz", None), (".dcz", b"PK"), (".dcz", b"DCZ\x09"), (".dcz", b"DCZ\x01")):
        broken = copy_of(packed, tmp_path / f"broken-{content}")
        (broken / (shard + suffix)).unlink()
        if content is not None:
            (broken / (shard + suffix)).write_bytes(content)
        for call in (
            lambda b=broken: decode_checkpoint(b, tmp_path / "x"),
            lambda b=broken: open_checkpoint(b),
        ):
            with pytest.raises(InputError, match=f"{shard}.dcz"):
                call()
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("broken")) == [
        "source"
    ]


def test_other_bad_input_is_refused(folder: Path, packed: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="packed is there already"):
        encode_checkpoint(folder, packed)
    with pytest.raises(InputError, match="is packed already"):
        encode_checkpoint(packed, tmp_path / "x")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("a")
    with pytest.raises(InputError, match="holds no weights"):
        encode_checkpoint(tmp_path / "texts", tmp_path / "x")
    with pytest.raises(InputError, match="was not written by encode_checkpoint"):
        open_checkpoint(folder)
    with pytest.raises(InputError, match="neither a file nor a folder"):
        encode_checkpoint(tmp_path / "nothing", tmp_path / "x")
    torch.save({"sparse": torch.eye(3).to_sparse()}, tmp_path / "sparse.pt")
    with pytest.raises(InputError, match=r"'sparse' cannot be coded: its layout is torch\.sparse_coo"):
        encode_checkpoint(tmp_path / "sparse.pt", tmp_path / "x")
    shard = packed / "model-00001-of-00002.safetensors.dcz"
    with pytest.raises(InputError, match="is a packed checkpoint: open_checkpoint reads it"):
        decode(shard, torch.nn.Linear(2000, 200))
    newer = shard.read_bytes()
    (tmp_path / "newer.dcz").write_bytes(newer[:3] + b"\x05" + newer[4:])
    with pytest.raises(InputError, match="format version 5; this release reads up to 4"):
        open_checkpoint(tmp_path / "newer.dcz")
    assert not (tmp_path / "x").exists()


def test_a_disk_that_is_full_in_the_middle_leaves_nothing(folder: Path, packed: Path, tmp_path: Path) -> None:
    """Files may not grow beyond so many bytes: the second shard is what does not fit."""
    script = (
        "import sys\n"
        "from compression.codec import decode_checkpoint, encode_checkpoint\n"
        "for call, source in ((encode_checkpoint, sys.argv[1]), (decode_checkpoint, sys.argv[2])):\n"
        "    try:\n"
        "        call(source, sys.argv[3])\n"
        "    except OSError as error:\n"
        "        print('OSError', error.filename)\n"
    )
    target = tmp_path / "target"
    done = run_script(script, str(folder), str(packed), str(target), largest_file=7000)
    assert done.stdout.splitlines() == [f"OSError {target}"] * 2
    assert list(tmp_path.iterdir()) == []


def fuzz(path: Path, bad_path: Path, count: int) -> None:
    """Change or cut a file, its index most often; each bit is under one of its checksums or lengths."""
    rng, content = random.Random(0), path.read_bytes()
    for _ in range(count):
        bad = bytearray(content)
        at = rng.randrange(len(bad)) if rng.random() < 0.5 else len(bad) - 1 - rng.randrange(400)
        if rng.random() < 0.2:
            del bad[at:]
        else:
            bad[at] ^= 1 << rng.randrange(8)
        bad_path.write_bytes(bad)
        with pytest.raises(InputError):
            dict(open_checkpoint(bad_path))


def test_mutated_files_are_refused(packed: Path, tmp_path: Path) -> None:
    fuzz(packed / "model-00001-of-00002.safetensors.dcz", tmp_path / "bad.dcz", 300)


@pytest.mark.slow
def test_twenty_thousand_mutated_files(packed: Path, tmp_path: Path) -> None:
    fuzz(packed / "model-00001-of-00002.safetensors.dcz", tmp_path / "bad.dcz", 20_000)


def with_index(content: bytes, change) -> bytes:
    """A file with another index and the checksum of that: what a hostile writer can do."""
    length, _, _ = FOOTER.unpack(content[-ENDS - FOOTER.size : -ENDS])
    start = len(content) - ENDS - FOOTER.size - length
    facts = json.loads(zlib.decompress(content[start : start + length]))
    change(facts)
    text = json.dumps(facts).encode()
    index = zlib.compress(text)
    return content[:start] + index + FOOTER.pack(len(index), len(text), zlib.crc32(index)) + content[-ENDS:]


HOSTILE = [
    (lambda facts: facts["tensors"][0].__setitem__(2, [2**40, 2**40]), "cannot hold"),
    (lambda facts: facts["tensors"][0].__setitem__(2, [-1, 3]), "no numbers"),
    (lambda facts: facts["tensors"][0].__setitem__(2, [True]), "no numbers"),
    (lambda facts: facts["tensors"][0].__setitem__(1, "float9"), "has no place"),
    (lambda facts: facts["tensors"][0].__setitem__(3, 2**50), "has no place"),
    (lambda facts: facts["tensors"][1].__setitem__(6, "nobody"), "said to be"),
    (lambda facts: facts["tensors"].append(facts["tensors"][0]), "has no place"),
    (lambda facts: facts["source"].pop("sha256"), "index makes no sense"),
    (lambda facts: facts.pop("tensors"), "index makes no sense"),
]


@pytest.mark.parametrize(("change", "message"), HOSTILE)
def test_a_hostile_index_is_refused(change, message: str, packed: Path, tmp_path: Path) -> None:
    content = (packed / "model-00001-of-00002.safetensors.dcz").read_bytes()
    (tmp_path / "bad.dcz").write_bytes(with_index(content, change))
    with pytest.raises(InputError, match=message):
        dict(open_checkpoint(tmp_path / "bad.dcz"))


def test_memory_stays_below_two_shards(tmp_path: Path) -> None:
    """A shard of 48 MiB in twelve tensors raises the peak by less than two of it."""
    generator = torch.Generator().manual_seed(0)
    tensors = {f"t{n}": torch.randn(1024, 1024, generator=generator) for n in range(12)}
    save_file(tensors, tmp_path / "net.safetensors")
    script = (
        "import resource, sys, torch\n"
        "from safetensors import safe_open\n"
        "from compression.codec import encode_checkpoint\n"
        "from compression.codec.packing import pack\n"
        "pack(torch.randn(100, 100))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "encode_checkpoint(sys.argv[1], sys.argv[2])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "net.safetensors"), str(tmp_path / "net.dcz")],
        capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "2"},
    )  # fmt: skip
    assert int(done.stdout) * 1024 < 2 * (tmp_path / "net.safetensors").stat().st_size
