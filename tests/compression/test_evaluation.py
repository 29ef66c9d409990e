"""Scores against torchmetrics and scikit-learn."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score
from torch import nn

from capacity import InputError
from compression.evaluation import cohen_kappa, evaluate


@pytest.mark.parametrize("classes", [3, 9])
def test_scores_are_those_of_torchmetrics(classes: int) -> None:
    from torchmetrics.functional.classification import multiclass_accuracy, multiclass_cohen_kappa

    torch.manual_seed(classes)
    logits, labels = torch.randn(200, classes), torch.randint(0, classes, (200,))
    labels[:80] = logits[:80].argmax(1)
    batches = list(zip(logits.split(64), labels.split(64), strict=True))
    found = evaluate(nn.Identity(), batches)
    accuracy = multiclass_accuracy(logits, labels, classes, average="micro").item()
    assert found.top1_error == pytest.approx(1 - accuracy, abs=1e-6)
    assert found.kappa == pytest.approx(multiclass_cohen_kappa(logits, labels, classes).item(), abs=1e-6)
    assert found.cross_entropy_nats == pytest.approx(
        nn.functional.cross_entropy(logits, labels).item(), abs=1e-5
    )
    if classes > 5:
        top5 = multiclass_accuracy(logits, labels, classes, average="micro", top_k=5).item()
        assert found.top5_error == pytest.approx(1 - top5, abs=1e-6)
    else:
        assert found.top5_error is None
    low, high = found.top1_error_interval
    assert low < found.top1_error < high and "kappa" in str(found)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=60))
@settings(deadline=None)
def test_kappa_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    table = torch.zeros(4, 4)
    for truth, guess in pairs:
        table[truth, guess] += 1
    truths, guesses = zip(*pairs, strict=True)
    expected = cohen_kappa_score(truths, guesses, labels=[0, 1, 2, 3])
    found = cohen_kappa(table)
    assert found == (0.0 if expected != expected else pytest.approx(expected, abs=1e-9))


def test_report_a_printed_kappa_upside_down() -> None:
    table = torch.tensor([[20.0, 5], [10, 15]])
    observed, expected = 0.7, 0.5
    assert cohen_kappa(table) == pytest.approx((observed - expected) / (1 - expected))
    assert cohen_kappa(table) != pytest.approx((1 - observed) / (1 - expected))


def test_the_mode_comes_back_and_dropout_is_off() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.9)).train()
    data = [(torch.randn(50, 4), torch.randint(0, 3, (50,)))]
    assert evaluate(model, data) == evaluate(model, data) and model.training


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "no data"),
        ([(torch.zeros(2, 3), torch.tensor([0, 3]))], "labels run from 0 to 3"),
        ([(torch.zeros(2, 3, 1), torch.tensor([0, 1]))], "logits"),
    ],
)
def test_bad_input(data: list, message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(nn.Identity(), data)
