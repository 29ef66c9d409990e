"""A time limit on Python code that may not end, in any thread and without signals or a second process.

Time is what the processor spent on the thread, so that what comes out does not hang on what else runs on
the machine; a thread that waits is charged a part of the time on the clock.
"""

import ctypes
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from capacity.errors import InputError

WAITING = 0.1  # of the seconds in which a thread waits count


class NoEnd(InputError):
    """What was asked for did not come to an end in its time; asking again would not help."""


class _Late(BaseException):
    """Raised inside the watched code; no `except Exception` of a library holds it back."""


class Stopwatch:
    """Seconds of work of the thread that made it, since then; it may be read in another thread."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        clock = getattr(time, "pthread_getcpuclockid", None)  # not on every system
        self.processor = None if clock is None else clock(threading.get_ident())
        self.before = 0.0 if self.processor is None else time.clock_gettime(self.processor)

    def seconds(self) -> float:
        """How long the thread worked, or on a system that does not tell, how long ago it began."""
        passed = time.monotonic() - self.began
        if self.processor is None:
            return passed
        return max(time.clock_gettime(self.processor) - self.before, WAITING * passed)


class _Watcher(threading.Thread):
    """Asks the thread that made it to raise `_Late` after `seconds` of work, and each second from then on."""

    def __init__(self, seconds: float) -> None:
        super().__init__(daemon=True)
        self.left = seconds
        self.watched = ctypes.c_ulong(threading.get_ident())
        self.watch = Stopwatch()
        self.over, self.asked = threading.Event(), threading.Event()

    def ask(self) -> None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(self.watched, ctypes.py_object(_Late))

    def run(self) -> None:
        seconds = self.left
        while not self.over.wait(max(self.left, 0.001)):
            self.left = seconds - self.watch.seconds()
            if self.left <= 0:
                self.asked.set()
                self.ask()
                self.left = 1.0

    def settle(self) -> None:
        """Let no request be left: taken back, one would keep Python 3.11 from tracing anything ever after."""
        self.over.set()
        self.join()
        if not self.asked.is_set():
            return
        self.asked.clear()
        try:
            self.ask()  # in place of one that has not come yet
            while True:
                pass
        except _Late:
            pass


@contextmanager
def time_limit(seconds: float, what: str) -> Iterator[None]:
    """Within it, Python code of this thread may work for `seconds`; then NoEnd is raised, which names `what`.

    A watching thread asks the interpreter to raise in this one (PyThreadState_SetAsyncExc), which happens
    between two bytecodes: a single call into C is not interrupted. What the code was changing is left half
    done, so it belongs on a copy.

    Raises NoEnd when the time is up.
    """
    gradients = torch.is_grad_enabled()
    watcher = _Watcher(seconds)
    try:
        watcher.start()
        yield
        watcher.settle()
    except _Late:
        watcher.settle()
        torch.set_grad_enabled(gradients)
        raise NoEnd(f"{what} did not end within {seconds:.0f} s") from None
    finally:
        watcher.settle()
