"""A command keeps the memory that it frees, and so do its workers; whoever has said otherwise is heard."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.lab.memory import DASKS, FREED

ROUNDS, PIECE = 20, 20 * 2**20
COUNTED = f"""
import os, resource, subprocess, sys
if "keep" in sys.argv:
    from analysis.lab.memory import keep_freed_memory
    keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
piece = b"x" * {PIECE}
del piece
before = faults()
for _ in range({ROUNDS}):
    piece = b"x" * {PIECE}
    del piece
print(faults() - before, flush=True)
if "worker" in sys.argv:
    subprocess.run([sys.executable, "-c", sys.argv[1], sys.argv[1]], check=True)
"""


def faults(*words: str, **variables: str) -> list[int]:
    """Pages that the system gave to a process for its rounds, and to a worker of it."""
    clean = {key: value for key, value in os.environ.items() if key not in FREED}
    done = subprocess.run(
        [sys.executable, "-c", COUNTED, COUNTED, *words], env=clean | variables, check=True, text=True,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    return [int(line) for line in done.stdout.split()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other systems keep memory as they like")
def test_freed_memory_stays_with_a_command_and_its_workers() -> None:
    (given_back,) = faults(MALLOC_MMAP_THRESHOLD_=str(2**20))
    kept, of_worker = faults("keep", "worker")
    assert kept < given_back / 10 > of_worker
    (heard,) = faults("keep", MALLOC_MMAP_THRESHOLD_=str(2**20))
    assert heard > given_back / 2
    (of_nanny,) = faults("keep", **DASKS)
    assert of_nanny < given_back / 10


def test_commands_ask_for_it(tmp_path: Path) -> None:
    call = "from analysis.capacity_report import main; import os; main(); print(sorted(os.environ))"
    clean = {key: value for key, value in os.environ.items() if key not in FREED}
    done = subprocess.run(
        [sys.executable, "-c", call, "--smoke"], env=clean, check=True, text=True, stdout=subprocess.PIPE,
        cwd=tmp_path,
    )  # fmt: skip
    assert all(name in done.stdout for name in FREED)
