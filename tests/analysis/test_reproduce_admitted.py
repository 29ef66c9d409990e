"""Run folders that no line may rest on are named with the reason, and left out."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from analysis.lab.measurement.verdict import Verdict
from analysis.reproduce import trained
from analysis.reproduce.admitted import recorded
from analysis.reproduce.effects import effect_lines
from analysis.reproduce.trained import TRAINED, trained_lines

RUNS = Path(__file__).parents[2] / "paper/runs"


def settings(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        facts = json.loads((folder / "config.json").read_text())
        for name in ("settings", "all_settings"):
            facts[name] |= changes
        facts.pop("sha256_of_the_rest", None)
        (folder / "config.json").write_text(json.dumps(facts))

    return change


def command(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        facts = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(facts | {"command": name}))

    return change


def rows(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        change(pd.read_csv(folder / "results.csv")).to_csv(folder / "results.csv", index=False)

    return apply


def table(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "results.csv").write_text(text) and None


BAD = {
    "another version's settings": (settings(epochs="many"), "its epochs cannot be 'many'"),
    "another version's columns": (
        rows(lambda frame: frame.rename(columns={"top1_error": "error"})),
        "is of another version: its results.csv lacks top1_error",
    ),
    "another data set": (settings(dataset="fashion-mnist"), "is of fashion-mnist, and its preset of mnist"),
    "a folder of other pictures": (
        settings(dataset="imagefolder:cats"), "is of imagefolder:cats, and its preset of mnist",
    ),
    "a part of the data": (settings(limit=100), "used 100 samples, and its preset uses all"),
    "a quick pass": (settings(smoke=True), "is a quick pass"),
    "half finished": (lambda folder: (folder / "results.csv").unlink(), "has not come to its end"),
    "an unknown command": (command("distillation"), "holds a run of 'distillation'"),
    "another command": (command("pruning_curve"), "its preset cannot be 'report-d'"),
    "another command's table": (
        lambda folder: shutil.copy(RUNS / "frontier-lenet5/results.csv", folder) and None,
        "its summary fails",
    ),
    "an empty table": (table(""), "is no table"),
    "a table without rows": (rows(lambda frame: frame.head(0)), "holds no row of results"),
    "unknown columns alone": (table("a,b\n1,2\n"), "lacks seed and top1_error"),
    "an error that is not a number": (
        rows(lambda frame: frame.assign(top1_error=frame["top1_error"].where(frame.index != 2))),
        "holds an error of nan, in row 3",
    ),
    "an error beyond all": (
        rows(lambda frame: frame.assign(top1_error=1.7)), "holds an error of 1.7, in row 1",
    ),
    "a word as an error": (rows(lambda frame: frame.assign(top1_error="low")), "no number: 'low'"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_run_is_named_and_left_out(name: str, tmp_path: Path, monkeypatch) -> None:
    change, reason = BAD[name]
    monkeypatch.setattr(
        trained, "TRAINED", [row for row in TRAINED if (row.report, row.preset) == ("D", "report-d")][:2]
    )
    folder = shutil.copytree(RUNS / "students-mnist", tmp_path / "students")
    assert {line.verdict for line in trained_lines(recorded([tmp_path]))} <= {*Verdict} - {Verdict.NOT_RUN}
    change(folder)
    told: list[str] = []
    runs = recorded([tmp_path], told.append)
    assert runs == [] and len(told) == 1 and str(folder) in told[0] and reason in told[0], told
    assert {line.verdict for line in trained_lines(runs)} == {Verdict.NOT_RUN}
    assert {line.verdict for line in effect_lines(runs)} == {Verdict.NOT_RUN}


def test_a_column_that_is_not_known_changes_nothing(tmp_path: Path) -> None:
    folder = shutil.copytree(RUNS / "report-e-pruned-reduced", tmp_path / "pruned")
    before = [*effect_lines(recorded([tmp_path]))]
    rows(lambda frame: frame.assign(later=1))(folder)
    told: list[str] = []
    assert [*effect_lines(recorded([tmp_path], told.append))] == before and told == []
    judged = {line.item: line.verdict for line in before if line.verdict != Verdict.NOT_RUN}
    assert judged["random in place of L1 pruning, at 50 %, at reduced scale"] == Verdict.WORSE


def test_what_waits_elsewhere_is_not_named(tmp_path: Path) -> None:
    """A run in progress that no line waits for is nobody's business here."""
    folder = shutil.copytree(RUNS / "sizing", tmp_path / "sizing")
    (folder / "results.csv").unlink()
    told: list[str] = []
    assert recorded([tmp_path], told.append) == [] and told == []
