"""The smallest adequate width of one's own data: the search, what was foretold beside it, the command."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from running import ends_in_one_line
from test_own_data import word_tokenizer

from analysis.adequate_size import Config, headline, main, table
from analysis.adequate_size.report import size_outcome
from analysis.adequate_size.trials import WidthTrials
from capacity import pilot
from capacity.recommendation import recorded
from compression.training import TrainingSettings, fit


def rows(errors: dict[int, tuple[float, float]], small: float = 0.3, large: float = 0.1) -> pd.DataFrame:
    """Rows of two seeds for each width, of data whose pilot had these errors."""
    facts = {"dataset": "a", "samples": 900, "features": 4, "classes": 2, "pilot_rows": 600,
             "pilot_small_error": small, "pilot_large_error": large}  # fmt: skip
    return pd.DataFrame([
        facts | {"width": width, "seed": seed, "validation_error": error, "test_error": error / 2,
                 "training_error": 0.0}
        for width, pair in errors.items() for seed, error in enumerate(pair)
    ])  # fmt: skip


def test_foretold_is_what_recommend_says_and_found_is_within_a_standard_error() -> None:
    frame = rows({8: (0.5, 0.5), 16: (0.12, 0.14), 32: (0.10, 0.14), 64: (0.13, 0.15)})
    size = size_outcome(frame)
    facts = {"rows": 600, "pilot_gap": 0.2, "features": 4, "classes": 2}
    assert (size.foretold, size.low, size.high) == recorded("pilot").units(facts)
    assert (size.best, size.adequate) == (32, 16) and size.beyond == ""


@pytest.mark.parametrize(("best", "words"), [(1, "does not hold it"), (64, "the range holds it")])
def test_the_verdict_turns_with_the_measurement(best: int, words: str) -> None:
    errors = {width: (0.1, 0.1) if width == best else (0.4, 0.4) for width in (1, 8, 64, 256)}
    lines = headline(rows(errors), Config(seeds=2))
    size = size_outcome(rows(errors))
    assert size.adequate == best and size.held == (size.low <= best <= size.high)
    assert words in lines[-1] and f"factor of {2**size.octaves:.2g}" in lines[-1]
    assert "one seed: no verdict" in headline(rows(errors).query("seed == 0"), Config(seeds=1))


def test_a_largest_width_that_is_best_is_named() -> None:
    assert "256, the largest tried" in headline(rows({1: (0.4, 0.4), 256: (0.1, 0.1)}), Config())[2]
    assert "largest tried" not in headline(rows({1: (0.1, 0.1), 256: (0.4, 0.4)}), Config())[2]


def test_each_row_is_a_training_by_the_library() -> None:
    config = Config(widths=(3, 5), epochs=2, seeds=2, limit=200)
    trials = WidthTrials(config)
    assert list(trials.steps()) == ["3", "5"]
    second = trials.measured(5)[1]
    train, validation = trials._split(1)
    inputs, labels = next(iter(validation.batches(1000)))
    settings = TrainingSettings(epochs=2, learning_rate=0.05, weight_decay=5e-4, warmup_epochs=1, seed=1)
    batches = train.batches(64, shuffle=True, seed=1)
    alone = fit(trials._network(5, 1), batches, settings=settings).model
    wrong = int((alone(inputs).argmax(1) != labels).sum())
    assert second["validation_error"] == pytest.approx(wrong / len(labels), abs=1.01 / len(labels))
    expected = pilot(trials.data.train.inputs, trials.data.train.labels)
    assert second["pilot_large_error"] == expected.large_error and second["pilot_rows"] == expected.rows


def test_seeds_hold_out_other_samples_and_never_test_ones() -> None:
    trials = WidthTrials(Config(seeds=2))
    (first, held), (_, others) = trials._split(0), trials._split(1)
    assert len(first) + len(held) == len(trials.data.train) == 1437
    assert not torch.equal(torch.as_tensor(held.inputs), torch.as_tensor(others.inputs))


def test_a_quick_pass_and_its_resumption(tmp_path: Path, capsys) -> None:
    folder = tmp_path / "run"
    main(["--smoke", "--output", str(folder)])
    first = (folder / "results.csv").read_bytes()
    assert "quick pass: no verdict" in capsys.readouterr().out
    (folder / "network-4.json").unlink()
    main(["--smoke", "--output", str(folder)])
    assert "2 of 3 steps" in capsys.readouterr().out
    assert (folder / "results.csv").read_bytes() == first
    frame = pd.read_csv(folder / "results.csv")
    assert len(frame) == 3 * 2 and (folder / "adequate_size.pdf").exists()
    assert len(table(frame).rows) == 3


def test_a_run_of_other_rows_is_not_resumed(tmp_path: Path, capsys) -> None:
    folder, rows = tmp_path / "run", tmp_path / "rows.csv"
    arguments = ["--smoke", "--dataset", f"table:{rows}", "--output", str(folder)]
    for shift in (0, 1):
        cells = [f"{k * k % 97},{k % 7},{'ab'[(k + shift) % 2]}" for k in range(90)]
        rows.write_text("x,y,label\n" + "\n".join(cells) + "\n", encoding="utf-8")
        if shift:
            with pytest.raises(SystemExit) as end:
                main(arguments)
            assert end.value.code == 2 and "holds a run with another data" in capsys.readouterr().err
            main([*arguments, "--fresh"])
        else:
            main(arguments)
            before = (folder / "network-4.json").read_bytes()
    assert (folder / "network-4.json").read_bytes() != before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--widths", "4", "2"], "numbers that grow"),
        (["--epochs", "0"], "epochs"),
        (["--limit", "10"], "limit must be at least 50"),
        (["--validation", "1.0"], "validation must be a fraction"),
        (["--learning-rate", "nan"], "learning_rate must be a finite number"),
        (["--dataset", "digit"], "did you mean"),
    ],
)
def test_bad_settings(arguments: list[str], message: str, tmp_path: Path, capsys) -> None:
    ends_in_one_line(main, arguments, message, tmp_path / "run", capsys)


def test_token_ids_are_refused(tmp_path: Path, capsys) -> None:
    words = tmp_path / "texts.csv"
    lines = [f"{'good' if k % 2 else 'bad'} film number {k},{k % 2}" for k in range(60)]
    words.write_text("text,label\n" + "\n".join(lines) + "\n", encoding="utf-8")
    word_tokenizer(tmp_path / "tokenizer.json")
    arguments = ["--dataset", f"text:{words}", "--tokenizer", str(tmp_path)]
    ends_in_one_line(main, arguments, "takes for amounts", tmp_path / "run", capsys)
