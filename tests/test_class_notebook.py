"""The class on the theory: it runs anew, tells right numbers, and names no folder of a machine."""

import re
from pathlib import Path

import nbformat
import pytest

from analysis.lab.reporting.documents import executed

NOTEBOOK = Path(__file__).parents[1] / "paper" / "notebooks" / "capacity.ipynb"
KNOWN = (  # worked out by hand, in the order of the class
    "3-3-3-1 18", "102,772,992 bits in all", "10 0.500000", "196 134 972", "total 11 11",
    "all layers: 2,064 bits", "AND 1 4 2", "XOR 2 8 4", "1,056 bits of capacity", "random labels of 317 rows",
)  # fmt: skip


def code_cells(text: str) -> list:
    return [cell for cell in nbformat.reads(text, as_version=4).cells if cell.cell_type == "code"]


def words(text: str) -> str:
    """What the cells put out, in order, without rules and spaces of tables."""
    found = []
    for output in (output for cell in code_cells(text) for output in cell.outputs):
        assert output.get("name") != "stderr", output.text
        found.append(output.text if output.output_type == "stream" else output.data["text/plain"])
    return " ".join(re.sub("[\u2500-\u257f|]", " ", " ".join(found)).split())


@pytest.fixture(scope="module")
def again() -> str:
    return executed(NOTEBOOK.read_text(encoding="utf-8"), NOTEBOOK.parent)


def test_the_class_runs_anew_and_tells_the_known_numbers(again: str) -> None:
    text, place = words(again), 0
    for known in KNOWN:
        place = text.index(known, place)
    assert "image/png" in again


def test_what_is_printed_stays_text_in_its_place(again: str) -> None:
    printed = [cell for cell in code_cells(again) if "print(report)" in cell.source]
    assert len(printed) == 1
    assert [output.output_type for output in printed[0].outputs] == ["stream"]


def test_the_class_on_record_holds_its_outputs_and_no_path() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    cells = code_cells(text)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert all(known in words(text) for known in KNOWN)
    assert not re.search(r"[\s\"'(](/(home|root|tmp|work|Users)/|[A-Z]:\\\\)", text)
