"""Accuracy against amount through the real entry point: schedules, kills, published points, bad input."""

from pathlib import Path

import pandas as pd
import pytest
from resuming import computed, killed_and_resumed
from running import ends_in_one_line

from analysis.lab.literature import published
from analysis.pruning_curve import PRESETS, Config, equal_accuracy, headline, main, plot, summary

SMALL = ["--seeds", "1", "--epochs", "4", "--retrain-epochs", "3", "--amounts", "0.5", "0.9"]
MEASURED = ["latency_ms", "dense_latency_ms"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    folder, text = computed(tmp_path_factory, "pruning_curve", *SMALL)
    assert "mask only" in text
    return folder


def test_the_run_folder(undisturbed: Path) -> None:
    files = {path.name for path in undisturbed.iterdir()}
    assert files >= {"results.csv", "summary.csv", "table.tex", "pruning_curve.pdf", "pruning_curve.png"}
    frame = pd.read_csv(undisturbed / "results.csv")
    assert frame["criterion"].tolist() == ["dense", "control", "l1", "l1", "random", "random"]
    assert frame["amount"].tolist() == [0, 0, 0.5, 0.9, 0.5, 0.9]
    pruned = frame[frame["amount"] > 0]
    assert ((pruned["density"] - (1 - pruned["amount"])).abs() < 1e-4).all()
    assert pruned["mask_only"].all() and (pruned["file_bytes"] == pruned["dense_file_bytes"]).all()
    assert (pruned["theoretical_bytes"] < 0.6 * pruned["file_bytes"]).all()
    assert (frame["latency_ms"] > 0).all()


def test_killed_and_resumed_it_gives_the_same_results(undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    killed_and_resumed("pruning_curve", *SMALL, folder=folder, at="seed-0/l1/0.500000.json")
    one, two = (pd.read_csv(path / "results.csv").drop(columns=MEASURED) for path in (undisturbed, folder))
    pd.testing.assert_frame_equal(one, two, check_exact=True)


@pytest.mark.parametrize(
    "options",
    [
        ["--schedule", "iterative", "--criterion", "l2", "reservoir"],
        ["--schedule", "rewind"],
        ["--teacher", "--criterion", "l1"],
        ["--schedule", "gradual", "--epochs", "2"],
        ["--unit", "neuron", "--scope", "layer", "--shift", "1"],
        [
            "--retrain-epochs",
            "0",
            "--model",
            "resnet20",
            "--unit",
            "neuron",
            "--layers",
            "stage1_0.first.0",
            "--limit",
            "64",
        ],
    ],
)
def test_smoke_with_every_schedule_and_unit(options: list[str], tmp_path: Path, capsys) -> None:
    main(["--smoke", *options, "--output", str(tmp_path / "run")])
    shown = capsys.readouterr().out
    frame = pd.read_csv(tmp_path / "run" / "results.csv")
    pruned = frame[~frame["criterion"].isin(["dense", "control"])]
    pdf = (tmp_path / "run" / "pruning_curve.pdf").read_bytes()
    assert pdf.startswith(b"%PDF-") and pdf.count(b"/Type /Page ") == 1
    if "neuron" in options:
        assert (pruned["file_bytes"] < pruned["dense_file_bytes"]).all() and "mask only" not in shown
        assert not pruned["mask_only"].any()
    else:
        assert ("retrained under the dense teacher" in shown) == ("--teacher" in options)
        assert " 1 epochs" not in shown
        assert "mask only" in shown and pruned["density"].tolist() == pytest.approx(
            (1 - pruned["amount"]).tolist(), abs=1e-4
        )


def test_a_teacher_teaches_in_every_schedule(tmp_path: Path) -> None:
    for schedule in ("one-shot", "iterative", "rewind", "gradual"):
        folder = tmp_path / schedule
        main(["--smoke", "--criterion", "l1", "--teacher", "--schedule", schedule, "--output", str(folder)])
        frame = pd.read_csv(folder / "results.csv").set_index(["criterion", "amount"])["cross_entropy_nats"]
        assert (frame["l1"] != frame["l1 + teacher"]).all(), schedule


def made_up() -> pd.DataFrame:
    rows = []
    for seed in range(3):
        for criterion, amount, error in [
            ("dense", 0, 0.01), ("l1", 0.95, 0.012), ("l1", 0.985, 0.05), ("random", 0.95, 0.5),
        ]:  # fmt: skip
            rows.append({
                "seed": seed, "criterion": criterion, "amount": amount, "top1_error": error + seed * 1e-4,
                "density": 1 - amount, "live_parameters": 100, "capacity_bits": 100, "points_per_bit": 1.0,
                "file_bytes": 10, "dense_file_bytes": 10, "theoretical_bytes": 5, "latency_ms": 1.0,
                "dense_latency_ms": 1.0, "mask_only": amount > 0, "total": 10_000,
            })  # fmt: skip
    return pd.DataFrame(rows)


def test_published_points_and_equal_accuracy() -> None:
    config = Config(model="lenet300", dataset="mnist", criterion=("l1", "random"), schedule="gradual")
    frame = made_up()
    found = equal_accuracy(frame, 0.005).set_index("criterion")["amount"]
    assert found["l1"] == 0.95 and pd.isna(found["random"])
    text = "\n".join(headline(frame, config))
    assert "sparse momentum: 1.53 % at 95 % pruned; ours 1.21 %: better" in text
    assert "variational dropout: 1.90 % at 98.5 % pruned; ours 5.01 %: worse" in text
    assert "l1: up to 95 % pruned within 0.5 points of dense" in text and "random: no amount" in text
    (legend,) = plot(frame, config).legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert any("published: sparse momentum" in label for label in labels)
    difference = summary(frame).set_index("criterion").loc["random", "top1_error_difference_mean"]
    assert difference == pytest.approx(0.49)


def test_the_reports_pruning_is_recorded_and_has_presets() -> None:
    b = published("vgg16bn", "cifar100").set_index("criterion")["top1_error"]
    assert b["random"] == 0.6559 and b["l1"] == 0.4242
    assert published("resnet18", "cifar10").set_index("amount").loc[0.6, "top1_error"] == 0.0974
    assert published("mlp", "digits").empty
    for name in ("report-b", "report-e", "report-c", "report-c-masked", "lenet5", "lenet300"):
        config = PRESETS[name]
        points = published(config.model, config.dataset).query("unit == @config.unit")
        assert set(points["amount"]) - {0.0} <= set(config.amounts) and config.preset == name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--amounts", "0.5", "0.2"], "ascending fractions"),
        (["--amounts", "1.0"], "ascending fractions"),
        (["--model", "lenet30"], "did you mean 'lenet300'"),
        (["--layers", "11"], "unknown layer"),
        (["--seeds", "0"], "seeds must be at least 1"),
        (["--retrain-epochs", "-1"], "must not be negative"),
        (["--schedule", "gradual", "--unit", "neuron"], "use --unit weight"),
        (["--teacher", "--retrain-epochs", "0"], "a teacher needs retraining"),
        (["--alpha", "2"], "alpha must lie"),
        (["--schedule", "rewind", "--snapshot-epoch", "30"], "snapshot_epoch must lie"),
        (["--schedule", "gradual", "--gradual-until", "0"], "gradual_until"),
        (["--amounts", "0.9999999"], "at least one must stay"),
    ],
)
def test_bad_input_ends_in_one_line_before_anything_is_written(arguments, message, tmp_path, capsys) -> None:
    ends_in_one_line(main, arguments, message, tmp_path / "run", capsys)
