"""A few damaged run folders; and that the hook hears what is imported and written outside."""

import random
import shutil
from pathlib import Path

import pytest

from analysis.torture.folders import EVENTS, damage_folder, torture_folders, watch

RUNS = Path(__file__).parents[2] / "paper" / "runs"


@pytest.mark.parametrize("count", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_damaged_folders_are_refused_or_read(count: int) -> None:
    found = list(torture_folders([RUNS / "six-layer"], count=count, seed=3))
    assert len(found) == 5 * count and {outcome for _, outcome, _, _ in found} <= {"read", "refused"}, found


def test_damages_differ_and_repeat(tmp_path: Path) -> None:
    texts = []
    for place, seed in enumerate((1, 1, 5)):
        folder = Path(shutil.copytree(RUNS / "six-layer", tmp_path / str(place)))
        damage_folder(folder, random.Random(seed))
        small = [path for path in folder.iterdir() if path.is_file() and path.stat().st_size < 2**20]
        texts.append(sorted((path.name, path.read_bytes()) for path in small))
    assert texts[0] == texts[1]


def test_the_hook_hears_what_leads_out(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "sprung_here.py").write_text("")
    (tmp_path / "run").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    watch(tmp_path / "run")
    (tmp_path / "run" / "inside").write_text("x")
    assert EVENTS == []
    (tmp_path / "outside").write_text("x")
    import sprung_here  # noqa: F401

    assert any("outside" in event for event in EVENTS) and any("sprung_here" in event for event in EVENTS)
