"""Objectives by name: regression and several labels to a sample; scores that weigh classes alike."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score
from torch import nn
from torch.nn import functional as F

from capacity import InputError
from compression.evaluation import evaluate
from compression.objectives import objective_of
from compression.training import TrainingSettings, fit

X = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
LONG = TrainingSettings(epochs=60, learning_rate=0.05, weight_decay=0)


def batches(targets: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(X[k : k + 16], targets[k : k + 16]) for k in range(0, 64, 16)]


@pytest.mark.parametrize("shape", [(64,), (64, 1)])
def test_numbers_are_learned_by_mse(shape: tuple[int, ...]) -> None:
    data = batches((X @ torch.tensor([1.0, -2.0, 0.0, 0.5, 3.0]) + 1).reshape(shape))
    found = fit(nn.Linear(5, 1), data, settings=LONG, validation=data, objective="mse")
    assert found.history[-1]["validation_loss"] < 1e-3 and "validation_top1_error" not in found.history[0]
    assert found.model.weight.flatten().tolist() == pytest.approx([1, -2, 0, 0.5, 3], abs=0.05)


def test_several_labels_to_a_sample_are_learned_by_bce() -> None:
    targets = (X[:, :3] > 0).long()
    found = fit(nn.Linear(5, 3), batches(targets), settings=LONG, objective="bce").model
    assert ((found(X) > 0).long() == targets).float().mean() > 0.95


def test_patience_watches_the_loss_where_there_are_no_classes() -> None:
    data = batches(torch.randn(64, generator=torch.Generator().manual_seed(1)))
    other = batches(torch.randn(64, generator=torch.Generator().manual_seed(2)))
    settings = TrainingSettings(epochs=40, patience=2)
    found = fit(nn.Linear(5, 1), data, settings=settings, validation=other, objective="mse")
    losses = [entry["validation_loss"] for entry in found.history]
    assert found.stopped_early and evaluate(found.model, other, objective="mse").loss == pytest.approx(
        min(losses)
    )


def test_objectives_are_those_of_torch_over_all_elements() -> None:
    model, targets = nn.Linear(5, 2), torch.rand(64, 2)
    assert evaluate(model, batches(targets), objective="mse").loss == pytest.approx(
        float(F.mse_loss(model(X), targets)), rel=1e-5
    )
    assert evaluate(model, batches(targets), objective="bce").loss == pytest.approx(
        float(F.binary_cross_entropy_with_logits(model(X), targets)), rel=1e-5
    )


@pytest.mark.parametrize(
    ("objective", "targets", "message"),
    [
        ("mse", torch.zeros(64, 3), r"outputs float32 \(16, 2\) and targets float32 \(16, 3\) do not belong"),
        ("mse", torch.zeros(64), "they need one shape"),
        ("bce", torch.full((64, 2), 2.0), r"targets in \[0, 1\], found 2 to 2"),
        ("mae", torch.zeros(64, 2), "unknown objective 'mae'; did you mean 'mse'"),
    ],
)
def test_what_cannot_be_is_refused(objective: str, targets: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit(nn.Linear(5, 2), batches(targets), objective=objective)


def test_a_name_for_the_default() -> None:
    data = batches(X[:, :3].argmax(1))
    assert objective_of("cross-entropy", data) == objective_of(None, data)


class Given(nn.Module):
    """Returns its input as logits."""

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return logits


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40))
def test_scores_that_weigh_classes_alike_are_those_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    truth, guess = (torch.tensor(side) for side in zip(*pairs, strict=True))
    logits = F.one_hot(guess, 5).float()
    found = evaluate(
        Given(), [(logits[:7], truth[:7]), *([(logits[7:], truth[7:])] if len(truth) > 7 else [])]
    )
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(truth, guess), abs=1e-6)
    assert found.macro_f1 == pytest.approx(f1_score(truth, guess, average="macro"), abs=1e-6)
