"""Output that arrives: on consoles that lack characters, and in pipes whose reader has gone."""

import codecs
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

PLAIN = {
    "─": "-", "━": "-", "═": "=", "│": "|", "┃": "|", "║": "|", "±": "+/-", "×": "x", "→": "->", "–": "-",
    "—": "-", "“": '"', "”": '"', "‘": "'", "’": "'", "…": "...", "≤": "<=", "≥": ">=", "·": "*", "²": "^2",
}  # fmt: skip
CORNERS = "┌┐└┘├┤┬┴┼┏┓┗┛┡┩┢┪╇╈╞╡╪┠┨╭╮╰╯╶╴╺╸╷╵"


def plain(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that an encoding lacks by others that look alike, or by question marks.

    >>> "0.1 ± 0.2 │ ρ".encode("ascii", "deepcapacity.plain")
    b'0.1 +/- 0.2 | ?'
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join("+" if c in CORNERS else PLAIN.get(c, "?") for c in lacking), error.end


codecs.register_error("deepcapacity.plain", plain)


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
            stream.reconfigure(errors="deepcapacity.plain")
    sys.stdout, sys.stderr = (Patient(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stdout, sys.stderr = before
