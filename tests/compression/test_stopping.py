"""Rules that end a squeeze: knee, peak of rho, and a paired test against its oracle."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from capacity import InputError
from compression.batches import TensorBatches
from compression.criteria import L1
from compression.evaluation import mcnemar, predictions
from compression.squeezing import squeeze
from compression.stopping import Knee, McNemarStop, Peak, knee
from compression.training import evaluate

CURVE = [
    {"capacity_bits": 1000 / 2**k, "top1_error": error, "points_per_bit": rho}
    for k, (error, rho) in enumerate([(0.02, 1), (0.02, 2), (0.02, 4), (0.025, 8), (0.2, 6), (0.5, 3)])
]


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
def test_the_peak_of_rho(patience: int, last: int) -> None:
    assert stopped(Peak(patience=patience), CURVE) == last
    assert Peak().keep(CURVE) == 3


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
    everything, found = run(None), run(McNemarStop(DATA))
    assert 1 < len(found) < len(everything) == 9
    right = [predictions(step.model, DATA)[0] == DATA.targets for step in everything]
    tests = [mcnemar(right[0], each) for each in right]
    real = [test.lost > test.gained and test.p_value < 0.05 for test in tests]
    assert len(found) == real.index(True) + 1
    assert McNemarStop(DATA).keep([step.metrics for step in found]) == len(found) - 2
    assert len(run(McNemarStop(DATA, looks=10**30))) >= len(found)


def test_a_resumed_squeeze_stops_where_it_stopped(tmp_path) -> None:
    def go() -> list:
        return run(McNemarStop(DATA), directory=tmp_path)

    first, second = go(), go()
    assert [s.metrics for s in first] == [s.metrics for s in second] and all(s.resumed for s in second)


def test_bad_input() -> None:
    with pytest.raises(InputError, match="unknown metric 'points_per_bit'"):
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
