"""Stored labels: families, the search against a known perceptron, lines that hold or not, the command."""

from math import log2
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from resuming import computed, killed_and_resumed, same_files
from running import ends_in_one_line
from scipy.stats import binom

from analysis.memorization_bounds import Config, headline, main, summary
from analysis.memorization_bounds.config import ALL, FAMILIES, PRESETS, parts_of
from analysis.memorization_bounds.families import build, input_size
from analysis.memorization_bounds.report import LINES, PROVEN, median_interval, said
from analysis.memorization_bounds.trials import all_right, loss_of, measure_one, search
from capacity import CONVENTIONS, bounds

QUICK = Config(labelings=1, restarts=1, steps=400, growth=1.5)


def test_sixty_networks_of_five_families() -> None:
    assert len(ALL) == len(set(ALL)) == 60 and PRESETS["full"].networks == ALL
    assert {parts_of(name)[0] for name in ALL} == set(FAMILIES)


@pytest.mark.parametrize("name", ALL[::7])
def test_each_answers_for_each_point(name: str) -> None:
    torch.manual_seed(2)  # at which no layer of a small network starts dead
    for classes, outputs in ((2, 1), (10, 10)):
        answers = build(name, classes)(torch.randn(5, *input_size(name)))
        assert answers.shape == (5, outputs) and len(answers.unique(dim=0)) == 5  # points are told apart


def test_parameters_by_hand() -> None:
    count = {n: sum(p.numel() for p in build(n, 10).parameters()) for n in ("dense-2x4", "residual-1x4")}
    assert count == {"dense-2x4": 16 * 4 + 4 + 4 * 4 + 4 + 4 * 10 + 10, "residual-1x4": 68 + 2 * 20 + 50}


def test_right_means_every_point() -> None:
    one = torch.tensor([[0.5], [-1.0]])
    assert all_right(one, torch.tensor([1, 0])) and not all_right(one, torch.tensor([1, 1]))
    assert not all_right(torch.zeros(1, 1), torch.tensor([1]))  # on the line is on no side
    many = torch.tensor([[0.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    assert all_right(many, torch.tensor([1, 0])) and not all_right(many, torch.tensor([1, 2]))


@given(st.integers(0, 50))
def test_one_output_is_two_of_which_one_is_zero(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    outputs, labels = torch.randn(7, 1, generator=generator), torch.randint(2, (7,), generator=generator)
    both = torch.cat([torch.zeros(7, 1), outputs], 1)
    assert loss_of(outputs, labels) == pytest.approx(float(loss_of(both, labels)), rel=1e-5)


def test_more_than_the_capacity_is_stored_and_less_than_is_proven() -> None:
    """A network that one would fill by the convention takes more; the proven bounds hold."""
    (found,) = measure_one("conv-1x2", 2, QUICK)
    assert found["previous_bits"] < found["stored_bits"] < min(found["piece_bits"], found["storage_bits"])
    assert found["parameters"] == 29 and found["points"] < found["missed_points"]
    assert found["storage_bits"] == 32 * 29
    assert found["bits_per_parameter"] == pytest.approx(found["points"] / 29)
    assert found["w_log_w_bits"] == pytest.approx(29 * log2(29))
    assert found["piece_bits"] == bounds(build("conv-1x2", 2), (1, 8, 8)).piece_bits


def test_nothing_is_stored_without_a_step() -> None:
    points, missed = search("dense-1x2", 10, 64, Config(labelings=2, restarts=1, steps=1, growth=4.0))
    assert points < missed <= 4


def test_the_same_search_twice() -> None:
    quick = Config(labelings=1, restarts=1, steps=50, growth=2.0)
    assert search("residual-1x2", 2, 49, quick) == search("residual-1x2", 2, 49, quick)


@given(st.integers(6, 60))
def test_the_interval_of_a_median_covers(count: int) -> None:
    """P(place <= heads < count - place + 1) of fair coins is at least 95 %, and one place more is too few."""
    low, high = median_interval(list(range(1, count + 1)))
    assert low + high == count + 1

    def covered(place: int) -> float:
        return float(binom.cdf(count - place, count, 0.5) - binom.cdf(place - 1, count, 0.5))

    assert covered(int(low)) >= 0.95 - 1e-9 and covered(int(low) + 1) < 0.95


def test_few_values_have_no_interval() -> None:
    assert np.isnan(median_interval([1.0, 2.0, 3.0])).all()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    folder, text = computed(tmp_path_factory, "memorization_bounds", "--smoke")
    assert "quick pass: no verdict" in text
    return folder


def test_the_run_folder(undisturbed: Path) -> None:
    files = {path.name for path in undisturbed.iterdir()}
    assert files >= {"results.csv", "summary.csv", "table.tex", "memorization_bounds.pdf"}
    frame = pd.read_csv(undisturbed / "results.csv")
    assert list(frame["network"]) == ["dense-1x2", "conv-1x2"]
    assert {f"{name}_bits" for name in CONVENTIONS} | set(LINES) <= set(frame.columns)


def test_killed_and_resumed_it_gives_the_same(undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    done = killed_and_resumed("memorization_bounds", "--smoke", folder=folder, at="network-dense-1x2-2.json")
    assert "resumed from" in done.stdout
    same_files(folder, undisturbed, "results.csv")


def test_verdicts_turn_with_the_measurement(undisturbed: Path) -> None:
    frame = pd.read_csv(undisturbed / "results.csv")
    for stored, words in ((1e9, "no bound, crossed by 2 of 2"), (0.0, "not crossed by any of 2")):
        lines = headline(frame.assign(stored_bits=stored), Config())
        assert sum(words in line for line in lines) == len(LINES) - len(PROVEN)
    rows = summary(frame.assign(stored_bits=1e9)).to_dict("records")
    assert all("is wrong here" in said(row) for row in rows if row["line"] in PROVEN)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--networks", "dense-2"], "a network is written as dense-2x8"),
        (["--networks", "recurrent-elman-3"], "found 'recurrent-elman-3'"),
        (["--networks", "transformer-1x3"], "two heads need an even number"),
        (["--networks", "dense-1x2", "dense-1x2"], "networks must be different"),
        (["--classes", "1"], "classes must be different numbers from 2 on"),
        (["--growth", "1.0"], "growth must lie between"),
        (["--seeds", "3"], "seeds must be 1"),
    ],
)
def test_bad_input(arguments: list[str], message: str, tmp_path: Path, capsys) -> None:
    ends_in_one_line(main, arguments, message, tmp_path / "run", capsys)
