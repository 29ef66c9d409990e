"""Time as a program has it: seconds in which it waits for a processor that others hold do not count."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

WAITED = Path("/proc/thread-self/schedstat")  # nanoseconds run, and waited for a processor
POLL = 0.25


class Late(BaseException):
    """Raised where something takes too long."""


def seconds() -> float:
    """Seconds of this thread since some moment; of the clock where the system does not tell its waits."""
    try:
        waited = int(WAITED.read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        waited = 0.0
    return time.monotonic() - waited


@contextmanager
def in_time(most: float) -> Iterator[None]:
    """Raise Late inside after so many seconds, again where it is passed over; in the main thread."""
    began = seconds()

    def look(number: int, frame: FrameType | None) -> None:
        if seconds() - began > most:
            raise Late

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, POLL, POLL)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
