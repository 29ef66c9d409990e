"""capacity_report, data_requirement and memorization_curve through their real entry points."""

import os
from pathlib import Path

import pandas as pd
import pytest
from running import run_command


def command(name: str, *arguments: str, code: int = 0) -> str:
    done = run_command(name, *arguments)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def test_a_report_of_resnet50(tmp_path: Path) -> None:
    text = command(
        "capacity_report", "--model", "torchvision:resnet50", "--input-size", "3", "224", "224",
        "--classes", "1000",
        "--correct", "38000", "--total", "50000", "--split", "validation", "--output", str(tmp_path / "run"),
    )  # fmt: skip
    assert "4,412,096" in text and "convention 'previous'" in text and "validation split" in text
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {
        "results.csv",
        "table.tex",
        "capacity_report.pdf",
        "generalization.png",
        "generalization.csv",
    } <= names
    frame = pd.read_csv(tmp_path / "run" / "results.csv")
    assert frame["capacity_bits"].sum() == 4_412_096 and frame["parameters"].sum() == 25_557_032


def test_a_network_that_cannot_be_built_without_memory(tmp_path: Path) -> None:
    text = command(
        "capacity_report", "--model", "torchvision:regnet_y_400mf", "--input-size", "3", "64", "64",
        "--output", str(tmp_path / "run"),
    )  # fmt: skip
    assert "Memory-equivalent capacity" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "torchvision:resnet51"], "did you mean"),
        (["--input-size", "0"], "input_size must be positive"),
        (["--model", "lenet5", "--input-size", "3", "8", "8"], "lenet5 needs pictures"),
        (["--correct", "5"], "correct and total belong together"),
        (["--model", "torchvision:resnet18", "--input-size", "7"], "cannot take an input"),
    ],
)
def test_bad_input_to_the_report(arguments, message, tmp_path, capsys) -> None:
    from analysis.capacity_report import main

    with pytest.raises(SystemExit) as ending:
        main([*arguments, "--output", str(tmp_path / "run")])
    assert ending.value.code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_what_digits_need(tmp_path: Path) -> None:
    text = command("data_requirement", "--smoke", "--output", str(tmp_path / "run"))
    assert "1,437 rows, 64 features, 10 classes" in text and "64 units always" in text
    frame = pd.read_csv(tmp_path / "run" / "results.csv")
    whole = frame[frame["fraction"] == 1.0].set_index("labels")["thresholds"]
    assert whole["labels as they are"] < whole["labels shuffled"]


def test_memorization_resumes(tmp_path: Path) -> None:
    call = ["memorization_curve", "--smoke", "--ratios", "1.0", "2.5", "--output", str(tmp_path / "run")]
    text = command(*call)
    assert "Cover's value lies in the 95 % interval" in text and "3-1: 3 parameters" in text
    results = (tmp_path / "run" / "results.csv").read_bytes()
    kept = tmp_path / "run" / "network-3-1.json"
    stamp = kept.stat().st_mtime_ns
    (tmp_path / "run" / "network-2-2-1.json").unlink()
    os.unlink(tmp_path / "run" / "results.csv")
    command(*call)
    assert (tmp_path / "run" / "results.csv").read_bytes() == results and kept.stat().st_mtime_ns == stamp
    error = command("memorization_curve", "--networks", "3-x-1", "--output", str(tmp_path / "other"), code=2)
    assert "such as 4-3-1" in error
