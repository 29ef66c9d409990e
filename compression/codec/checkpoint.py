"""encode_checkpoint(): a file or folder of weights without loss, streamed, verified, and read by the layer.

A folder keeps its shape: each file of weights becomes one with `.dcz` behind its name, all others are copied,
and `checkpoint.json` lists them with their SHA-256. It appears under its name when it is whole.
"""

import hashlib
import json
import shutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from capacity import checks
from capacity.columns import KEY, Column
from capacity.errors import InputError
from capacity.tables import Table, Tabular
from compression.codec.archive import VERSION, Archive, ArchiveWriter, Source, bytes_of
from compression.codec.sources import SUFFIXES, opened
from compression.identity import file_sha256
from compression.storage import read_text, write_atomically, write_folder_atomically

LISTING, CODED, FORMAT = "checkpoint.json", ".dcz", "deepcapacity checkpoint"
Progress = Callable[[str], None]


@dataclass(frozen=True)
class CheckpointFile:
    """A file of a checkpoint: bytes before and after, and its SHA-256 (of the tensors for torch.save's)."""

    name: str
    tensors: int
    source_bytes: int
    file_bytes: int
    sha256: str
    copied: str = ""

    @property
    def share(self) -> float:
        """Bytes after / bytes before."""
        return self.file_bytes / max(1, self.source_bytes)


COLUMNS = (
    Column("name", "file", importance=KEY),
    Column("tensors", "tensors", style=",", importance=5),
    Column("source_bytes", "before", "bytes", style=",", importance=7),
    Column("file_bytes", "after", "bytes", style=",", importance=8),
    Column("share", "share", style=".1%", importance=9),
    Column("copied", "copied because", importance=6),
)


@dataclass(frozen=True)
class CheckpointReport(Tabular):
    """What became of each file of a checkpoint."""

    files: tuple[CheckpointFile, ...]

    @property
    def source_bytes(self) -> int:
        """Bytes of all files before."""
        return sum(file.source_bytes for file in self.files)

    @property
    def file_bytes(self) -> int:
        """Bytes of all files after."""
        return sum(file.file_bytes for file in self.files)

    def table(self) -> Table:
        """A row per file."""
        share = self.file_bytes / max(1, self.source_bytes)
        title = f"{self.source_bytes:,} -> {self.file_bytes:,} bytes ({share:.1%})"
        rows = [{**vars(file), "share": file.share} for file in self.files]
        return Table(COLUMNS, rows, title, label="tab:checkpoint")


def quiet(text: str) -> None:
    """Tell nobody."""


@checks.arguments(source=checks.path, target=checks.path, on_progress=checks.function(1))
def encode_checkpoint(
    source: str | Path, target: str | Path, *, on_progress: Progress = quiet
) -> CheckpointReport:
    """Pack a file or folder of weights without loss; every bit is read back and compared by SHA-256.

    Files are safetensors, or plain state dicts of torch.save (.bin, .pt, .pth, .ckpt); what else a folder
    holds is copied. Memory holds one tensor and its packed form. `on_progress` is told of each file.

    Raises InputError for a file that is damaged, or missing though an index names it, and for an occupied
    `target`; OSError where it cannot be written. Nothing is left then.
    """
    source, target = Path(source), Path(target)
    files: list[CheckpointFile] = []
    if source.is_file():
        write_atomically(target, lambda beside: files.append(_encoded(source, beside, source.name)))
        return CheckpointReport(tuple(files))
    names = _names(source)
    indexed = _indexed(source, names)

    def write(folder: Path) -> None:
        for name in names:
            files.append(_placed(source, folder, name, name in indexed))
            on_progress(f"{name}: {files[-1].source_bytes:,} -> {files[-1].file_bytes:,} bytes")
        if all(file.copied for file in files):
            raise InputError(f"{source} holds no weights: none of {', '.join(SUFFIXES)} that can be packed")
        facts = {"format": FORMAT, "version": VERSION, "files": [asdict(file) for file in files]}
        (folder / LISTING).write_text(json.dumps(facts, indent=1), encoding="utf-8")

    write_folder_atomically(target, write)
    return CheckpointReport(tuple(files))


def _names(folder: Path) -> list[str]:
    """Files below a folder, hidden ones left out."""
    if not folder.is_dir():
        raise InputError(f"{folder} is neither a file nor a folder")
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    names = sorted(p.as_posix() for p in paths if not any(part.startswith(".") for part in p.parts))
    if LISTING in names:
        raise InputError(f"{folder} is packed already, or has a {LISTING} of its own")
    return names


def _indexed(folder: Path, names: list[str]) -> set[str]:
    """The shards that an index names; raises InputError where one is missing."""
    shards_named: set[str] = set()
    for name in names:
        if name.endswith(".index.json"):
            try:
                shards = set(json.loads(read_text(folder / name))["weight_map"].values())
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise InputError(f"{folder / name} is damaged: {error}") from error
            place = Path(name).parent
            paths = {(place / str(shard)).as_posix() for shard in shards}
            if missing := sorted(paths.difference(names)):
                raise InputError(f"{folder} lacks {', '.join(missing[:5])}, which {name} names")
            shards_named |= paths
    return shards_named


def _placed(source: Path, folder: Path, name: str, indexed: bool) -> CheckpointFile:
    """A file packed, or copied where it holds no plain weights and no index says so."""
    path, into = source / name, folder / name
    into.parent.mkdir(parents=True, exist_ok=True)
    reason = "no weights"
    if path.suffix in SUFFIXES:
        try:
            return _encoded(path, into.with_name(into.name + CODED), name)
        except InputError as error:
            if indexed or path.suffix == ".safetensors":
                raise
            reason = str(error).partition(": ")[2][:60] or "no plain state dict"
    into.with_name(into.name + CODED).unlink(missing_ok=True)
    shutil.copyfile(path, into)
    size = into.stat().st_size
    return CheckpointFile(name, 0, size, size, file_sha256(into), reason)


def _encoded(path: Path, into: Path, name: str) -> CheckpointFile:
    """Pack one file, read it back, and compare."""
    digest = hashlib.sha256()
    with opened(path) as weights, open(into, "wb") as file:
        writer, size = ArchiveWriter(file), 0
        if weights.header is not None:
            digest.update(struct.pack("<Q", len(weights.header)) + weights.header)
            size = 8 + len(weights.header)
        for key, tensor, same_as in weights:
            writer.add(key, tensor, same_as)
            digest.update(bytes_of(tensor))
            size += tensor.nbytes
        if weights.header is not None and size != path.stat().st_size:
            raise InputError(f"{path} is damaged: it has bytes of no tensor")
        header = None if weights.header is None else weights.header.decode()
        writer.end(Source(path.name, path.stat().st_size, digest.hexdigest(), header))
    if sha256_of(archive := Archive(into)) != digest.hexdigest():
        raise OSError(f"{into} does not give back {path}: the disk or memory is at fault")
    size = archive.source.bytes
    return CheckpointFile(name, len(archive), size, into.stat().st_size, digest.hexdigest())


def sha256_of(archive: Archive, file: BinaryIO | None = None) -> str:
    """SHA-256 of what was packed, decoded anew, which is written to `file` if that is given."""
    digest = hashlib.sha256()
    for part in _parts(archive):
        digest.update(part)
        if file is not None:
            file.write(part)
    return digest.hexdigest()


def _parts(archive: Archive) -> Iterator[bytes | memoryview]:
    if archive.source.header is not None:
        header = archive.source.header.encode()
        yield struct.pack("<Q", len(header)) + header
    for name in archive:
        yield bytes_of(archive[name])
