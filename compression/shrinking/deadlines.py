"""A time limit on Python code that may not end, in any thread and without signals or a second process."""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from capacity.errors import InputError


class NoEnd(InputError):
    """What was asked for did not come to an end in its time; asking again would not help."""


class _Late(BaseException):
    """Raised inside the watched code; no `except Exception` of a library holds it back."""


@contextmanager
def time_limit(seconds: float, what: str) -> Iterator[None]:
    """Within it, Python code of this thread may run for `seconds`; then NoEnd is raised, which names `what`.

    A watching thread asks the interpreter to raise in this one (PyThreadState_SetAsyncExc), which happens
    between two bytecodes: a single call into C is not interrupted. What the code was changing is left half
    done, so it belongs on a copy.

    Raises NoEnd when the time is up.
    """
    raised = ctypes.pythonapi.PyThreadState_SetAsyncExc
    thread, over, gradients = (
        ctypes.c_ulong(threading.get_ident()),
        threading.Event(),
        torch.is_grad_enabled(),
    )

    def watch() -> None:
        wait = seconds
        while not over.wait(wait):
            raised(thread, ctypes.py_object(_Late))
            wait = 1.0

    watcher = threading.Thread(target=watch, daemon=True)

    def settle() -> None:
        over.set()
        watcher.join()
        raised(thread, None)  # what was asked for and did not come yet

    try:
        watcher.start()
        yield
        settle()
    except _Late:
        settle()
        torch.set_grad_enabled(gradients)
        raise NoEnd(f"{what} did not end within {seconds:.0f} s") from None
    finally:
        settle()
