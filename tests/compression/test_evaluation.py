"""Scores against torchmetrics and scikit-learn."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score
from torch import nn

from capacity import InputError
from compression.evaluation import cohen_kappa, evaluate, mcnemar, predictions


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


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("classes", [3, 8])
def test_logits_that_are_not_finite_are_never_right(value: float, classes: int) -> None:
    labels = torch.arange(40) % classes
    logits = 5 * torch.eye(classes)[labels]
    whole = evaluate(nn.Identity(), [(logits, labels)])
    logits[labels == 0] = value
    broken = int((labels == 0).sum())
    found = evaluate(nn.Identity(), [(logits, labels)])
    assert (whole.correct, found.correct, found.not_finite) == (40, 40 - broken, broken)
    assert found.top1_error == broken / 40 and (found.top5_error or found.top1_error) == broken / 40
    assert found.kappa < 1 and np.isnan(found.cross_entropy_nats) and whole.not_finite == 0
    assert f"{broken} with NaN or infinite logits count as wrong" in str(found) and "NaN" not in str(whole)
    assert predictions(nn.Identity(), [(logits, labels)])[0][labels == 0].tolist() == [-1] * broken


def test_classes_that_are_masked_out_may_be_minus_infinity() -> None:
    logits = torch.tensor([[1.0, -float("inf"), 0.0], [-float("inf")] * 3])
    found = evaluate(nn.Identity(), [(logits, torch.tensor([0, 0]))])
    assert (found.correct, found.not_finite) == (1, 1)


def test_all_nan_is_not_label_0() -> None:
    found = evaluate(
        nn.Identity(), [(torch.full((200, 10), float("nan")), torch.zeros(200, dtype=torch.int64))]
    )
    assert found.top1_error == 1.0 and found.kappa == 0.0


@pytest.mark.parametrize("classes", [21_841, 40_000])
def test_memory_grows_with_the_classes_not_their_square(classes: int) -> None:
    import tracemalloc

    labels = torch.arange(64) * (classes // 64)
    logits = torch.zeros(64, classes).scatter_(1, labels[:, None], 9.0)
    tracemalloc.start()
    with torch.profiler.profile(profile_memory=True) as profile:
        found = evaluate(nn.Identity(), [(logits, labels)] * 3)
    tracemalloc.stop()
    allocated = sum(max(0, event.self_cpu_memory_usage) for event in profile.events())
    assert found.correct == 192 and found.classes == classes
    assert allocated < 100e6  # of all operations together, though most is free again at once


@given(st.integers(2, 9), st.integers(1, 60), st.integers(0, 99))
@settings(deadline=None, max_examples=50)
def test_scores_of_batches_are_those_of_all(classes: int, count: int, seed: int) -> None:
    from torchmetrics.functional.classification import multiclass_cohen_kappa

    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, classes, generator=generator)
    labels = torch.randint(0, classes, (count,), generator=generator)
    whole = evaluate(nn.Identity(), [(logits, labels)])
    parts = evaluate(nn.Identity(), list(zip(logits.split(7), labels.split(7), strict=True)))
    assert (whole.correct, whole.top5_error, whole.kappa) == (parts.correct, parts.top5_error, parts.kappa)
    assert whole.cross_entropy_nats == pytest.approx(parts.cross_entropy_nats, rel=1e-5)
    expected = float(multiclass_cohen_kappa(logits, labels, classes))
    assert whole.kappa == pytest.approx(0.0 if np.isnan(expected) else expected, abs=1e-5)


def test_batches_of_different_widths_are_refused() -> None:
    labels = torch.tensor([0, 1])
    with pytest.raises(InputError, match="2 outputs in one batch, 3 in another"):
        evaluate(nn.Identity(), [(torch.zeros(2, 2), labels), (torch.zeros(2, 3), labels)])


def test_nan_is_the_wrong_answer_to_every_label() -> None:
    class Broken(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * torch.tensor([float("nan"), 1.0])

    torch.manual_seed(0)
    inputs, truth = torch.randn(8, 3), torch.zeros(8, 2)
    model = Broken(3, 2)
    with torch.no_grad():
        model.bias.fill_(-100.0)
    for targets in (truth, 1 - truth):
        found = evaluate(model, [(inputs, targets)], objective="bce")
        assert found["exact_match_error"] == 1 and math.isnan(found.loss)
        assert found["label_error"] == 0.5 + float(targets.mean()) / 2
    with pytest.raises(InputError, match=r"targets in \[0, 1\], found nan"):
        evaluate(model, [(inputs, truth * float("nan"))], objective="bce")


@pytest.mark.parametrize("found", [torch.tensor([0, 1, 2]), torch.rand(3), torch.ones(2, 2).bool()])
def test_a_paired_test_takes_booleans(found: torch.Tensor) -> None:
    with pytest.raises(InputError, match=r"\(N,\) booleans"):
        mcnemar(found, found)
