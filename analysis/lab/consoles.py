"""Output that arrives, on consoles that lack characters too, and stops no run where it cannot."""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from capacity.characters import LOOKALIKE

Say = Callable[[str], None]  # what is done with a text: printed, unless somebody else has a use for it


def printed(text: str) -> None:
    """Print at once, also where the output is a file or a pipe."""
    print(text, flush=True)


class Patient:
    """A text stream that drops what is written once its reader has gone, so that a run ends as it would.

    So it does where the disk that it is written to is full, and says that on standard error.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        try:
            return self.stream.write(text)
        except OSError as error:
            return self._drop(len(text), error)

    def flush(self) -> None:
        try:
            self.stream.flush()
        except OSError as error:
            self._drop(0, error)

    def _drop(self, count: int, error: OSError) -> int:
        if not isinstance(error, BrokenPipeError):  # a log on a disk that is full
            with suppress(OSError):
                os.write(2, f"what is printed from here on is lost: {error.strerror}\n".encode())
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.stream.fileno())
        os.close(nowhere)
        return count

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def open_streams() -> None:
    """Let standard input, output and error that were closed lead nowhere.

    Else the next file that is opened takes their place, and what is printed is written into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w" if number else "r"))  # noqa: SIM115


@contextmanager
def patient_streams() -> Iterator[None]:
    """Standard output and error that neither a narrow encoding nor a closed pipe stops; then as before."""
    before = sys.stdout, sys.stderr
    for stream in before:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=LOOKALIKE)
    sys.stdout, sys.stderr = (Patient(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stdout, sys.stderr = before


def quiet_libraries() -> None:
    """Leave out what libraries tell of homes, semaphores, types and new databases: runs work.

    Where fewer processes compute for it, the run says so itself.
    """
    warnings.filterwarnings("ignore", message=".*joblib will operate in serial mode")
    for name in ("matplotlib", "torch.utils._pytree"):  # homes; torchao's types, which torch knows by now
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # MLflow sets its logger as it is imported
