"""Rules that end a squeeze: knee, peak of what is learned, and a paired test against its oracle."""

from math import log2

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from capacity import InputError, generalization
from capacity.report import CapacityReport, LayerCapacity
from compression.batches import TensorBatches
from compression.criteria import L1
from compression.evaluation import mcnemar, predictions
from compression.squeezing import squeeze
from compression.stopping import Knee, McNemarStop, Peak, knee
from compression.training import evaluate

CURVE = [
    {"capacity_bits": 1000 / 2**k, "top1_error": error, "correct": round(1000 * (1 - error)), "total": 1000,
     "classes": 10}
    for k, error in enumerate([0.02, 0.02, 0.02, 0.025, 0.2, 0.5])
]  # fmt: skip


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 40), nn.ReLU(), nn.Linear(40, 3))


INPUTS = torch.randn(400, 6, generator=torch.Generator().manual_seed(1))
DATA = TensorBatches(INPUTS, net()(INPUTS).argmax(1), 100)


def stopped(stop, metrics) -> int:
    """Index of the step after which the rule stops, as squeeze would ask it."""
    return next((k for k in range(len(metrics)) if stop(None, None, metrics[: k + 1])), len(metrics))


def test_the_knee_is_where_the_curve_bends_and_the_stop_comes_after_it() -> None:
    assert knee([m["capacity_bits"] for m in CURVE], [m["top1_error"] for m in CURVE]) == 3
    assert stopped(Knee(), CURVE) == 4 and Knee().keep(CURVE[:5]) == 3
    assert stopped(Knee(rise=0.4), CURVE) == 5


@given(st.lists(st.floats(0, 1), min_size=3, max_size=12))
def test_the_knee_lies_on_the_curve_and_below_the_chord(errors) -> None:
    capacities = [2.0**-k for k in range(len(errors))]
    place = knee(capacities, errors)
    last = len(errors) - 1
    chord = errors[0] + (errors[-1] - errors[0]) * place / last
    assert 0 <= place <= last
    if place != last:
        assert errors[place] <= chord + 1e-9


def test_a_curve_without_a_knee_never_stops() -> None:
    flat = [{"capacity_bits": 1000 / 2**k, "top1_error": 0.02} for k in range(6)]
    straight = [{"capacity_bits": 1000 / 2**k, "top1_error": 0.1 * k} for k in range(6)]
    assert stopped(Knee(), flat) == 6 and stopped(Knee(), straight) == 6


@pytest.mark.parametrize(("patience", "last"), [(1, 4), (2, 5), (3, 6)])
def test_the_peak_of_what_is_learned(patience: int, last: int) -> None:
    assert stopped(Peak(patience=patience), CURVE) == last
    assert Peak().keep(CURVE) == 3


def test_a_network_of_one_bit_that_guesses_has_the_highest_rho_and_is_no_peak() -> None:
    curve = [*CURVE, {"capacity_bits": 1, "top1_error": 0.9, "correct": 100, "total": 1000, "classes": 10}]
    rho = [{"points_per_bit": m["correct"] / m["capacity_bits"]} for m in curve]
    assert Peak("points_per_bit").keep(rho) == len(curve) - 1 and Peak().keep(curve) == 3
    layers = (LayerCapacity("layer", "dense", 125, None, 125, 125),)
    report = CapacityReport(layers, "previous", "all", True, "(6,)", 125)
    used = generalization(report, correct=975, total=1000, label_bits=log2(10), classes=10)
    with_bits = [m | {"learned_share": float(k == 1)} for k, m in enumerate(curve)]
    assert Peak().keep(with_bits) == 1
    assert Peak()._values(CURVE)[3] == pytest.approx(used.learned_share)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_exact_binomial_test(lost: int, gained: int) -> None:
    before = torch.tensor([True] * lost + [False] * gained + [True, False])
    after = torch.tensor([False] * lost + [True] * gained + [True, False])
    found = mcnemar(before, after)
    assert (found.lost, found.gained) == (lost, gained)
    tail = min(1.0, 2 * binom.cdf(min(lost, gained), lost + gained, 0.5)) if lost + gained else 1.0
    assert found.p_value == pytest.approx(tail)


def run(stop, **options) -> list:
    return list(
        squeeze(net(), L1("zero"), amount=0.4, iterations=8, unit="neuron", retrain=lambda m: m,
                evaluate=lambda m: evaluate(m, DATA), stop=stop, **options)
    )  # fmt: skip


def test_a_squeeze_ends_when_the_loss_is_real() -> None:
    everything, found = run(None), run(McNemarStop(DATA, looks=1))
    assert 1 < len(found) < len(everything) == 9
    right = [predictions(step.model, DATA)[0] == DATA.targets for step in everything]
    tests = [mcnemar(right[0], each) for each in right]
    real = [test.lost > test.gained and test.p_value < 0.05 for test in tests]
    assert len(found) == real.index(True) + 1
    levels = [test.p_value < McNemarStop(DATA).level(k + 1) for k, test in enumerate(tests[1:])]
    assert len(run(McNemarStop(DATA))) == levels.index(True) + 2
    assert McNemarStop(DATA).keep([step.metrics for step in found]) == len(found) - 2
    assert len(run(McNemarStop(DATA, looks=10**30))) >= len(found)


def test_looks_that_are_not_counted_before_stop_by_chance_in_five_of_a_hundred() -> None:
    """2,000 simulated squeezes of 20 steps by which no model gets worse: points change sides at random."""
    rng = np.random.default_rng(0)
    changed = (rng.random((2000, 20, 200), dtype=np.float32) < 0.03).cumsum(1, dtype=np.int8) % 2
    lost, gained = (
        changed[..., :100].sum(-1),
        changed[..., 100:].sum(-1),
    )  # of points right, and wrong, before
    p_values = np.minimum(1, 2 * binom.cdf(np.minimum(lost, gained), lost + gained, 0.5))
    levels = np.array([McNemarStop(DATA).level(look) for look in range(1, 21)])
    assert levels.sum() < 0.05

    def stopped_by(level: np.ndarray | float) -> float:
        return float(((lost > gained) & (p_values < level)).any(1).mean())

    assert stopped_by(levels) <= 0.05 < stopped_by(0.05)  # an uncorrected test stops too often


def test_a_resumed_squeeze_stops_where_it_stopped(tmp_path) -> None:
    def go() -> list:
        return run(McNemarStop(DATA), directory=tmp_path)

    first, second = go(), go()
    assert [s.metrics for s in first] == [s.metrics for s in second] and all(s.resumed for s in second)


def test_bad_input() -> None:
    with pytest.raises(InputError, match="unknown metric 'capacity_bits'"):
        run(Peak())
    with pytest.raises(InputError, match="must not be shuffled"):
        run(McNemarStop(DataLoader(TensorDataset(INPUTS, DATA.targets), 100, shuffle=True), alpha=1e-9))
    with pytest.raises(InputError, match="patience"):
        Peak(patience=0)(None, None, CURVE)
    with pytest.raises(InputError, match="alpha"):
        McNemarStop(DATA, alpha=2)(None, None, CURVE)
    with pytest.raises(InputError, match="as many errors as capacities"):
        knee([1, 0], [0.1, 0.2])
    with pytest.raises(InputError, match="is nan"):
        Knee()(None, None, [{"capacity_bits": 1.0, "top1_error": float("nan")}])
    with pytest.raises(InputError, match="differ in length"):
        mcnemar(torch.tensor([True]), torch.tensor([True, False]))
