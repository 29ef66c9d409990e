"""A bar on a terminal and in a notebook, and nothing where nobody looks."""

import re
import subprocess
import sys

import pytest

from compression.progress import in_notebook, reporting

CODE = """
from compression.progress import _Cell, in_notebook
assert in_notebook()
on_progress = _Cell(4, "epochs")
on_progress(1)
on_progress(3, "done")
"""


def test_a_notebook_shows_a_line_that_is_renewed_in_place() -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CODE)])
    (cell,) = nbclient.NotebookClient(made, kernel_name="python3").execute().cells
    (output,) = cell.outputs
    assert output["data"]["text/plain"] == f"done {'█' * 30} 4 of 4"


def test_a_terminal_shows_a_bar_on_standard_error() -> None:
    pty = pytest.importorskip("pty")
    code = (
        "from compression.progress import reporting\n"
        "with reporting(True, 2, 'epochs') as report:\n    report(1, 2); report(2, 2)"
    )
    shown: list[bytes] = []

    def keep(descriptor: int) -> bytes:
        import os

        shown.append(os.read(descriptor, 4096))
        return shown[-1]

    assert pty.spawn([sys.executable, "-c", code], keep) == 0
    assert re.search(rb"epochs.*2/2", b"".join(shown), re.DOTALL)


def test_a_pipe_shows_nothing() -> None:
    code = (
        "from compression.progress import reporting\n"
        "with reporting(True, 2, 'epochs') as report: report(1, 2)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")


def test_a_function_is_called_as_it_is() -> None:
    seen: list[tuple[int, int]] = []

    def note(done: int, total: int) -> None:
        seen.append((done, total))

    with reporting(note, 3, "epochs") as report:
        assert report is note
    for nothing in (None, False):
        with reporting(nothing, 3, "epochs") as report:
            assert report is None
    assert not in_notebook()
