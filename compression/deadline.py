"""A limit in seconds for work in somebody else's code that may not come to an end."""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from capacity.errors import InputError


class _TooLong(BaseException):
    """Raised inside the work by the watching thread; no library catches it."""


@contextmanager
def within(seconds: float, what: str) -> Iterator[None]:
    """Stop Python code of this thread after so many seconds.

    Raises InputError with `what` and the limit. A call into compiled code is waited for.
    """
    thread, lock, running = threading.get_ident(), threading.Lock(), True

    def stop() -> None:
        with lock:
            if running:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(_TooLong))

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        try:
            yield
        finally:
            with lock:
                running = False
            timer.cancel()
    except _TooLong:
        raise InputError(f"{what} did not come to an end within {seconds:g} seconds") from None
