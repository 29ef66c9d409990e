"""A command never shows an old result as new: other pictures, classes, code of the network, or defaults."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from analysis.capacity_curve import main
from compression.checkpoints import load_json, save_json

FACTORY = """
from torch import nn
from compression.checkpoints import load_json, save_json

def make(input_size, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 12), nn.{activation}(), nn.Linear(12, classes))
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of pictures and a module with a network, in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for split, count in (("train", 12), ("test", 6)):
        for place, name in enumerate(("cats", "dogs")):
            folder = tmp_path / "pictures" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                values = np.random.default_rng(100 * place + number).integers(
                    0, 256, (8, 8, 3), dtype=np.uint8
                )
                Image.fromarray(values).save(folder / f"{number}.png")
    (tmp_path / "mynetwork.py").write_text(FACTORY.format(activation="ReLU"))
    return tmp_path


def run(*options: str) -> None:
    sys.modules.pop("mynetwork", None)
    main(
        [
            "--dataset", "imagefolder:pictures", "--model", "mynetwork:make", "--image-size", "8",
            "--seeds", "1", "--epochs", "2", "--retrain-epochs", "1", "--iterations", "2",
            "--output", "run", *options,
        ]
    )  # fmt: skip


def refused_nothing(place: Path) -> None:
    """The run in place is taken up: the same rows, from the steps that were kept."""
    results, steps = place / "run/results.csv", sorted((place / "run").glob("seed-*/**/*.json"))
    rows, written = results.read_bytes(), [path.stat().st_mtime_ns for path in steps]
    run()
    assert results.read_bytes() == rows and [path.stat().st_mtime_ns for path in steps] == written


def refused(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        run(*options)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert "--fresh" in error and error.count("\n") == 1
    return error


def test_what_changed_is_refused_and_fresh_starts_over(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run()
    assert "resumed" not in capsys.readouterr().out
    first = (place / "run/results.csv").read_bytes()
    run()
    assert "resumed from run, 6 of 6 steps" in capsys.readouterr().out
    assert (place / "run/results.csv").read_bytes() == first

    (place / "mynetwork.py").write_text(FACTORY.format(activation="Sigmoid"))
    assert "another network.architecture" in refused(capsys)
    (place / "mynetwork.py").write_text(FACTORY.format(activation="ReLU"))

    one, two = (place / "pictures/test" / name for name in ("cats", "dogs"))
    one.rename(place / "aside"), two.rename(one), (place / "aside").rename(two)
    assert "another data.test" in refused(capsys)
    one.rename(place / "aside"), two.rename(one), (place / "aside").rename(two)
    run()

    (one / "0.png").unlink()
    assert "another data.test" in refused(capsys)
    assert "epochs 2 and not 3" in refused(capsys, "--epochs", "3")
    capsys.readouterr()
    run("--fresh")
    assert "resumed" not in capsys.readouterr().out
    assert (place / "run/results.csv").read_bytes() != first


def test_a_default_that_changes_resumes_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run()
    record = place / "run/config.json"
    facts = load_json(record)
    facts["all_settings"]["learning_rate"] = 0.02  # the default of another version
    save_json(record, facts)
    assert "learning_rate 0.02 and not 0.05" in refused(capsys)


def test_an_option_that_a_run_did_not_know_has_its_default(place: Path) -> None:
    run()
    record = place / "run/config.json"
    facts = load_json(record)
    del facts["all_settings"]["patience"]
    save_json(record, facts)
    refused_nothing(place)


def test_settings_that_were_written_over_are_no_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run()
    record = place / "run/config.json"
    record.write_text(record.read_text().replace('"epochs": 2', '"epochs": 3'))
    with pytest.raises(SystemExit, match="2"):
        run("--epochs", "3")
    assert "is damaged, so nothing is known of the run" in capsys.readouterr().err


def test_settings_without_a_seal_are_another_release_s(place: Path) -> None:
    run()
    record = place / "run/config.json"
    facts = load_json(record)
    record.write_text(json.dumps(facts))
    refused_nothing(place)
