"""The study of generalization: measures by hand, scores beside brute force, false positives, the command."""

import math
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from resuming import computed, killed_and_resumed, same_files
from running import ends_in_one_line
from torch import nn

from analysis.generalization_study import Config, headline, main, summary, table
from analysis.generalization_study.config import PRESETS
from analysis.generalization_study.judging import conditional_score, kendall
from analysis.generalization_study.measures import (
    MEASURES,
    active_parameters,
    margin,
    measures,
    path_norm,
    sharpness,
    spectral_norm,
)
from analysis.generalization_study.report import judged
from analysis.generalization_study.trials import network, samples
from analysis.sizing.tables import table as rows_of
from capacity import mean_half_width

SMALL = ["--smoke", "--datasets", "wine"]


def net(*sizes: int) -> nn.Sequential:
    return network(sizes[0], len(sizes) - 2, sizes[1], sizes[-1], seed=3)


def test_path_norm_over_all_paths() -> None:
    model = net(3, 4, 4, 2)
    first, second, third = (layer.weight.detach().double() for layer in model if isinstance(layer, nn.Linear))
    by_hand = sum(
        float((third[o, b] * second[b, a] * first[a, i]) ** 2)
        for o, b, a, i in product(range(2), range(4), range(4), range(3))
    )
    assert path_norm(model) == pytest.approx(math.sqrt(by_hand), rel=1e-5)


def test_spectral_norm_as_numpy_has_it() -> None:
    model = net(5, 7, 3)
    by_hand = math.prod(np.linalg.svd(w.weight.detach().numpy())[1][0] for w in (model[0], model[2]))
    assert spectral_norm(model) == pytest.approx(by_hand, rel=1e-5)


def test_margin_by_hand() -> None:
    logits = torch.tensor([[3.0, 1.0, 0.0], [0.0, 2.0, 5.0]])
    assert margin(logits[:1], torch.tensor([0])) == 2
    assert margin(logits[1:], torch.tensor([1])) == -3
    assert margin(logits, torch.tensor([0, 1])) == pytest.approx(-3 + 0.1 * 5)


def test_a_unit_that_never_fires_takes_its_weights_along() -> None:
    model = net(3, 4, 4, 2)
    inputs = torch.rand(50, 3)
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.weight.abs_()
            layer.bias.fill_(1.0)
        assert active_parameters(model, inputs) == sum(p.numel() for p in model.parameters())
        model[0].bias[1] = -100.0
    assert active_parameters(model, inputs) == 3 * (3 + 1) + 4 * (3 + 1) + 2 * (4 + 1)


def test_sharpness_knows_flat_from_sharp_and_leaves_the_weights() -> None:
    """Two classes, apart by 10 or by 0.5, and the same line between them."""
    torch.manual_seed(0)
    side = torch.arange(400) % 2
    model = nn.Sequential(nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))
        model[0].bias.copy_(torch.tensor([0.1, -0.1]))
    before = [p.clone() for p in model.parameters()]
    found = []
    with torch.no_grad():
        for gap in (10.0, 0.5):
            points = torch.randn(400, 2)
            points[:, 0] = (2 * side - 1) * gap
            found.append(sharpness(model, points, side, seed=1))
    assert 0 < found[0] < found[1]
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_every_measure_is_a_number_and_none_changes_the_network() -> None:
    model, start = net(4, 6, 3), net(4, 6, 3)
    with torch.no_grad():
        model[0].weight.add_(0.5)
    before = [p.clone() for p in model.parameters()]
    inputs, labels = torch.randn(60, 4), torch.arange(60) % 3
    found = measures(model, start, inputs, labels)
    assert set(found) == set(MEASURES) and all(math.isfinite(value) for value in found.values())
    assert found["parameters"] == 4 * 6 + 6 + 6 * 3 + 3
    assert found["start_distance"] == pytest.approx(math.sqrt(24 * 0.25))
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def brute_force(frame: pd.DataFrame, measure: str, error: str, factors: tuple[str, ...]) -> float:
    """Equations 7 to 11 of Jiang et al. by counting, pair by pair."""
    rows = frame.to_dict("records")
    found = []
    for size in range(3):
        for chosen in combinations(factors, size):
            counts: dict = {}
            for a, b in product(range(len(rows)), repeat=2):
                if a == b:
                    continue
                given = tuple((rows[a][name], rows[b][name]) for name in chosen)
                signs = tuple(np.sign(rows[a][name] - rows[b][name]) for name in (measure, error))
                counts.setdefault(given, {}).setdefault(signs, 0)
                counts[given][signs] += 1
            total, told, left = len(rows) * (len(rows) - 1), 0.0, 0.0
            for joint in counts.values():
                group = sum(joint.values())
                for (m, e), count in joint.items():
                    by_m = sum(c for (k, _), c in joint.items() if k == m)
                    by_e = sum(c for (_, k), c in joint.items() if k == e)
                    told += count / total * math.log2(count * group / (by_m * by_e))
                for e in {e for _, e in joint}:
                    by_e = sum(c for (_, k), c in joint.items() if k == e)
                    left -= by_e / total * math.log2(by_e / group)
            found.append(told / left if left > 1e-12 else 0.0)
    return min(found)


def grid(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = [{"width": w, "depth": d, "decay": k} for w, d, k in product((1, 2), (1, 2, 3), (0, 1))]
    return pd.DataFrame(rows).assign(
        measure=rng.integers(0, 5, len(rows)).astype(float), gap=rng.normal(size=len(rows)).round(1)
    )


@given(st.integers(0, 500))
@settings(max_examples=15)
def test_the_score_agrees_with_counting(seed: int) -> None:
    frame, factors = grid(seed), ("width", "depth", "decay")
    found = conditional_score(frame, "measure", "gap", factors)
    assert found == pytest.approx(max(brute_force(frame, "measure", "gap", factors), 0), abs=1e-9)


def test_what_two_settings_tell_scores_nothing() -> None:
    """The gap itself scores all, until two settings already tell it; a setting scores nothing."""
    frame, factors = grid(0), ("width", "depth", "decay")
    assert conditional_score(frame.assign(measure=frame["gap"]), "measure", "gap", factors) == pytest.approx(
        1
    )
    assert conditional_score(frame.assign(measure=frame["depth"]), "measure", "gap", factors) == 0
    told = frame.assign(gap=frame["width"] + 10.0 * frame["depth"])
    assert conditional_score(told.assign(measure=told["gap"]), "measure", "gap", factors) == 0


def test_kendall_without_variation() -> None:
    assert kendall(np.ones(4), np.arange(4.0)) == 0
    assert kendall(np.arange(4.0), -np.arange(4.0)) == -1


def test_a_measure_that_means_nothing_is_called_so() -> None:
    """2,000 simulated studies of 20 networks, 5 seeds: a verdict in at most 6 %; a true one mostly found."""
    rng = np.random.default_rng(0)
    first, second = np.triu_indices(20, 1)

    def verdicts(strength: float) -> float:
        gap = rng.normal(size=(2000, 5, 20))
        value = strength * gap + rng.normal(size=gap.shape)
        signs = [np.sign(x[..., first] - x[..., second]) for x in (gap, value)]
        taus = (signs[0] * signs[1]).mean(-1)  # without ties this is Kendall's
        rows = ({"gap_tau_mean": t.mean(), "gap_tau_half_width": mean_half_width(t.tolist())} for t in taus)
        return float(np.mean([str(judged(row, quick=False)) != "cannot be told apart" for row in rows]))

    assert 0.03 < verdicts(0.0) < 0.06
    assert verdicts(1.0) > 0.9


def test_noise_is_the_same_share_of_both_halves() -> None:
    features, labels = rows_of("digits", 100)
    (inputs, targets), (others, tests) = samples(features, labels, 0.5, seed=2)
    order = np.random.default_rng(2).permutation(len(labels))
    assert len(targets) + len(tests) == len(labels)
    for found, part in ((targets, order[: len(targets)]), (tests, order[len(targets) :])):
        changed = (found.numpy() != labels[part]).mean()
        assert changed == pytest.approx(0.5 * 0.9, abs=0.05)  # a tenth is drawn as it was
    assert inputs.mean(0).abs().max() < 1e-5 and others.mean(0).abs().max() > 1e-3


def test_presets_have_the_networks_they_promise() -> None:
    assert PRESETS["full"].networks == 216 and PRESETS["full"].seeds == 5


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    folder, text = computed(tmp_path_factory, "generalization_study", *SMALL)
    assert "quick pass: no verdict" in text
    return folder


def test_the_run_folder(undisturbed: Path) -> None:
    files = {path.name for path in undisturbed.iterdir()}
    assert files >= {"results.csv", "summary.csv", "table.tex", "generalization_study.pdf"}
    frame = pd.read_csv(undisturbed / "results.csv")
    assert len(frame) == 2 * 16 and set(MEASURES) <= set(frame.columns)
    assert np.allclose(frame["gap"], frame["test_error"] - frame["training_error"])
    assert frame[list(MEASURES)].notna().all().all()


def test_killed_and_resumed_it_gives_the_same(undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    done = killed_and_resumed("generalization_study", *SMALL, folder=folder, at="network-wine-1-4-2.json")
    assert "resumed from" in done.stdout
    same_files(folder, undisturbed, "results.csv")


def test_verdicts_turn_with_the_measurement(undisturbed: Path) -> None:
    frame = pd.read_csv(undisturbed / "results.csv")
    for sign, word in ((1, "larger"), (-1, "smaller")):
        turned = frame.assign(capacity=sign * frame["gap"] + 1e-9 * frame["seed"])
        found = {row["measure"]: row["verdict"] for row in table(turned, Config()).rows}
        assert found["capacity"] == word
        assert summary(turned).set_index("measure").loc["capacity", "gap_tau_mean"] == pytest.approx(sign)
        said = [line for line in headline(turned, Config()) if line.startswith("capacity")]
        assert len(said) == 1 and f"the {word} the gap" in said[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--datasets", "nothing"], "unknown dataset 'nothing'"),
        (["--widths", "8", "8"], "widths must be different values"),
        (["--depths", "0", "1"], "depths must be at least 1"),
        (["--label-noises", "1.5"], "label_noises must be shares up to 1"),
        (["--rows", "50"], "rows must be at least 100"),
        (["--datasets", "wine", "--depths", "1", "--widths", "4", "--train-epochs", "3"], "too few to rank"),
    ],
)
def test_bad_input(arguments: list[str], message: str, tmp_path: Path, capsys) -> None:
    ends_in_one_line(main, arguments, message, tmp_path / "run", capsys)
