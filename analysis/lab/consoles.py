"""Output that arrives: on consoles that lack characters, and in pipes whose reader has gone."""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from capacity.characters import LOOKALIKE

Say = Callable[[str], None]  # what is done with a text: printed, unless somebody else has a use for it


class Patient:
    """A text stream that drops what is written once its reader has gone, so that a run ends as it would."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        try:
            return self.stream.write(text)
        except BrokenPipeError:
            return self._drop(len(text))

    def flush(self) -> None:
        try:
            self.stream.flush()
        except BrokenPipeError:
            self._drop(0)

    def _drop(self, count: int) -> int:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.stream.fileno())
        os.close(nowhere)
        return count

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


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
    """Leave out what libraries tell of homes that cannot be written and of missing semaphores: runs work.

    Where fewer processes compute for it, the run says so itself.
    """
    warnings.filterwarnings("ignore", message=".*joblib will operate in serial mode")
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
