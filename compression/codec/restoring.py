"""Packed checkpoints read by the tensor, and restored to the files that they were."""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from capacity import checks
from capacity.errors import InputError
from compression.codec.archive import VERSION, Archive
from compression.codec.checkpoint import (
    CODED,
    FORMAT,
    LISTING,
    CheckpointFile,
    Progress,
    quiet,
    sha256_of,
)
from compression.identity import file_sha256
from compression.storage import read_text, write_atomically, write_folder_atomically


class Checkpoint(Mapping[str, Tensor]):
    """The tensors of a packed folder by name, whichever file they are in; each is read when asked for."""

    def __init__(self, folder: Path) -> None:
        self.archives = [Archive(folder / (file.name + CODED)) for file in _listed(folder) if not file.copied]
        self.places: dict[str, Archive] = {}
        for archive in self.archives:
            for name in archive:
                if name in self.places:
                    both = f"{self.places[name].path.name} and {archive.path.name}"
                    raise InputError(f"{name!r} is in {both}: open one of these files")
                self.places[name] = archive

    def __getitem__(self, name: str) -> Tensor:
        return self.places[name][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


@checks.arguments(path=checks.path)
def open_checkpoint(path: str | Path) -> Mapping[str, Tensor]:
    """The tensors of a packed file or folder by name; each is read from disk, and checked, when asked for.

    Raises InputError for a file that is damaged, missing or of a newer version: which one.
    """
    path = Path(path)
    return Checkpoint(path) if path.is_dir() else Archive(path)


@checks.arguments(source=checks.path, target=checks.path, on_progress=checks.function(1))
def decode_checkpoint(source: str | Path, target: str | Path, *, on_progress: Progress = quiet) -> None:
    """Restore what `encode_checkpoint` packed: safetensors and copied files byte for byte.

    State dicts of torch.save come back as such, tied tensors tied, with the same bits in each tensor.

    Raises InputError for a file that is damaged, missing or of a newer version: which one; and for an
    occupied `target`; OSError where it cannot be written. Nothing is left then.
    """
    source, target = Path(source), Path(target)
    if not source.is_dir():
        archive = Archive(source)
        write_atomically(target, lambda beside: _restore(archive, beside, archive.source.sha256))
        return
    files = _listed(source)

    def write(folder: Path) -> None:
        for file in files:
            into = folder / file.name
            into.parent.mkdir(parents=True, exist_ok=True)
            if file.copied:
                shutil.copyfile(source / file.name, into)
                if file_sha256(into) != file.sha256:
                    raise InputError(f"{source / file.name} is damaged: its SHA-256 does not match")
            else:
                _restore(Archive(source / (file.name + CODED)), into, file.sha256)
            on_progress(f"{file.name}: {file.source_bytes:,} bytes")

    write_folder_atomically(target, write)


def _listed(folder: Path) -> list[CheckpointFile]:
    """The files of a packed folder; raises InputError where one is missing, and for other folders."""
    try:
        facts = json.loads(read_text(folder / LISTING))
        if facts["format"] != FORMAT:
            raise InputError(f"{folder} was not written by encode_checkpoint")
        if facts["version"] > VERSION:
            raise InputError(
                f"{folder} has format version {facts['version']}; this release reads up to {VERSION}"
            )
        files = [CheckpointFile(**file) for file in facts["files"]]
        names = {file.name: file.name + ("" if file.copied else CODED) for file in files}
        outside = [name for name in names if Path(name).is_absolute() or ".." in Path(name).parts]
    except FileNotFoundError as error:
        raise InputError(f"{folder} was not written by encode_checkpoint: it has no {LISTING}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{folder / LISTING} is damaged: {error}") from error
    missing = [name for name in names.values() if not (folder / name).is_file()]
    if outside or missing:
        raise InputError(f"{folder} lacks {', '.join((outside or missing)[:5])}, which {LISTING} names")
    return files


def _restore(archive: Archive, into: Path, sha256: str) -> None:
    """Write what was packed, and compare its SHA-256."""
    with open(into, "wb") as file:
        digest = sha256_of(archive, file if archive.source.header is not None else None)
    if archive.source.header is None:
        _save_state_dict(archive, into)
    if digest != sha256:
        raise InputError(f"{archive.path} is damaged: what it holds has another SHA-256 than was packed")


def _save_state_dict(archive: Archive, into: Path) -> None:
    import torch

    tensors: dict[str, Any] = {}
    for name, entry in archive.entries.items():
        tensors[name] = archive[name] if entry.same_as is None else tensors[entry.same_as]
    try:
        torch.save(tensors, into)
    except RuntimeError as error:  # what its writer makes of a full disk
        raise OSError(f"{into}: {' '.join(str(error).split())[:160]}") from error
