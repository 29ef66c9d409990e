"""Epochs of every length train, frozen norms stay, a last batch of one is joined, and causes are named."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from capacity import InputError
from compression.batches import TensorBatches
from compression.distillation import distill
from compression.epochs import batches_of, evaluation_mode, length_of, train_mode
from compression.evaluation import evaluate
from compression.training import TrainingSettings, fit

X = torch.randn(129, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(129) % 3
ONCE = TrainingSettings(epochs=1)


def net(norm: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8) if norm else nn.ReLU(), nn.Linear(8, 3))


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(X[:32], Y[:32], strict=True))


def moved(model: nn.Module, data, **options) -> bool:
    trained = fit(model, data, **options).model
    return not torch.equal(trained[0].weight, model[0].weight)


def test_epochs_of_one_batch_and_of_unknown_length_train() -> None:
    assert length_of([1, 2]) == 2 and length_of(DataLoader(Stream(), 8)) is None
    for data in ([(X, Y)], DataLoader(Stream(), 8), TensorBatches(X, Y, 200), DataLoader(Stream(), 32)):
        for schedule in ("cosine", "constant"):
            assert moved(net(), data, settings=TrainingSettings(epochs=1, schedule=schedule)), (
                data,
                schedule,
            )
    history = fit(net(), [(X, Y)], settings=TrainingSettings(epochs=2)).history
    assert [entry["learning_rate"] for entry in history] == pytest.approx([0.0426777, 0.0073223], abs=1e-6)


def test_data_that_is_used_up_after_one_epoch_is_refused() -> None:
    assert moved(net(), iter([(X, Y)]), settings=ONCE)
    with pytest.raises(InputError, match="used up after the first of 2 epochs"):
        fit(net(), (batch for batch in [(X, Y)]), settings=TrainingSettings(epochs=2))


@given(st.lists(st.integers(1, 6), min_size=1, max_size=8), st.integers(1, 2))
def test_small_batches_are_joined_to_the_one_before(sizes: list[int], processes: int) -> None:
    rows, batches = 0, []
    for size in sizes:
        batches.append((X[rows : rows + size], Y[rows : rows + size]))
        rows += size
    found = list(batches_of(batches, net(), processes))
    assert torch.equal(torch.cat([inputs for inputs, _, _ in found]), X[:rows])
    assert sum(count for _, _, count in found) == len(sizes)
    small = [len(targets) < 2 * processes for _, targets, _ in found]
    assert not any(small[k] and not small[k - 1] for k in range(1, len(small)))
    assert [len(targets) for _, targets, _ in batches_of(batches, net(norm=False), processes)] == sizes


def test_a_last_batch_of_one_with_batch_norm() -> None:
    batches = TensorBatches(X, Y, 128)
    found = fit(net(), batches, settings=ONCE)
    whole = fit(
        net(),
        [(X, Y)],
        settings=TrainingSettings(epochs=1, learning_rate=found.history[0]["learning_rate"] * 2),
    )
    assert found.history[0]["training_loss_nats"] == pytest.approx(whole.history[0]["training_loss_nats"])
    assert moved(net(), DataLoader(TensorDataset(X, Y), 128), settings=ONCE)
    assert len(distill(net(), net(), batches, settings=ONCE).history) == 1
    named = [{"input": X[:128], "labels": Y[:128]}, {"input": X[128:], "labels": Y[128:]}]
    assert moved(net(), named, settings=ONCE)
    with pytest.raises(InputError, match=r"Expected more than 1 value.*drop_last=True"):
        fit(net(), [(X[:1], Y[:1])])
    with pytest.raises(InputError, match=r"cannot be joined .*drop_last=True"):
        fit(net(), [(X[:8], Y[:8]), (X[:1, :5], Y[:1])])


def test_norms_frozen_in_evaluation_mode_stay_frozen() -> None:
    frozen = net().train()
    frozen[1].eval()
    kept = fit(frozen, [(X, Y)], settings=TrainingSettings(epochs=3)).model
    assert torch.equal(kept[1].running_mean, frozen[1].running_mean)
    assert not torch.equal(kept[1].weight, frozen[1].weight)  # its scale learns: it was not frozen
    twice = fit(kept, [(X, Y)], settings=ONCE).model
    assert torch.equal(twice[1].running_mean, frozen[1].running_mean)  # as the first time
    once_more = fit(twice.train(), [(X, Y)], settings=ONCE).model
    assert not torch.equal(once_more[1].running_mean, frozen[1].running_mean)
    frozen[1].requires_grad_(False)
    again = frozen
    for _ in range(2):  # what fit returns is in evaluation mode as a whole
        again = fit(again, [(X, Y)], settings=TrainingSettings(epochs=3)).model
    assert torch.equal(again[1].running_mean, frozen[1].running_mean)
    assert torch.equal(again[1].weight, frozen[1].weight) and not torch.equal(
        again[0].weight, frozen[0].weight
    )
    again[1].requires_grad_(True)
    learns = fit(again, [(X, Y)], settings=ONCE).model
    assert not torch.equal(learns[1].running_mean, frozen[1].running_mean)
    thawed = fit(net().eval(), [(X, Y)], settings=ONCE).model
    assert not torch.equal(thawed[1].running_mean, net()[1].running_mean)


def test_modes_inside_a_model_come_back() -> None:
    model = net().train()
    model[1].eval()
    with evaluation_mode(model):
        assert not any(module.training for module in model.modules())
    evaluate(model, [(X, Y)])
    assert model.training and model[0].training and not model[1].training
    assert [module.training for module in train_mode(model)] == [True, False, True]


@pytest.mark.parametrize("where", ["weight", "buffer", "inputs", "labels", "rate"])
def test_the_cause_of_a_loss_that_is_not_finite_is_named(where: str) -> None:
    model, x, y, rate = net(), X.clone(), Y.clone(), 0.05
    if where == "weight":
        model[0].weight.data[0, 0] = float("nan")
    elif where == "buffer":
        model[1].running_mean[0] = float("inf")
        model[1].eval()
    elif where == "inputs":
        x[40, 2] = float("inf")
    elif where == "labels":
        y[32:64] = -100
    else:
        rate = 1e30
    message = {
        "weight": "'0.weight' of the model given holds NaN",
        "buffer": "'1.running_mean' of the model given holds NaN",
        "inputs": "batch 1 of the data holds NaN",
        "labels": "all labels of batch 1 are -100",
        "rate": "lower learning rate",
    }[where]
    with pytest.raises(InputError, match=f"training diverged.*{message}"):
        fit(model, TensorBatches(x, y, 32), settings=TrainingSettings(epochs=2, learning_rate=rate))


def test_one_step_to_infinity_is_refused() -> None:
    with pytest.raises(InputError, match=r"'0.weight' is not finite after epoch 1"):
        fit(
            net(norm=False),
            [(1e30 * X, Y)],
            settings=TrainingSettings(epochs=1, learning_rate=1e30, momentum=0),
        )


@pytest.mark.parametrize("loss", ["vector", "constant"])
def test_an_objective_that_gives_no_loss_is_refused(loss: str) -> None:
    losses = {
        "vector": lambda model, x, y: nn.functional.cross_entropy(model(x), y, reduction="none"),
        "constant": lambda model, x, y: torch.zeros(()),
    }
    with pytest.raises(InputError, match="objective must return a scalar loss"):
        fit(net(), [(X, Y)], objective=losses[loss])
