"""How much memory this process holds, on every platform."""

import gc
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil


def resident_mib() -> float:
    """Resident memory of this process [MiB]."""
    return _resident_mib(psutil.Process())


def _resident_mib(process: Any) -> float:
    return float(process.memory_info().rss) / 2**20


def peak_mib(work: Callable[[], Any]) -> float:
    """How far the process's resident memory rises above where it was [MiB], sampled every 2 ms."""
    gc.collect()
    process = psutil.Process()
    before = peak = _resident_mib(process)
    running = True

    def watch() -> None:
        nonlocal peak
        while running:
            peak = max(peak, _resident_mib(process))
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        running = False
        watcher.join()
    return peak - before
