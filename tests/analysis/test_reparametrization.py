"""What measures of a network do when its weights change and its function does not; the command."""

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from resuming import computed
from running import ends_in_one_line
from torch import Tensor, nn

from analysis.generalization_study.measures import margin, path_norm, spectral_norm, weights_of
from analysis.generalization_study.trials import network
from analysis.reparametrization import Config, headline, main, summary, table
from analysis.reparametrization.changes import WAYS, changed
from analysis.reparametrization.config import CHANGES
from analysis.reparametrization.measures import MEASURES, measures, rounding_noise
from analysis.reparametrization.report import moves
from analysis.reparametrization.trials import largest_move

INPUTS, UNITS, CLASSES = 6, 8, 3
SMALL = ["--smoke", "--datasets", "wine"]
SCALED = ("reordered", "layer-scaled", "units-scaled")
WIDENED = ("split", "silent", "dead")


@cache
def net(depth: int, seed: int) -> nn.Sequential:
    return network(INPUTS, depth, UNITS, CLASSES, seed)


def points(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(60, INPUTS, generator=generator), torch.arange(60) % CLASSES


@cache
def measured(change: str) -> dict[str, float]:
    """All measures of one network, changed."""
    model = net(2, 5)
    return measures(model if change == "none" else changed(model, change, 4.0, 1), *points(0))


def factor(measure: str, change: str) -> float:
    return measured(change)[measure] / measured("none")[measure]


@pytest.mark.parametrize("change", WAYS)
@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.integers(0, 200), st.sampled_from([1.5, 4.0, 10.0]))
def test_the_function_stays_and_the_network_is_left_alone(
    change: str, depth: int, seed: int, factor: float
) -> None:
    model, (inputs, labels) = net(depth, seed), points(seed)
    before = [p.detach().clone() for p in model.parameters()]
    other = changed(model, change, factor, seed)
    assert largest_move(model, other, inputs) < 1e-4
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    with torch.no_grad():
        assert margin(other(inputs), labels) == pytest.approx(margin(model(inputs), labels), abs=1e-4)
        same = [p.shape for p in model.parameters()] == [p.shape for p in other.parameters()]
        assert not (same and torch.equal(model[0].weight, other[0].weight))  # something did change


@pytest.mark.parametrize("change", ["reordered", "layer-scaled", "units-scaled", "normed", "norm-scaled"])
@given(st.integers(1, 4), st.integers(0, 200))
def test_the_path_norm_stays_where_units_are_ordered_or_scaled(change: str, depth: int, seed: int) -> None:
    model = net(depth, seed)
    assert path_norm(changed(model, change, 4.0, seed)) == pytest.approx(path_norm(model), rel=1e-4)


@given(st.integers(1, 3), st.integers(0, 200))
def test_halves_of_units_halve_the_path_norm_by_its_squares(depth: int, seed: int) -> None:
    """Each of depth layers doubles the paths and divides the square of each by four."""
    model = net(depth, seed)
    other = changed(model, "split", 4.0, seed)
    assert path_norm(other) == pytest.approx(path_norm(model) / 2 ** (depth / 2), rel=1e-4)
    assert spectral_norm(other) == pytest.approx(spectral_norm(model), rel=1e-4)


@given(st.integers(0, 200))
def test_units_that_never_fire_never_fire(seed: int) -> None:
    model, (inputs, _) = changed(net(2, seed), "dead", 4.0, seed), points(seed)
    with torch.no_grad():
        for layer in model[:-1]:
            inputs = layer(inputs)
            if isinstance(layer, nn.ReLU):
                assert inputs.shape[1] == 2 * UNITS and inputs[:, UNITS:].abs().max() == 0


def test_a_batch_norm_is_its_scale() -> None:
    norm = nn.BatchNorm1d(2).eval()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([3.0, -1.0]))
        norm.running_var.copy_(torch.tensor([4.0, 0.25]) - norm.eps)
    found = weights_of(nn.Sequential(norm))[0]
    assert torch.allclose(found, torch.tensor([[1.5, 0.0], [0.0, -2.0]]))


def test_sizes_by_hand() -> None:
    first, second, last = UNITS * (INPUTS + 1), UNITS * (UNITS + 1), CLASSES * (UNITS + 1)
    plain, wide = measured("none"), measured("split")
    assert plain["uncapped_bits"] == plain["parameters"] == first + second + last
    assert plain["previous_bits"] == first + 2 * UNITS
    assert wide["parameters"] == 2 * first + 2 * UNITS * (2 * UNITS + 1) + CLASSES * (2 * UNITS + 1)
    assert wide["previous_bits"] == 2 * plain["previous_bits"]
    assert measured("identity")["previous_bits"] == first + 4 * UNITS
    assert measured("rotated")["previous_bits"] == first + 4 * UNITS
    assert measured("normed")["parameters"] == plain["parameters"] + 4 * UNITS
    assert plain["points_per_bit"] * plain["previous_bits"] == pytest.approx(
        wide["points_per_bit"] * wide["previous_bits"]
    )


@pytest.mark.parametrize("change", SCALED)
def test_order_and_scale_move_no_size(change: str) -> None:
    for name in ("previous_bits", "running_bits", "uncapped_bits", "effective_bits", "points_per_bit",
                 "piece_bits", "storage_bits", "parameters", "nonzero_share"):  # fmt: skip
        assert factor(name, change) == 1
    assert (abs(factor("frobenius_norm", change) - 1) > 0.05) == (change != "reordered")


@pytest.mark.parametrize("change", WIDENED)
def test_more_units_raise_every_size_but_what_is_never_read_counts_in_no_effective_bit(change: str) -> None:
    for name in ("previous_bits", "uncapped_bits", "piece_bits", "storage_bits", "file_bytes"):
        assert factor(name, change) > 1.2
    assert (factor("effective_bits", change) == 1) == (change == "silent")


def test_batch_norm_moves_no_convention() -> None:
    for change in ("normed", "norm-scaled"):
        assert all(factor(f"{name}_bits", change) == 1 for name in ("previous", "running", "uncapped"))
        assert factor("parameters", change) > 1 and factor("spectral_norm", change) == pytest.approx(1, 1e-4)


def test_rounding_by_hand() -> None:
    """Two weights, 7 and 0.4: the second is lost."""
    model = nn.Sequential(nn.Linear(2, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[7.0, 0.4]]))
        model[0].bias.zero_()
        inputs = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
        assert rounding_noise(model, inputs) == pytest.approx(0.4 / (49 + 0.16) ** 0.5, rel=1e-5)


def rows_of(factors: dict[tuple[str, str], list[float]], networks: int = 6) -> pd.DataFrame:
    """Rows whose measures are 2, times these factors."""
    found = []
    for change in ("none", *CHANGES):
        for seed in range(networks):
            values = {name: 2.0 * factors.get((name, change), [1.0])[seed % networks % 6] if
                      (name, change) in factors else 2.0 for name in MEASURES}  # fmt: skip
            found.append({"dataset": "a", "seed": seed, "change": change, "moved": 1e-7} | values)
    return pd.DataFrame(found)


def test_verdicts_follow_the_factors() -> None:
    grown, mixed = [3.0, 3.1, 2.9, 3.0, 3.2, 2.8], [0.2, 2.0, 0.5, 1.9, 0.4, 1.6]
    near = [1.001, 0.999, 1.0, 1.002, 1.0, 0.998]
    frame = rows_of({
        ("margin", "split"): grown, ("path_norm", "split"): mixed, ("parameters", "dead"): near,
        ("sharpness", "dead"): [1 / f for f in grown],
    })  # fmt: skip
    means = summary(frame).set_index(["measure", "change"])
    assert means.loc[("margin", "split"), "verdict"] == "worse"  # more of it
    assert means.loc[("path_norm", "split"), "verdict"] == "cannot be told apart"
    assert means.loc[("parameters", "dead"), "verdict"] == "equivalent"
    assert means.loc[("sharpness", "dead"), "verdict"] == "better"
    found = moves(summary(frame)).set_index("measure")
    assert tuple(found.loc["path_norm", ["stays", "moves", "undecided"]]) == (9, 0, 1)
    assert tuple(found.loc["margin", ["stays", "moves"]]) == (9, 1) and found.loc["margin", "most"] == 3
    lines = headline(frame, Config())
    stay = next(line for line in lines if line.startswith("Moved by no change"))
    assert MEASURES["parameters"] in stay and MEASURES["margin"] not in stay
    assert "quick pass: no verdict" in headline(frame, Config(smoke=True))
    cells = next(row for row in table(frame).rows if row["label"] == MEASURES["parameters"])
    assert (cells["dead_mean"], cells["dead_half_width"]) == (1.0, 0.0)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    folder, text = computed(tmp_path_factory, "reparametrization", *SMALL)
    assert "quick pass: no verdict" in text
    return folder


def test_the_run_folder(undisturbed: Path) -> None:
    files = {path.name for path in undisturbed.iterdir()}
    assert files >= {"results.csv", "summary.csv", "table.tex", "reparametrization.pdf"}
    frame = pd.read_csv(undisturbed / "results.csv")
    assert len(frame) == 2 * (1 + len(CHANGES)) and set(frame["change"]) == {"none", *CHANGES}
    assert (frame[list(MEASURES)] > 0).drop(columns="margin").all().all()
    assert frame["moved"].max() < 1e-5 and np.isfinite(frame[list(MEASURES)]).all().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--datasets", "nothing"], "unknown dataset 'nothing'"),
        (["--datasets", "wine", "wine"], "datasets must be different ones"),
        (["--depth", "0"], "depth must be at least 1"),
        (["--factor", "1"], "factor must be above 1"),
        (["--factor", "1000"], "at most 100"),
        (["--rows", "50"], "rows must be at least 100"),
    ],
)
def test_bad_input(arguments: list[str], message: str, tmp_path: Path, capsys) -> None:
    ends_in_one_line(main, arguments, message, tmp_path / "run", capsys)
