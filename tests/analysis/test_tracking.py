"""--track: the rows of a command in TensorBoard, MLflow or Weights & Biases."""

from pathlib import Path

import pandas as pd
import pytest

from analysis.capacity_curve import main
from analysis.lab.reporting.tracking import entries, naming_columns, track_rows, words_of
from capacity import InputError

FRAME = pd.DataFrame(
    {
        "seed": [0, 0, 0, 1], "technique": ["dense", "pruned", "pruned", "dense"], "step": [0, 0, 1, 0],
        "top1_error": [0.1, 0.2, 0.3, 0.4], "convention": ["previous"] * 4,
        "half": [1.0, float("nan"), 2.0, 3.0],
    }
)  # fmt: skip


def test_words_are_what_is_no_number() -> None:
    assert words_of(FRAME) == ["technique", "convention"]
    assert naming_columns(FRAME[FRAME["seed"] == 0]) == ["technique"]
    assert naming_columns(FRAME[1:3]) == [] and naming_columns(FRAME[:3].drop(columns="step")) == [
        "technique"
    ]


def test_steps_never_go_back() -> None:
    (first, zero), (second, one) = entries(FRAME[FRAME["seed"] == 0])
    assert (zero, one) == (0, 1)
    assert (first["dense/top1_error"], first["pruned/top1_error"], second["pruned/top1_error"]) == (
        0.1,
        0.2,
        0.3,
    )


def test_a_store_that_takes_nothing_is_named(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / f"{tmp_path.name}-seed-0").write_text("no folder", encoding="utf-8")
    with pytest.raises(InputError, match="tensorboard did not take the rows, which lie in"):
        track_rows(FRAME, ["tensorboard"], tmp_path, "comparison", {})


def test_each_seed_is_a_run_with_its_rows(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    track_rows(FRAME, ["tensorboard"], tmp_path / "run", "comparison", {"epochs": 3})
    runs = {path.name: EventAccumulator(str(path)) for path in (tmp_path / "run").iterdir()}
    assert set(runs) == {"run-seed-0", "run-seed-1"}
    for events in runs.values():
        events.Reload()
    first = runs["run-seed-0"]
    assert [(e.step, round(e.value, 6)) for e in first.Scalars("pruned/top1_error")] == [(0, 0.2), (1, 0.3)]
    assert [(e.step, e.value) for e in first.Scalars("pruned/half")] == [(1, 2.0)]
    assert "dense/convention" not in first.Tags()["scalars"]


def test_commands_track_or_say_what_is_missing_before_anything_is_computed(tmp_path: Path, capsys) -> None:
    words = ["--smoke", "--output", str(tmp_path / "run"), "--track", "tensorboard"]
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 2 and not (tmp_path / "run").exists()
        told = capsys.readouterr().err
        assert (
            told == "error: tensorboard is not installed: pip install 'deepcapacity[tensorboard]' brings it\n"
        )
        return
    main(words)
    assert list((tmp_path / "run" / "run-seed-0").glob("events.out.tfevents*"))
    main([*words[:-2], "--track", "tensorboard"])  # finished, and sent again
