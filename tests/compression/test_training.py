"""fit(): the same as a bare torch loop, masks that stay, schedules, early stop, refused input."""

import copy
import shutil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from capacity import InputError
from compression.batches import TensorBatches
from compression.criteria import L1
from compression.masks import masks_of
from compression.precision import fast_bf16
from compression.pruning import prune
from compression.training import TrainingSettings, fit, learning_rate_factor


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))


def data(count: int = 60, size: int = 16) -> TensorBatches:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(count, 5, generator=generator)
    return TensorBatches(inputs, (inputs[:, 0] > 0).long() + (inputs[:, 1] > 0).long(), size, shuffle=True)


def bare(model: nn.Module, batches: TensorBatches, settings: TrainingSettings, masks=None) -> nn.Module:
    """A loop written against torch alone."""
    model = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    steps = len(batches)
    for epoch in range(settings.epochs):
        batches.set_epoch(epoch)
        for number, (x, y) in enumerate(batches):
            factor = learning_rate_factor(epoch + (number + 1) / steps, settings)
            optimizer.param_groups[0]["lr"] = settings.learning_rate * factor
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    return model


def test_equals_a_bare_loop() -> None:
    settings = TrainingSettings(epochs=3, learning_rate=0.1, warmup_epochs=1)
    expected = bare(net(), data(), settings).state_dict()
    found = fit(net(), data(), settings=settings).model.state_dict()
    assert all(torch.allclose(found[key], value, atol=1e-6) for key, value in expected.items())


def test_masked_training_equals_torchs_masked_training() -> None:
    settings = TrainingSettings(epochs=2, learning_rate=0.1, weight_decay=5e-4)
    pruned = prune(net(), L1(), amount=0.4).model
    expected = bare(pruned, data(), settings)
    found = fit(pruned, data(), settings=settings).model
    x = torch.randn(4, 5)
    assert torch.allclose(found(x), expected(x), atol=1e-5)
    masks = masks_of(found)
    assert torch.equal(masks["0.weight"], masks_of(pruned)["0.weight"])
    assert bool((found[0].weight[~masks["0.weight"]] == 0).all())


def test_the_same_seed_gives_the_same_bytes_and_the_model_stays() -> None:
    model = nn.Sequential(nn.Linear(5, 8), nn.Dropout(), nn.Linear(8, 3))
    before = copy.deepcopy(model.state_dict())
    state = torch.random.get_rng_state()
    one, two, other = (
        fit(model, data(), settings=TrainingSettings(epochs=2, seed=s)).model for s in (7, 7, 8)
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one[0].weight, other[0].weight)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_frozen_parameters_stay() -> None:
    model = net()
    model[0].requires_grad_(False)
    trained = fit(model, data()).model
    assert torch.equal(trained[0].weight, model[0].weight)
    assert not torch.equal(trained[2].weight, model[2].weight)


def test_it_learns_with_either_optimizer_and_a_dataloader() -> None:
    from torch.utils.data import DataLoader, TensorDataset

    batches = data(200)
    loader = DataLoader(TensorDataset(batches.inputs, batches.targets), batch_size=16)
    for optimizer, rate in (("sgd", 0.1), ("adamw", 0.01)):
        fitted = fit(
            net(), loader, settings=TrainingSettings(epochs=15, optimizer=optimizer, learning_rate=rate)
        )
        losses = fitted.to_frame()["training_loss_nats"]
        assert losses.iloc[-1] < 0.5 * losses.iloc[0]


def test_early_stop_goes_back_to_the_best() -> None:
    rounds = []
    fitted = fit(
        net(), data(),
        settings=TrainingSettings(epochs=50, learning_rate=0.3, schedule="constant", patience=3),
        validation=data(30), progress=lambda epoch, epochs: rounds.append(epoch),
    )  # fmt: skip
    errors = [entry["validation_top1_error"] for entry in fitted.history]
    assert fitted.stopped_early and len(errors) == len(rounds) < 50
    from compression.training import evaluate

    assert evaluate(fitted.model, data(30)).top1_error == min(errors)


@given(st.integers(1, 30), st.floats(0, 5), st.sampled_from(["cosine", "constant"]))
def test_the_rate_rises_then_falls_within_bounds(epochs: int, warmup: float, schedule: str) -> None:
    settings = TrainingSettings(epochs=epochs, warmup_epochs=min(warmup, epochs / 2), schedule=schedule)
    rates = [learning_rate_factor(epochs * k / 50, settings) for k in range(51)]
    peak = rates.index(max(rates))
    assert all(0 <= rate <= 1 for rate in rates)
    assert rates[: peak + 1] == sorted(rates[: peak + 1]) and rates[peak:] == sorted(
        rates[peak:], reverse=True
    )


def test_neuron_dropout_changes_training_and_the_layer_learns() -> None:
    plain = fit(net(), data(), settings=TrainingSettings(epochs=1)).model
    dropped = fit(net(), data(), settings=TrainingSettings(epochs=1, neuron_dropout={"0": 3})).model
    assert not torch.equal(plain[0].weight, dropped[0].weight)
    assert not torch.equal(net()[0].weight, dropped[0].weight) and not dropped[0]._forward_hooks


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (TrainingSettings(epochs=0), "epochs"),
        (TrainingSettings(learning_rate=0), "learning_rate"),
        (TrainingSettings(patience=2), "patience needs validation"),
        (TrainingSettings(learning_rate=1e30), "training diverged"),
        (TrainingSettings(learning_rate=float("inf")), "learning_rate must be positive and finite"),
        (TrainingSettings(learning_rate=float("nan")), "learning_rate must be positive and finite"),
        (TrainingSettings(weight_decay=-1), "weight_decay must not be negative"),
        (TrainingSettings(warmup_epochs=-1), "warmup_epochs must not be negative"),
        (TrainingSettings(momentum=1.0), "momentum"),
        (TrainingSettings(optimizer="adam"), "did you mean 'adamw'"),  # type: ignore[arg-type]
        (TrainingSettings(schedule="linear"), "unknown schedule"),  # type: ignore[arg-type]
        (TrainingSettings(mixed_precision="fp8"), "unknown mixed_precision"),  # type: ignore[arg-type]
        (TrainingSettings(epochs=2.5), "epochs must be a whole number"),  # type: ignore[arg-type]
        (TrainingSettings(patience=0), "patience must be at least 1"),
    ],
)
def test_bad_input(settings: TrainingSettings, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit(net(), data(), settings=settings)


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(InputError, match="no trainable parameters"):
        fit(net().requires_grad_(False), data())
    with pytest.raises(InputError, match="no training data"):
        fit(net(), [])


def test_every_precision_in_one_process_and_single_afterwards() -> None:
    x = data().inputs
    fast = fast_bf16(torch.device("cpu"))
    for precision in ("no", "bf16", "no") if fast else ("no", "no"):
        trained = fit(net(), data(), settings=TrainingSettings(epochs=2, mixed_precision=precision)).model
        assert all(p.dtype == torch.float32 for p in trained.parameters())
        fresh = net()
        fresh.load_state_dict(trained.state_dict())
        with torch.no_grad():
            found = trained(x)
            assert found.dtype == torch.float32 and torch.equal(found, fresh(x)), precision


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
def test_through_the_compiler_it_learns_the_same() -> None:
    plain = fit(net(), data(), settings=TrainingSettings(epochs=3))
    fast = fit(net(), data(), settings=TrainingSettings(epochs=3, compile=True))
    assert type(fast.model) is nn.Sequential
    for key, value in plain.model.state_dict().items():
        torch.testing.assert_close(fast.model.state_dict()[key], value, rtol=1e-4, atol=1e-5)


@given(st.integers(0, 999), st.sampled_from(["neuron", "weight"]), st.sampled_from(["sgd", "adamw"]))
def test_what_is_masked_stays_zero_whether_rows_or_weights_are_dropped(
    seed: int, unit: str, optimizer: str
) -> None:
    torch.manual_seed(seed)
    pruned = prune(net(), L1(), amount=0.3, unit=unit).model
    settings = TrainingSettings(epochs=1, optimizer=optimizer, learning_rate=0.01)
    found = fit(pruned, data(), settings=settings).model
    for name, mask in masks_of(pruned).items():
        layer, _, key = name.rpartition(".")
        original = found.get_submodule(layer).parametrizations[key].original
        assert bool((original[~mask] == 0).all()) and bool((original[mask] != 0).any())
