"""Students under a teacher through the real entry point: every variant, the faults, kills, bad input."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from resuming import computed, killed_and_resumed, same_files
from running import ends_in_one_line
from torch import nn

from analysis.distillation_table import PRESETS, Config, headline, main, summary, table
from analysis.distillation_table.trials import dropout_left_on, variants, with_dropout
from analysis.lab.literature import published_students

SMALL = [
    "--seeds", "1", "--epochs", "30", "--teacher-epochs", "5", "--variants", "alone", "distilled", "matching",
]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    return computed(tmp_path_factory, "distillation_table", *SMALL)[0]


def test_the_run_folder(undisturbed: Path) -> None:
    files = {path.name for path in undisturbed.iterdir()}
    assert files >= {"results.csv", "summary.csv", "table.tex", "distillation_table.pdf"}
    frame = pd.read_csv(undisturbed / "results.csv")
    assert frame["variant"].tolist() == ["teacher", "alone", "distilled", "matching"]
    assert frame["total_parameters"].tolist() == [99_530] + [1_810] * 3
    assert (undisturbed / "seed-0" / "teacher-outputs.npy").exists()


def test_killed_and_resumed_it_gives_the_same_bytes(undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    killed_and_resumed("distillation_table", *SMALL, folder=folder, at="seed-0/mlp_student/alone.json")
    same_files(folder, undisturbed, "results.csv")


def test_smoke_with_every_variant(tmp_path: Path, capsys) -> None:
    every = list(variants(Config()))
    students = ["--student", "mlp_student", "cnn_student"]
    main(["--smoke", *students, "--variants", *every, "--output", str(tmp_path / "a")])
    frame = pd.read_csv(tmp_path / "a" / "results.csv")
    assert len(frame) == 1 + 2 * len(every)
    assert "64 labels for the students" in capsys.readouterr().out  # those of a quick pass
    main(["--smoke", "--labels", "None", "--shift", "1", "--output", str(tmp_path / "b")])
    assert "all labels" in capsys.readouterr().out


def test_the_headline_compares_faults_with_sound_distillation() -> None:
    errors = {
        ("mlp", "teacher"): 0.02,
        ("s", "alone"): 0.06,
        ("s", "distilled"): 0.04,
        ("s", "report-b"): 0.11,
    }
    same = {"kappa": 0.9, "total_parameters": 10, "capacity_bits": 10, "points_per_bit": 1.0, "total": 360}
    rows = [
        {"seed": seed, "network": network, "variant": variant, "top1_error": error + 0.001 * seed} | same
        for seed in range(3)
        for (network, variant), error in errors.items()
    ]
    frame = pd.DataFrame(rows)
    text = "\n".join(headline(frame, Config(student=("s",))))
    assert "s, distilled: -2.00 points of error beside alone: better" in text
    assert "s, report-b: +7.00 points of error beside distilled: worse" in text
    means = summary(frame).set_index("variant")
    assert means.loc["report-b", "error_minus_alone_mean"] == pytest.approx(0.05)
    assert "+7.00" in str(table(frame))


def test_published_students_have_presets() -> None:
    for name in ("report-b", "report-d", "report-d-cifar10", "report-d-flowers", "report-e"):
        config = PRESETS[name]
        points = published_students([config.model, *config.student], config.dataset)
        assert points and config.preset == name
        assert {point.variant for point in points} <= {"teacher", *config.variants}
    assert (
        len(published_students([f"student_v{k}" for k in range(1, 8)], "cifar100")) == 9
    )  # two figures of v6 and v7


def test_dropout_left_on_is_random_where_evaluation_should_not_be() -> None:
    model = with_dropout(nn.Sequential(nn.Linear(4, 50), nn.ReLU(), nn.Linear(50, 3)), 0.5).eval()
    x = torch.randn(2, 4)
    assert torch.equal(model(x), model(x))
    faulty = dropout_left_on(model).eval()
    assert not torch.equal(faulty(x), faulty(x)) and torch.equal(model(x), model(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--temperature", "0"], "temperature must be positive"),
        (["--alpha", "1.5"], "alpha must lie"),
        (["--labels", "0"], "labels must lie between"),
        (["--labels", "99999"], "labels must lie between"),
        (["--student", "cnn_studnt"], "did you mean 'cnn_student'"),
        (["--model", "lenet5"], "lenet5 needs pictures"),
        (["--epochs", "0"], "epochs must be at least 1"),
        (["--student-dropout", "1"], "student_dropout"),
    ],
)
def test_bad_input_ends_in_one_line_before_anything_is_written(arguments, message, tmp_path, capsys) -> None:
    ends_in_one_line(main, arguments, message, tmp_path / "run", capsys)
