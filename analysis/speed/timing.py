"""One row of timings: ours and a peer's way to do the same, and memory while it is done."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


def seconds(work: Callable[[], Any] | None) -> float:
    """Wall-clock seconds of one run; NaN where there is no peer."""
    if work is None:
        return float("nan")
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def say(text: str) -> None:
    """Print a remark between the timings, in lines as the terminal has them."""
    from capacity.terminal import broken, printable

    print(printable(broken(text)))


@dataclass(frozen=True)
class Benchmark:
    """One row: what is done, by whom, and the ratio peer / ours (speed-up) that is the goal."""

    name: str
    peer: str
    goal: str
    ours: Callable[[], Any]
    theirs: Callable[[], Any] | None
