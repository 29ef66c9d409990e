"""Gradual pruning: the cubic, exact sparsities, nothing comes back."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from capacity import InputError
from capacity.live import live_masks
from compression.batches import TensorBatches
from compression.criteria import L1, Random
from compression.masks import density, masks_of, nested
from compression.pruning import prune
from compression.schedules import GradualPruning, rewind
from compression.training import TrainingSettings, fit


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 30), nn.ReLU(), nn.Linear(30, 20), nn.ReLU(), nn.Linear(20, 3))


INPUTS = torch.randn(90, 5, generator=torch.Generator().manual_seed(1))
DATA = TensorBatches(INPUTS, INPUTS.argmax(1) % 3, 10, shuffle=True)


@given(st.floats(0.01, 0.99), st.integers(1, 30))
def test_the_cubic_rises_ever_more_slowly_to_the_end(final: float, updates: int) -> None:
    schedule = GradualPruning(L1(), final, end_epoch=1, updates=updates)
    path = [schedule.sparsity(k) for k in range(updates + 1)]
    steps = [b - a for a, b in pairwise(path)]
    assert path[0] == 0 and path[-1] == pytest.approx(final)
    assert all(a >= b - 1e-12 for a, b in pairwise(steps)) and min(steps) > 0


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("criterion", [L1(center="zero"), Random(1), torch.abs])
def test_the_final_sparsity_is_exact(scope, criterion) -> None:
    settings = TrainingSettings(
        epochs=4, gradual=GradualPruning(criterion, 0.8, end_epoch=3, updates=7, scope=scope)
    )
    trained = fit(net(), DATA, settings=settings).model
    masks = masks_of(trained)
    assert set(masks) == {"0.weight", "2.weight"}
    kept = {name: int(mask.sum()) for name, mask in masks.items()}
    assert sum(kept.values()) == 750 - 600 if scope == "global" else kept == {"0.weight": 30, "2.weight": 120}
    for name, mask in masks.items():
        layer = trained.get_submodule(name.removesuffix(".weight"))
        assert not layer.parametrizations.weight.original[~mask].any()


def test_what_was_pruned_before_stays_pruned_and_counts() -> None:
    before = prune(net(), L1(), amount=0.5, scope="global").model
    settings = TrainingSettings(epochs=2, gradual=GradualPruning(L1(), 0.7, end_epoch=2, updates=5))
    after = fit(before, DATA, settings=settings).model
    assert nested(masks_of(after), masks_of(before)) and density(masks_of(after)) == pytest.approx(0.3)


def test_it_ends_before_training_does_and_the_same_seed_gives_the_same_masks() -> None:
    settings = TrainingSettings(epochs=3, gradual=GradualPruning(L1(), 0.9, begin_epoch=0.5, end_epoch=2))
    one, two = (fit(net(), DATA, settings=settings).model for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert density(masks_of(one)) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"final_sparsity": 1.0}, "final_sparsity"),
        ({"end_epoch": 9}, "does not lie within the 4 epochs"),
        ({"begin_epoch": 3, "end_epoch": 2}, "does not lie within"),
        ({"updates": 0}, "updates"),
        ({"layers": ["7"]}, "unknown layer"),
    ],
)
def test_bad_input(options: dict, message: str) -> None:
    schedule = GradualPruning(**({"criterion": L1(), "final_sparsity": 0.5, "end_epoch": 2} | options))
    with pytest.raises(InputError, match=message):
        fit(net(), DATA, settings=TrainingSettings(epochs=4, gradual=schedule))
    with pytest.raises(InputError, match="leave it out with gradual"):
        patient = TrainingSettings(epochs=4, patience=1, gradual=GradualPruning(L1(), 0.5, end_epoch=2))
        fit(net(), DATA, settings=patient, validation=DATA)


def test_data_without_a_length_cannot_be_pruned_along() -> None:
    class Endless:
        def __iter__(self):
            return iter(DATA)

    with pytest.raises(InputError, match="data with a length"):
        fit(
            net(),
            Endless(),
            settings=TrainingSettings(epochs=2, gradual=GradualPruning(L1(), 0.5, end_epoch=1)),
        )


def test_rewinding_goes_back_to_early_values_and_trains_the_rest_of_the_schedule() -> None:
    whole = fit(net(), DATA, settings=TrainingSettings(epochs=6, snapshot_epoch=2))
    early = fit(net(), DATA, settings=TrainingSettings(epochs=6, snapshot_epoch=0)).snapshot
    assert all(torch.equal(a, b) for a, b in zip(early.parameters(), net().parameters(), strict=True))
    pruned = prune(whole.model, L1("zero"), amount=0.5, scope="global").model
    back = rewind(pruned, whole.snapshot)
    for name, mask in masks_of(pruned).items():
        kept = back.get_submodule(name.removesuffix(".weight")).parametrizations.weight.original
        assert torch.equal(kept[mask], whole.snapshot.get_parameter(name)[mask]) and not kept[~mask].any()
        assert torch.equal(masks_of(back)[name], mask)
    again = fit(back, DATA, settings=TrainingSettings(epochs=6, start_epoch=2))
    assert [entry["epoch"] for entry in again.history] == [3, 4, 5, 6] and not again.stopped_early
    rates = [entry["learning_rate"] for entry in whole.history[2:]]
    assert [entry["learning_rate"] for entry in again.history] == rates
    assert nested(masks_of(again.model), masks_of(pruned))


def test_rounds_of_rewinding_are_nested_and_need_the_same_architecture() -> None:
    settings = TrainingSettings(epochs=4, snapshot_epoch=1)
    trained = fit(net(), DATA, settings=settings)
    early, current, before = trained.snapshot, trained.model, {}
    for _ in range(3):
        current = prune(current, L1("zero"), amount=0.3, scope="global").model
        current = fit(rewind(current, early), DATA, settings=TrainingSettings(epochs=4, start_epoch=1)).model
        assert nested(masks_of(current), before)
        before = masks_of(current)
    assert density(before) == pytest.approx(0.7**3, abs=0.01)
    with pytest.raises(InputError, match="shape"):
        rewind(
            current,
            nn.Sequential(nn.Linear(5, 31), nn.ReLU(), nn.Linear(31, 20), nn.ReLU(), nn.Linear(20, 3)),
        )


def test_a_snapshot_keeps_masks_and_leaves_training_as_it_was() -> None:
    masked = prune(net(), L1(), amount=0.5).model
    with_snapshot = fit(masked, DATA, settings=TrainingSettings(epochs=3, snapshot_epoch=1))
    without = fit(masked, DATA, settings=TrainingSettings(epochs=3))
    pairs = zip(with_snapshot.model.parameters(), without.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert nested(masks_of(with_snapshot.snapshot), masks_of(masked))
    assert with_snapshot.snapshot.state_dict().keys() == masked.state_dict().keys()


@pytest.mark.parametrize("options", [{"start_epoch": 4}, {"start_epoch": -1}, {"snapshot_epoch": 5}])
def test_epochs_outside_the_schedule_are_refused(options: dict) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        fit(net(), DATA, settings=TrainingSettings(epochs=4, **options))


def test_with_an_input_size_dead_ends_go_first() -> None:
    layers = ["0", "2", "4"]
    plain = GradualPruning(L1("zero"), 0.9, end_epoch=3, updates=24, layers=layers)
    swept = replace(plain, input_size=(5,))
    dead, kept = [], []
    for schedule in (plain, swept):
        model = fit(net(), DATA, settings=TrainingSettings(epochs=4, gradual=schedule)).model
        live, masks = live_masks(model, (5,)), masks_of(model)
        dead.append(sum(int((masks[f"{name}.weight"] & ~live[f"{name}.weight"]).sum()) for name in layers))
        kept.append(density(masks))
    assert dead[1] < dead[0]
    assert kept[1] <= kept[0] == pytest.approx(0.1, abs=0.002)
