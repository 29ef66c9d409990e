"""Description lengths through the real entry point: files, shuffled labels, kills, bad input."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from resuming import computed, killed_and_resumed, same_files
from running import ends_in_one_line, run_command

from analysis.description_length import Config, headline, main, table
from analysis.description_length.trials import DescriptionTrials, labelled
from analysis.lab.data.datasets import load
from analysis.lab.models import create
from compression.describing import description_length

SMALL = [
    "--seeds", "1", "--epochs", "4", "--prune-epochs", "3", "--code-epochs", "1", "--first-block", "300",
    "--densities", "0.01", "0.003",
]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    folder, text = computed(tmp_path_factory, "description_length", *SMALL)
    assert "The 1,293 training labels are 4,294 bits" in text
    assert text.count("one seed: no verdict") == 4  # two codes of two kinds of labels
    return folder


def test_each_file_is_told_as_the_library_does(undisturbed: Path) -> None:
    frame = pd.read_csv(undisturbed / "results.csv")
    assert list(frame["labels"]) == ["true"] * 3 + ["shuffled"] * 3
    train = load("digits").train
    for row in frame[frame["code"] == "file"].to_dict("records"):
        path = undisturbed / "seed-0" / row["labels"] / "seed-0" / f"rate-{row['density']:g}.dcz"
        data = labelled(train, row["labels"], 0).batches(1000)
        network = create("mlp", input_size=(1, 8, 8), classes=10)
        found = description_length(path, network, data, choices=2)
        assert row["description_bits"] == pytest.approx(found.bits)
        assert row["learned_share"] == pytest.approx(found.learned_share)
        assert row["file_bytes"] == path.stat().st_size


def test_shuffled_labels_are_the_same_labels_elsewhere() -> None:
    train = load("digits").train
    shuffled, again = labelled(train, "shuffled", 3), labelled(train, "shuffled", 3)
    assert (shuffled.labels == again.labels).all()
    assert shuffled.labels.bincount().tolist() == train.labels.bincount().tolist()
    assert 0.05 < (shuffled.labels == train.labels).float().mean() < 0.15  # a tenth by chance


def test_true_labels_are_told_in_fewer_bits_than_shuffled(undisturbed: Path) -> None:
    means = pd.read_csv(undisturbed / "results.csv").set_index(["labels", "code"])["residual_bits"]
    assert (means["true", "file"].to_numpy() < means["shuffled", "file"].to_numpy()).all()
    assert means["true", "prequential"].item() < means["shuffled", "prequential"].item()


def test_killed_and_resumed_it_gives_the_same(undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    at = "seed-0/true/seed-0/prequential.json"
    killed_and_resumed("description_length", *SMALL, folder=folder, at=at)
    file = "seed-0/shuffled/seed-0/rate-0.003.dcz"
    same_files(folder, undisturbed, "results.csv", "description_length.pdf", file)


@pytest.mark.slow
def test_a_fresh_start_computes_anew(undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    shutil.copytree(undisturbed, folder)
    path = folder / "seed-0" / "true" / "seed-0" / "prequential.json"
    before = path.stat().st_mtime_ns
    assert run_command("description_length", *SMALL, "--fresh", "--output", str(folder)).returncode == 0
    assert path.stat().st_mtime_ns > before
    assert (folder / "results.csv").read_bytes() == (undisturbed / "results.csv").read_bytes()


def test_a_table_keeps_no_weights_where_no_file_is_sent(undisturbed: Path) -> None:
    frame = pd.read_csv(undisturbed / "results.csv")
    found = table(frame, Config(seeds=1)).to_markdown().splitlines()
    assert "| true | prequential |  |" in found[4]


def test_the_verdict_turns_with_the_measurement(undisturbed: Path) -> None:
    frame = pd.read_csv(undisturbed / "results.csv")
    both = pd.concat([frame, frame.assign(seed=1, learned_share=frame["learned_share"] + 0.001)])
    true = both["labels"] == "true"
    for sign, words in ((1, "learned: fewer bits"), (-1, "nothing learned: more bits")):
        turned = both.assign(
            learned_share=both["learned_share"].where(~true, sign * (0.5 + 0.001 * both["seed"]))
        )
        said = [line for line in headline(turned, Config(seeds=2)) if line.startswith("true labels")]
        assert len(said) == 2 and all(words in line for line in said)


def test_trials_count_their_epochs() -> None:
    trials = DescriptionTrials(Config(seeds=1, densities=(0.01,), epochs=2, prune_epochs=3, code_epochs=4))
    assert trials.prequential_networks == 5  # of 64, 128, ... 1,024 rows
    assert trials.epochs() == 2 * (2 + 3 + 4 + 5 * 2) and trials.steps() == 2 * (3 + 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--first-block", "5"], "first_block must be at least 20"),
        (["--first-block", "1293"], "first_block must be below the 1293 training samples"),
        (["--densities", "0.1", "0.2"], "densities must be descending"),
        (["--labels", "true", "true"], "labels must be 'true', 'shuffled' or both"),
    ],
)
def test_bad_input(arguments: list[str], message: str, tmp_path: Path, capsys) -> None:
    ends_in_one_line(main, arguments, message, tmp_path / "run", capsys)
