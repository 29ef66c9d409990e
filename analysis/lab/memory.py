"""What becomes of memory that a process has freed; importing it costs no torch."""

import ctypes
import os
import sys

FREED = {  # glibc's variables: the option of mallopt, and how many bytes are kept
    "MALLOC_MMAP_THRESHOLD_": (-3, 2**25),  # pieces up to the most that it takes lie in the heap
    "MALLOC_TRIM_THRESHOLD_": (-1, 2**31 - 1),
}
DASKS = {"MALLOC_TRIM_THRESHOLD_": "65536"}  # what Dask's nannies give their workers, unless told otherwise


def keep_freed_memory() -> None:
    """Let memory that was freed stay with this process and those that it starts, on systems with glibc.

    Each step of a training frees what the next one takes. By default the largest pieces go back to the
    system, which fills them with zeros before it gives them again: a fifth of the time of a small
    convolutional network. Dask's nannies have all but 64 KiB sent back, which costs more. Whoever has set
    glibc's variables otherwise is left alone.
    """
    if {name: os.environ[name] for name in FREED if name in os.environ} not in ({}, DASKS):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    for name, (option, count) in FREED.items():
        os.environ[name] = str(count)  # of the processes that this one starts
        if mallopt is not None:
            mallopt(option, count)
