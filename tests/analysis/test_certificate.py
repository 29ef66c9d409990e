"""What the command says of a recorded run, and what it refuses."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from running import run_command

from analysis.certificate import Config
from analysis.certificate.frontier import certified, headline, plot
from analysis.lab.runs.loading import finished
from capacity import certificate

RUNS = Path(__file__).parents[2] / "paper" / "runs"


def test_a_recorded_run(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(RUNS / "frontier-lenet5", folder)
    done = run_command("certificate", str(folder))
    assert done.returncode == 0, done.stderr
    frame = pd.read_csv(folder / "certificate.csv")
    assert len(frame) == 21 and (frame["training_samples"] == 60_000).all()
    row = frame[(frame["seed"] == 0) & (frame["method"] == "rate")].iloc[-1]
    bound = certificate(round(row["training_error"] * 60_000), 60_000, int(row["file_bytes"]), choices=21)
    assert row["top1_error_bound"] == pytest.approx(bound.error_bound)
    assert (frame["top1_error"] <= frame["top1_error_bound"]).all()
    assert "0 of 21 files err more on the test than their bound" in done.stdout
    assert (folder / "certificate.pdf").read_bytes().startswith(b"%PDF-")
    drawn = plot(frame, finished(folder)).axes[0].lines[:3]
    for line, name in zip(drawn, ("top1_error_bound", "top1_error", "training_error"), strict=True):
        assert line.get_xdata().tolist() == frame["file_bytes"].tolist()
        assert line.get_ydata().tolist() == (100 * frame[name].clip(lower=1e-5)).tolist()


def test_a_broken_bound_is_told() -> None:
    run = finished(RUNS / "frontier-lenet5")
    frame = certified(run, Config())
    frame.loc[3, "top1_error"] = 1.1
    assert any(line.startswith("1 of 21 files") for line in headline(frame, run, Config()))


def test_choices_made_before_cost() -> None:
    run = finished(RUNS / "frontier-lenet300")
    once, often = (certified(run, Config(choices=count)) for count in (1, 2**20))
    assert (often["code_bits"] - once["code_bits"]).tolist() == pytest.approx([20.0] * len(once))


@pytest.mark.parametrize(
    ("run", "text"), [("nowhere", "is no run folder"), ("quantized-lenet5", "is a run of")]
)
def test_bad_input(run: str, text: str) -> None:
    done = run_command("certificate", str(RUNS / run))
    assert done.returncode == 2 and text in done.stderr and "Traceback" not in done.stderr
