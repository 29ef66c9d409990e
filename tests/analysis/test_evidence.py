"""What the article says of how large a network need be: every macro is given, and is that of the runs."""

import re
from pathlib import Path

from analysis.answer import RECORDS
from analysis.lab.runs.loading import finished
from analysis.reproduce.evidence import answer_rows, evidence_numbers

ARTICLE = (Path(__file__).parents[2] / "paper" / "main.tex").read_text(encoding="utf-8")
SECTION = ARTICLE.partition("{How large, then?}")[2].partition(r"\section")[0]


def test_every_macro_of_the_section_is_given_and_every_one_is_used() -> None:
    numbers = dict(evidence_numbers())
    used = set(re.findall(r"\\((?:Sizing|Memory|Gap|Stay)[A-Za-z]+)", SECTION))
    assert used == set(numbers)
    assert all(value and "nan" not in value for value in numbers.values())


def test_the_answer_s_rows_are_those_of_the_command() -> None:
    rows = answer_rows().splitlines()
    assert len(rows) == 12 and all(row.count(" & ") == 2 and row.endswith(r"\\") for row in rows)
    assert any(row.startswith("the labels are [bit] & 4,294 & 179,273") for row in rows)
    assert not re.search(r"(?<!\\)%", "".join(rows))


def test_the_words_hold_in_the_runs() -> None:
    """What the section says without a number: bounds that hold, a heuristic that foretells nothing."""
    numbers = dict(evidence_numbers())
    assert numbers["MemoryProvenCrossed"] == "0" and int(numbers["MemoryCrossed"]) > 0
    assert "-" in numbers["SizingReachedLow"] and "+" in numbers["SizingReachedHigh"]
    assert int(numbers["SizingCovered"]) >= 0.8 * int(numbers["SizingSets"])
    assert int(numbers["GapPlace"]) > int(numbers["GapMeasures"]) / 2
    means = finished(RECORDS / "reparametrization").summary()
    margin = means[means["measure"] == "margin"]["verdict"]
    assert numbers["StayWhole"] == "1" and set(margin) <= {"exact", "equivalent"}
