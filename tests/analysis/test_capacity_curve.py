"""The main job through its real entry point: results, figure, kills, bad input."""

import os
import random
from pathlib import Path

import pandas as pd
import pytest
from idx_files import write_idx
from resuming import computed, finished_steps, same_files
from running import ends_in_one_line, kill_when, run_command

from analysis.capacity_curve import PRESETS, Config, headline, plot, run, summary, table
from capacity import dense_capacity

SMALL = ["--seeds", "2", "--epochs", "6", "--retrain-epochs", "3", "--criterion", "l1", "reservoir"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    return computed(tmp_path_factory, "capacity_curve", *SMALL)[0]


def test_the_run_folder(undisturbed: Path) -> None:
    names = {path.name for path in undisturbed.iterdir()} - {"writer.lock"}
    files = {
        "config.json", "inputs.json", "environment.json", "checksums.json", "results.csv", "summary.csv",
        "table.tex",
    }  # fmt: skip
    assert names == files | {"capacity_curve.pdf", "capacity_curve.png", "seed-0", "seed-1"}
    frame = pd.read_csv(undisturbed / "results.csv")
    assert frame.groupby("criterion", sort=False).size().to_dict() == {
        "l1": 14,
        "reservoir": 14,
        "control": 14,
    }
    units, expected = [256, 256, 64], []
    for _ in range(7):
        expected.append(dense_capacity(64, [*units, 10]))
        units = [unit - round(0.3 * unit) for unit in units]
    assert frame[frame["criterion"] == "l1"]["capacity_bits"].tolist() == expected * 2
    assert set(frame[frame["criterion"] == "control"]["capacity_bits"]) == {expected[0]}
    assert (frame["points_per_bit"] == frame["correct"] / frame["capacity_bits"]).all()
    assert frame["top1_error"].between(0, 0.5).all()
    assert (undisturbed / "capacity_curve.pdf").read_bytes().startswith(b"%PDF")
    assert b"/FontFile2" in (undisturbed / "capacity_curve.pdf").read_bytes()


def killed_at_random_moments(undisturbed: Path, folder: Path, kills: int) -> None:
    every = [path.relative_to(undisturbed) for path in undisturbed.rglob("*") if path.name != "writer.lock"]
    moments, call = random.Random(kills), ("capacity_curve", *SMALL, "--output", str(folder))
    steps: dict[Path, int] = {}
    for _ in range(kills):
        left = [path for path in every if path.parts[0].startswith("seed") and not (folder / path).exists()]
        kill_when(*call, exists=folder / moments.choice(sorted(left)))
        assert all(path.stat().st_mtime_ns == written for path, written in steps.items())  # none again
        steps = finished_steps(folder, "step-*.json")
    assert run_command(*call).returncode == 0
    same_files(folder, undisturbed, "results.csv", "capacity_curve.pdf")


def test_killed_and_resumed_it_gives_the_same_bytes(undisturbed: Path, tmp_path: Path) -> None:
    killed_at_random_moments(undisturbed, tmp_path / "killed", 3)


@pytest.mark.slow
def test_killed_twenty_times(undisturbed: Path, tmp_path: Path) -> None:
    killed_at_random_moments(undisturbed, tmp_path / "killed", 20)


def test_other_settings_in_the_same_folder_are_refused(undisturbed: Path) -> None:
    done = run_command("capacity_curve", *SMALL, "--amount", "0.2", "--output", str(undisturbed))
    assert done.returncode == 2 and "holds another run" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "lenet30"], "did you mean 'lenet300'"),
        (["--dataset", "digit"], "did you mean 'digits'"),
        (["--layers", "11"], "unknown layer"),
        (["--amount", "0"], "amount must be"),
        (["--amount", "-3"], "amount must"),
        (["--amount", "1.0"], "amount must be"),
        (["--amount", "256"], "at least one must stay"),
        (["--amount", "20"], "at least one must stay"),  # the fourth squeeze would empty a layer of 64
        (["--model", "lenet5"], "lenet5 needs pictures"),
        (["--preset", "papre"], "did you mean 'paper'"),
        (["--seeds", "0"], "seeds must be at least 1"),
        (["--dataset", "imagefolder:/nowhere"], "is not a folder"),
        (["--neuron-dropout", "300"], "neuron dropout of 300"),
    ],
)
def test_bad_input_ends_in_one_line_before_anything_is_written(arguments, message, tmp_path, capsys) -> None:
    from analysis.capacity_curve import main

    ends_in_one_line(main, arguments, message, tmp_path / "run", capsys)


def test_a_full_disk_loses_no_finished_step(undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    done = run_command("capacity_curve", *SMALL, "--output", str(folder), largest_file=50_000)
    assert (
        done.returncode == 2 and done.stderr.count("\n") == 1 and "run the same command again" in done.stderr
    )
    assert not [path for path in folder.rglob("*") if path.name.startswith(".")]
    assert run_command("capacity_curve", *SMALL, "--output", str(folder)).returncode == 0
    assert (folder / "results.csv").read_bytes() == (undisturbed / "results.csv").read_bytes()


def test_a_folder_that_cannot_be_written() -> None:
    done = run_command("capacity_curve", "--smoke", "--output", "/proc/run")
    assert done.returncode == 2 and done.stderr.startswith("error:") and done.stderr.count("\n") == 1


def test_smoke_with_every_option(tmp_path: Path) -> None:
    done = run_command("capacity_curve", 
        "--smoke", "--criterion", "l1", "l2", "reservoir", "random", "--unit", "weight", "--scope", "global",
        "--patience", "2", "--augment", "--neuron-dropout", "20", "--optimizer", "adamw", "--center", "zero",
        "--learning-rate", "0.001", "--convention", "running", "--output", str(tmp_path / "run"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "1 seed, convention" in done.stdout and "1 seeds" not in done.stdout
    assert "convention 'running'" in done.stdout


def test_frozen_features_are_computed_once(tmp_path: Path) -> None:
    (tmp_path / "frozen_net.py").write_text(
        "from torch import nn\n"
        "def make(input_size, classes):\n"
        "    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(),\n"
        "                          nn.Linear(144, 30), nn.ReLU(), nn.Linear(30, classes))\n"
        "    model[0].requires_grad_(False)\n"
        "    return model\n"
    )
    call = ["--smoke", "--model", "frozen_net:make", "--cache-features", "--output", str(tmp_path / "run")]
    done = run_command(
        "capacity_curve",
        *call,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"},
    )
    assert done.returncode == 0, done.stderr
    bits = pd.read_csv(tmp_path / "run" / "results.csv")["capacity_bits"].tolist()
    assert bits[:2] == [dense_capacity(144, [30, 10]), dense_capacity(144, [21, 10])]
    assert len(list((tmp_path / "features").glob("*.npy"))) == 3


@pytest.mark.slow
def test_report_a_at_full_size_with_few_pictures(tmp_path: Path) -> None:
    write_idx(tmp_path / "MNIST" / "raw")
    done = run_command("capacity_curve", 
        "--preset", "paper", "--smoke", "--limit", "8", "--no-pretrained", "--iterations", "1",
        "--batch-size", "4",
        "--data", str(tmp_path), "--output", str(tmp_path / "run"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    frame = pd.read_csv(tmp_path / "run" / "results.csv")
    assert frame[frame["criterion"] == "l1"]["capacity_bits"].tolist() == pytest.approx(
        [102_772_992, 100_263_992], abs=99
    )
    assert len(list((tmp_path / "features").glob("*.npy"))) == 3


def test_presets_are_those_of_the_report() -> None:
    paper = PRESETS["paper"]
    assert (paper.model, paper.amount, paper.iterations, paper.seeds) == ("vgg16", 100, 6, 3)
    assert paper.neuron_dropout == 100 and paper.layers == ("classifier.0",)


def test_the_summary_pairs_seeds_with_the_control(tmp_path: Path) -> None:
    frame = run(Config(smoke=True, output=str(tmp_path / "run")))
    twice = pd.concat([frame, frame.assign(seed=1, top1_error=frame["top1_error"] + 0.1)])
    rows = summary(twice).set_index(["criterion", "step"])
    wide = frame.set_index(["criterion", "step"])["top1_error"]
    for step in range(3):
        expected = wide["l1", step] - wide["control", step]
        assert rows.loc[("l1", step), "top1_error_difference_mean"] == pytest.approx(expected)
        assert rows.loc[("l1", step), "top1_error_difference_half_width"] == pytest.approx(0, abs=1e-9)
    assert "error - control [points]" in table(frame).text(200) and "1 seed" in headline(frame)[0]
    figure = plot(twice)
    assert [axes.get_xlabel().startswith("capacity [bit]") for axes in figure.axes] == [True, True]
