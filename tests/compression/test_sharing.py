"""Shared and rounded weights: clusters against scikit-learn, budgets, training, bad input."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from torch import nn
from torch.nn import functional as F

from analysis.lab.models import create
from capacity import InputError
from compression.criteria import L1
from compression.masks import masks_of
from compression.pruning import prune
from compression.rates import _Grid, quantize_rate_distortion
from compression.sharing import cluster, share_weights
from compression.training import TrainingSettings, fit


def pruned(density: float = 0.1) -> nn.Module:
    torch.manual_seed(0)
    return prune(
        create("lenet300", input_size=(1, 8, 8), classes=10), L1(), amount=1 - density, unit="weight"
    ).model


def batches(count: int = 20) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randn(count, 32, 1, 8, 8, generator=generator)
    return [(x, x.flatten(1)[:, :10].argmax(1)) for x in pictures]


def loss_of(model: nn.Module) -> float:
    with torch.no_grad():
        return sum(float(F.cross_entropy(model(x), y)) for x, y in batches())


@pytest.mark.parametrize("count", [2, 5, 16])
def test_clusters_are_those_of_scikit_learn(count: int) -> None:
    weights = torch.randn(2_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    start = torch.linspace(float(weights.min()), float(weights.max()), count, dtype=torch.float64)
    theirs = KMeans(count, init=start[:, None].numpy(), n_init=1, max_iter=100, tol=0.0)
    theirs.fit(weights[:, None].numpy())
    ours = cluster(weights, count, init="linear")
    expected = torch.from_numpy(theirs.cluster_centers_[:, 0]).sort().values
    assert torch.allclose(ours.double(), expected, rtol=1e-3, atol=1e-3)


@settings(max_examples=50, deadline=None)
@given(
    weights=st.one_of(
        st.lists(st.floats(-most, most, width=32).filter(lambda w: w != 0), min_size=1, max_size=200)
        for most in (2.0**-21, 1e4, 1e6)
    ),
    bits=st.integers(1, 6), init=st.sampled_from(["linear", "random", "density"]),
)  # fmt: skip
def test_any_weights_get_at_most_so_many_values(weights: list[float], bits: int, init) -> None:
    book = cluster(torch.tensor(weights), 2**bits, init=init, generator=torch.Generator().manual_seed(0))
    assert 1 <= len(book) <= min(2**bits, len(weights))
    assert bool((book != 0).all()) and bool(torch.isfinite(book).all())
    if 2.0**-20 <= float(book.abs().max()) <= 65504.0:
        assert torch.equal(book, book.half().float())
    else:
        rounding = 1e-13 * max(map(abs, weights))  # means are differences of sums in double precision
        assert max(weights) + rounding >= float(book.max()) and float(book.min()) >= min(weights) - rounding
    assert torch.equal(book, book.sort().values)


@pytest.mark.parametrize("init", ["linear", "random", "density"])
def test_zeros_stay_and_the_others_share(init) -> None:
    model = pruned()
    result = share_weights(model, bits=3, init=init)
    for name, parameter in result.model.named_parameters():
        before = masks_of(model).get(name)
        if before is not None:
            assert not bool(parameter[~before].any()), name
        values = torch.unique(parameter[parameter != 0])
        assert len(values) <= 8 and torch.equal(values, values.half().float())
    assert all(row.rms_error < 0.4 * row.rms_weight for row in result.tensors)
    assert "rms error" in str(result) and len(result.to_frame()) == len(result.tensors)


def test_more_bits_err_less() -> None:
    model = pruned()
    errors = [sum(row.rms_error for row in share_weights(model, bits=bits).tensors) for bits in (1, 2, 4, 6)]
    assert errors == sorted(errors, reverse=True)


def test_shared_values_follow_their_gradients() -> None:
    training = TrainingSettings(epochs=6, weight_decay=0)
    model = prune(fit(pruned(0.5), batches(), settings=training).model, L1(), amount=0.5).model
    plain = share_weights(model, bits=1)
    trained = share_weights(model, bits=1, retrain=lambda m: fit(m, batches(), settings=training))
    assert loss_of(trained.model) < 0.9 * loss_of(plain.model)
    for first, second in zip(plain.model.parameters(), trained.model.parameters(), strict=True):
        assert torch.equal(first == 0, second == 0)
        pairs = torch.stack([first[first != 0], second[second != 0]])
        assert len(torch.unique(pairs, dim=1)[0]) == len(torch.unique(pairs[0]))  # each cluster moved as one


def test_bits_within_a_budget() -> None:
    model = pruned()
    free = share_weights(model, bits=6)
    for budget in (1_500, 3_000):
        found = share_weights(model, bits=6, budget_bytes=budget)
        assert {row.bits for row in found.tensors} != {row.bits for row in free.tensors}
        assert sum(row.rms_error for row in found.tensors) < sum(
            row.rms_error for row in share_weights(model, bits=1).tensors
        )
    with pytest.raises(InputError, match="one bit for each parameter takes"):
        share_weights(model, budget_bytes=100)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 0}, "between 1 and 12"),
        ({"bits": {"1.wieght": 3}}, "did you mean"),
        ({"init": "middle"}, "linear"),
    ],
)
def test_bad_input_of_share(options, message: str) -> None:
    with pytest.raises(InputError, match=message):
        share_weights(pruned(), **options)


def test_rounding_without_a_penalty_is_rounding() -> None:
    model = pruned()
    result = quantize_rate_distortion(model, penalty=0.0)
    steps = {row.name: row.step for row in result.tensors}
    for (name, after), before in zip(
        sorted(result.model.named_parameters()),
        (p for _, p in sorted(share_weights(model, bits={}).model.named_parameters())),
        strict=True,
    ):
        if name in steps:
            assert torch.equal(after, (before / steps[name]).round() * steps[name])


def test_a_penalty_buys_fewer_bits_with_more_error() -> None:
    model = pruned(0.5)
    found = [quantize_rate_distortion(model, penalty=penalty) for penalty in (0.0, 0.02, 0.1)]
    bits = [sum(row.entropy_bits for row in result.tensors) for result in found]
    kept = [sum(row.nonzero_after for row in result.tensors) for result in found]
    assert bits == sorted(bits, reverse=True) and kept == sorted(kept, reverse=True) and kept[2] < kept[0]
    assert "by entropy" in str(found[0])


def test_rounding_is_trained_through() -> None:
    model = pruned(0.3)
    plain = quantize_rate_distortion(model, relative_step=1.5)
    trained = quantize_rate_distortion(
        model, relative_step=1.5, retrain=lambda m: fit(m, batches(), settings=TrainingSettings(epochs=4))
    )
    assert loss_of(trained.model) < 0.9 * loss_of(plain.model)
    for row, parameter in zip(trained.tensors, trained.model.parameters(), strict=False):
        levels = parameter / row.step
        assert torch.equal(levels, levels.round()), row.name
    for name, mask in masks_of(model).items():
        assert not bool(trained.model.get_parameter(name)[~mask].any())


def test_weights_settle_while_the_others_make_up_for_it() -> None:
    """All at the first pass is plain rounding; one after another errs less than rounding alone."""
    model = pruned(0.3)
    train = partial(fit, data=batches(), settings=TrainingSettings(epochs=4))
    plain = quantize_rate_distortion(model, relative_step=1.5)
    at_once = quantize_rate_distortion(model, relative_step=1.5, retrain=train, settle=1)
    for name, parameter in plain.model.named_parameters():
        assert torch.equal(at_once.model.get_parameter(name), parameter)
    passes = 4 * len(batches())
    for settle in (
        passes // 2,
        passes,
        10 * passes,
    ):  # the last: most never settle, and are rounded at the end
        result = quantize_rate_distortion(model, relative_step=1.5, retrain=train, settle=settle)
        assert loss_of(result.model) < (0.95 if settle <= passes else 1.1) * loss_of(plain.model)
        for row in result.tensors:
            levels = result.model.get_parameter(row.name) / row.step
            assert torch.equal(levels, levels.round()), row.name


def test_ever_more_weights_are_settled_and_stay_so() -> None:
    """Real numbers for two fifths of the passes, then a step of what they became, and one after another."""
    grid = _Grid(torch.randn(500), relative_step=0.5, penalty=0.02, refresh=50, settle=100)
    values, before = torch.randn(500), torch.zeros(500, dtype=torch.bool)
    for turn in range(1, 121):
        values = values + 0.1 * torch.randn(500)
        rounded = grid(values)
        assert bool((before <= grid.settled).all())
        assert torch.equal(rounded[grid.settled], grid.step * grid.levels[grid.settled])
        assert torch.equal(rounded[~grid.settled], values[~grid.settled])  # real until they settle
        if turn == 40:
            wanted = float((0.5 * values.double().square().mean().sqrt()).half())
            assert (float(grid.step), int(grid.settled.sum())) == (wanted, 0)
        if turn >= 40 and turn % 10 == 0:
            left = max(0.0, 100 - turn) / 60
            assert int(grid.settled.sum()) == round(500 * (1 - left**2))
        before = grid.settled.clone()
    assert float(grid.step) == wanted and bool(grid.settled.all())


def test_weights_that_training_left_nothing_of_keep_their_step() -> None:
    grid = _Grid(torch.randn(50), relative_step=0.5, penalty=0.02, refresh=50, settle=10)
    step = float(grid.step)
    for _ in range(12):
        assert torch.equal(grid(torch.zeros(50)), torch.zeros(50))
    assert float(grid.step) == step and bool(grid.settled.all())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"penalty": -1.0}, "must not be negative"),
        ({"relative_step": 0.0}, "positive"),
        ({"settle": 0}, "settle must be at least 1"),
    ],
)
def test_bad_input_of_rounding(options, message: str) -> None:
    with pytest.raises(InputError, match=message):
        quantize_rate_distortion(pruned(), **options)


@pytest.mark.parametrize("change", [share_weights, quantize_rate_distortion])
def test_weights_that_are_not_finite(change) -> None:
    model = pruned()
    with torch.no_grad():
        model.get_submodule("5").bias[0] = float("inf")  # type: ignore[index,operator]
    with pytest.raises(InputError, match=r"5\.bias holds values that are not finite"):
        change(model)
