"""How a run ends early: a signal ends all of its processes within seconds; workers end with their parent."""

import atexit
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import psutil

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
GRACE = 3.0  # seconds that a process has to end by itself
POLL = 0.5  # seconds between two looks at the parent
PR_SET_PDEATHSIG = 1  # of Linux's prctl: the signal that a process gets when the thread that started it ends
ADVICE = "interrupted; finished steps are kept, run the same command again to go on"


class Ended(KeyboardInterrupt):
    """Raised where a run is when a signal ends it."""

    def __init__(self, number: int) -> None:
        super().__init__(ADVICE)
        self.number = number


def status_of(error: KeyboardInterrupt) -> int:
    """The exit status of a run that a signal ended: 128 and the signal's number."""
    return 128 + (error.number if isinstance(error, Ended) else signal.SIGINT)


@contextmanager
def ended_by_signals(*, last: bool = False) -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP raise Ended inside, and end what does not end by itself.

    A thread hears the signal too: the processes that this one started are killed after GRACE seconds, and
    this one with them, where a long call in C lets no exception through, or Python passes over it, as in
    `__del__`. With `last` the process ends with what is inside, at once where a signal comes after that.
    Signals that are ignored stay so. Outside of the main thread nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _UNSAID[:] = [ADVICE]
    _ENDED.clear()
    over = threading.Event()
    chosen, restore = _listened(over)
    try:
        yield
    except Ended as error:  # while something else was being told
        tell_end(_write)
        raise SystemExit(status_of(error)) from None
    finally:
        if _ENDED:
            end_children()  # what was started just now and nobody waits for
        if _ENDED and last:
            _leave(128 + _ENDED[0])
        over.set()
        restore()
        for number in chosen if last else ():
            signal.signal(number, signal.SIG_DFL)  # all is done: whatever ends it now, ends it at once


def _listened(over: threading.Event) -> tuple[list[int], Callable[[], None]]:
    """Let signals raise Ended and a thread hear them: those that do, and what puts all back."""
    heard, writing = os.pipe()
    os.set_blocking(writing, False)
    chosen = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _raise) for number in chosen}
    other = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_listen, args=(heard, over), daemon=True, name="signals").start()
    hook = sys.unraisablehook
    sys.unraisablehook = lambda error: None if isinstance(error.exc_value, Ended) else hook(error)

    def restore() -> None:
        sys.unraisablehook = hook
        signal.set_wakeup_fd(other)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writing)

    return list(chosen), restore


def _raise(number: int, frame: FrameType | None) -> None:
    for each in SIGNALS:  # a second one may not interrupt the end
        signal.signal(each, _pass_over)
    _ENDED.append(number)
    raise Ended(number)


def _leave(status: int) -> None:
    """End this process in time: what was registered for its end is done, and not all is taken apart."""
    tell_end(_write)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _pass_over(number: int, frame: FrameType | None) -> None:
    """Do nothing: unlike SIG_IGN, that is a handler for a signal that has come already, too."""


def _listen(heard: int, over: threading.Event) -> None:
    """Wait for a signal that ends the run; nothing comes where the run is over before."""
    with os.fdopen(heard, "rb", buffering=0) as pipe:
        while (byte := pipe.read(1)) and byte[0] not in SIGNALS:
            pass
        if not byte or over.wait(GRACE):  # with the pipe open, which hears a second signal too
            return
    end_children()
    tell_end(_write)
    os._exit(128 + byte[0])


_ENDED: list[int] = []  # the number of the signal that was raised
_UNSAID = [ADVICE]  # what is to be said of an end, until one of two threads has said it
_SAYING = threading.Lock()


def tell_end(tell: Callable[[str], object]) -> None:
    """Say how to go on, unless that was said; a thread that ends the process waits until it is."""
    if _SAYING.acquire(timeout=1):
        try:
            if _UNSAID:
                tell(_UNSAID.pop())
        finally:
            _SAYING.release()


def _write(text: str) -> None:
    with suppress(OSError):
        os.write(2, f"{text}\n".encode())


def end_children() -> None:
    """Kill every process that this one started, and those that they did.

    Trackers of shared memory and semaphores stay: they remove what the others leave, and end with us.
    """
    with suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                if "resource_tracker" not in " ".join(child.cmdline()):
                    child.kill()


def end_with(parent: int) -> None:
    """Let this worker end as soon as its parent, the process of this number, has ended; on every system.

    Linux ends it at once, within a long call in C too; elsewhere, and where the parent was gone before, a
    thread sees to it. An interrupt at the keyboard, which reaches workers too, is left to the parent.
    """
    with suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_watch, args=(parent,), daemon=True, name="parent").start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL)
    end_children()
    os._exit(1)


def tell_late(rank: int, text: str) -> None:
    """Print what befell a process that follows, unless the first one ended all of them before."""
    time.sleep(2)
    print(f"rank {rank}: {text}", file=sys.__stderr__, flush=True)
