"""What this machine has: memory, disk, cores; and how many processes these are enough for."""

import multiprocessing
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from capacity.inputs import first_line

LIMITS = (  # what the group of this process may hold, holds, and of what, by version of control groups
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
    ),
)


def size(count: int) -> str:
    """A number of bytes in a unit of a thousand, a million or a billion.

    >>> size(999), size(1_234_567), size(25_000_000_000)
    ('999 bytes', '1.2 MB', '25 GB')
    """
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:.2g} {unit}" if count < 10 * factor else f"{count / factor:,.0f} {unit}"
    return f"{count} bytes"


def free_disk(folder: Path) -> int:
    """Bytes free where a folder is, or will be."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free


def free_memory() -> int:
    """Bytes that can be taken: what the machine has left, or the group of processes that this one is in."""
    left = [int(psutil.virtual_memory().available)]
    left += [room for paths in LIMITS if (room := left_in_group(*paths)) is not None]
    return max(0, min(left))


def left_in_group(most: str | Path, held: str | Path, parts: str | Path) -> int | None:
    """Bytes that a group of processes may still take, by the files that say so; None without a limit.

    Files that were read and are kept only until their memory is needed do not count as held.
    """
    try:
        kinds = dict(line.split() for line in Path(parts).read_text().splitlines())
        cached = int(kinds.get("total_inactive_file", kinds.get("inactive_file", 0)))
        return int(Path(most).read_text()) - int(Path(held).read_text()) + cached
    except (OSError, ValueError):  # no such group, or "max"
        return None


def cores() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def fitting_processes(asked: int, cells: int, free: int) -> int:
    """How many of the processes asked for compute at once: no more than cells, cores, and memory for each.

    free: bytes of memory. Each process needs what this one holds, which has read the data too.
    Fewer for cores or memory are said.
    """
    own = int(psutil.Process().memory_info().rss)
    limits = {f"{cores()} cores": cores(), f"memory for {size(own)} each": free // own}
    reason = min(limits, key=lambda name: limits[name])
    count = max(1, min(asked, limits[reason]))
    if count < asked:
        print(f"{count} {'process' if count == 1 else 'processes'} at once, not {asked}: {reason}")
    return max(1, min(count, cells))


def why_no_workers() -> str:
    """Why this process cannot share semaphores with workers, as without /dev/shm; empty where it can."""
    try:
        multiprocessing.get_context("spawn").Lock()
    except (ImportError, OSError) as error:
        return (
            f"no semaphores can be shared ({first_line(error, 80)}: /dev/shm is missing, full or read-only)"
        )
    return ""


@contextmanager
def one_thread() -> Iterator[None]:
    """Within it torch computes on one thread; after it on as many as before, however it ends."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
