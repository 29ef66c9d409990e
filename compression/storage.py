"""Files that are whole or absent: written beside and renamed, one writer a folder, read only if plain.

What a killed process leaves beside a file is named `.FILE.xxxxxxxx.part`, and swept by the next one that
holds the folder.
"""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary, finalize

from filelock import FileLock, Timeout

from capacity.errors import InputError
from compression.processes import rank

LOCK = "writer.lock"
PART = re.compile(r"\..+\.[a-z0-9_]{8}\.part")
MOST_TEXT = 64 * 2**20  # bytes of the largest JSON or CSV file that is read


def write_atomically(path: str | Path, write: Callable[[Path], object]) -> None:
    """Call `write` on a path in a temporary folder beside, flush it to disk and rename it to `path`.

    Where several processes share a run, only the first one writes.

    Raises InputError where a folder, a pipe or a device lies there, OSError where it cannot be written; with
    nothing changed and nothing left.
    """
    if rank() > 0:
        return
    path = Path(path)
    if os.path.lexists(path) and not (path.is_symlink() or path.is_file()):
        raise InputError(f"{path} is no file, so none can be put in its place: choose another name")
    with _beside(path) as beside:
        write(beside)
        _flush_file(beside)
        os.replace(beside, path)


def write_folder_atomically(path: str | Path, write: Callable[[Path], object]) -> None:
    """Call `write` on a temporary folder beside, flush its files to disk and rename it to `path`.

    Raises InputError where `path` is occupied, OSError where it cannot be written, with nothing left.
    """
    path = Path(path)
    if os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir())):
        raise InputError(f"{path} is there already: name a folder that is not, or an empty one")
    with _beside(path) as beside:
        beside.mkdir()
        write(beside)
        for file in (file for file in beside.rglob("*") if file.is_file()):
            _flush_file(file)
        if path.exists():
            path.rmdir()
        os.replace(beside, path)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A place beside `path`, to be renamed to it inside; what is left there is removed.

    Raises OSError of `path` for one of the place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name[:100]}.", suffix=".part", dir=path.parent))
    try:
        yield folder / path.name
        _flush_folder(path.parent)
    except OSError as error:
        raise _about(error, path) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _flush_file(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _about(error: OSError, path: Path) -> OSError:
    """The error of a temporary file or a library, as one of the file that was to be written."""
    reason = error.strerror or str(error)
    return OSError(error.errno or errno.EIO, reason, str(path))


def _flush_folder(folder: Path) -> None:
    """Flush the renaming too, where the system can."""
    try:
        number = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return
    try:
        os.fsync(number)
    except OSError:  # nor do all file systems flush them
        pass
    finally:
        os.close(number)


def write_tensors(path: str | Path, save: Callable[[str], object]) -> None:
    """Write a safetensors file whole; what the library raises for a full disk becomes OSError."""
    from safetensors import SafetensorError

    def write(beside: Path) -> None:
        try:
            save(str(beside))
        except SafetensorError as error:
            raise OSError(errno.EIO, " ".join(str(error).split())) from error

    write_atomically(path, write)


def sweep_leftovers(folder: str | Path) -> list[Path]:
    """Remove the temporary folders that killed processes left below; only its one writer may call this."""
    leftovers = [p for p in Path(folder).rglob(".*.part") if PART.fullmatch(p.name) and not p.is_symlink()]
    for path in leftovers:
        shutil.rmtree(path, ignore_errors=True)
    return leftovers


def is_ours(name: str) -> bool:
    """Whether a file of this name is a lock or a left-over."""
    return name == LOCK or PART.fullmatch(name) is not None


class Hold:
    """The lock of a folder or file, held until nobody in this process refers to it any more.

    A process that dies lets go of it at once: the lock is the system's, the file only its place.
    """

    def __init__(self, path: Path, *, what: str, wait: bool) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(str(path), thread_local=False)
        try:
            lock.acquire(timeout=-1 if wait else 0.2)
        except Timeout as error:
            raise InputError(
                f"another process is at work in {what}: wait until it has ended, or choose another folder"
            ) from error
        except OSError as error:  # a file system without locks, which names no file
            raise error if error.filename else _about(error, path) from error
        finalize(self, lock.release)

    def __enter__(self) -> "Hold":
        return self

    def __exit__(self, *unused: Any) -> None:
        """Nothing: others in this process may hold it too."""


_HELD: "WeakValueDictionary[Path, Hold]" = WeakValueDictionary()


_HOLDERS: list[list[Hold]] = []


@contextmanager
def holding() -> Iterator[None]:
    """Keep every lock that is taken inside until the end, whoever refers to it."""
    holds: list[Hold] = []
    _HOLDERS.append(holds)
    try:
        yield
    finally:
        _HOLDERS.remove(holds)


def hold(folder: str | Path) -> Hold | None:
    """Hold a folder for writing, and sweep what killed processes left there.

    Of several processes the first one does, for all of them.

    Raises InputError if another process holds it, OSError if it cannot be written.
    """
    return (
        None if rank() > 0 else _held(Path(folder) / LOCK, what=str(folder), wait=False, sweep=Path(folder))
    )


def hold_file(path: str | Path) -> AbstractContextManager[Any]:
    """Hold a file that several runs share, waiting for another process that computes it.

    Where nothing can be written there is nothing to hold.
    """
    path = Path(path)
    if rank() > 0:
        return nullcontext()
    try:
        return _held(path.with_name(f"{path.name}.lock"), what=str(path), wait=True, sweep=None)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return nullcontext()
        raise


def _held(lock: Path, *, what: str, wait: bool, sweep: Path | None) -> Hold:
    key = lock.absolute()
    held = _HELD.get(key)
    if held is None:
        held = _HELD[key] = Hold(lock, what=what, wait=wait)
        if sweep is not None:
            sweep_leftovers(sweep)
    for holds in _HOLDERS:
        holds.append(held)
    return held


def require_plain(path: str | Path, most: int | None = None) -> Path:
    """The path, if it is a regular file of at most so many bytes, or one that does not exist.

    Raises InputError for folders, pipes, devices, links to them or without end, and for larger files.
    """
    path = Path(path)
    try:
        if os.path.lexists(path) and not path.is_file():
            raise InputError(f"{path} is no file")
        size = path.stat().st_size if path.exists() else 0
    except (OSError, ValueError) as error:  # a name that is none
        raise InputError(f"{path} cannot be read: {error}") from error
    if most is not None and size > most:
        raise InputError(f"{path} has {size:,} bytes, more than the {most:,} that it can hold")
    return path


def read_text(path: str | Path) -> str:
    """The text of a file; raises InputError for what is no plain file, too large, or no text."""
    try:
        return require_plain(path, MOST_TEXT).read_text(encoding="utf-8")
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}") from error
