"""Scores of regression and of several labels against scikit-learn; class weights against torch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, hamming_loss, jaccard_score, r2_score
from sklearn.utils.class_weight import compute_class_weight
from torch import nn
from torch.nn import functional as F

from capacity import InputError
from compression import TensorBatches, TrainingSettings, distill, evaluate, fit
from compression.evaluation import Evaluation
from compression.objectives import ClassLoss, weights_of
from compression.processes import shard_batch
from compression.scores import Deviations, columns

X = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
SAME = nn.Identity()


def parts(*tensors: torch.Tensor, size: int = 7) -> list[tuple[torch.Tensor, ...]]:
    return list(zip(*(tensor.split(size) for tensor in tensors), strict=True))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 40), st.integers(1, 4), st.floats(-1e4, 1e4), st.integers(1, 11))
def test_r2_and_mae_are_those_of_scikit_learn(seed: int, n: int, k: int, shift: float, size: int) -> None:
    made = torch.Generator().manual_seed(seed)
    truth = torch.randn(n, k, generator=made, dtype=torch.float64) + shift
    guess = truth + torch.randn(n, k, generator=made, dtype=torch.float64)
    found = evaluate(SAME, parts(guess, truth, size=size), objective="mse")
    assert found["r2"] == pytest.approx(r2_score(truth, guess), abs=1e-9)
    assert found["mae"] == pytest.approx(float((guess - truth).abs().mean()))
    assert found.loss == pytest.approx(float((guess - truth).square().mean()))
    assert found.total == n


def test_a_target_that_does_not_vary_is_met_or_not() -> None:
    truth = torch.ones(8, 2)
    assert evaluate(SAME, [(truth, truth)], objective="mse")["r2"] == r2_score(truth, truth) == 1
    guess = truth + torch.tensor([0.0, 1.0])
    assert evaluate(SAME, [(guess, truth)], objective="mse")["r2"] == r2_score(truth, guess) == 0.5


def test_sums_of_parts_are_those_of_the_whole() -> None:
    truth, guess = X[:, :3], X[:, 2:]
    halves = Deviations.of(guess[:11], truth[:11]) + Deviations.of(guess[11:], truth[11:])
    whole = Deviations.of(guess, truth)
    for name, value in vars(whole).items():
        assert np.allclose(getattr(halves, name), value), name


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 30), st.integers(1, 5), st.integers(1, 9))
def test_several_labels_are_scored_as_by_scikit_learn(seed: int, n: int, k: int, size: int) -> None:
    made = torch.Generator().manual_seed(seed)
    truth = torch.rand(n, k, generator=made) < 0.4
    logits = torch.randn(n, k, generator=made)
    found = evaluate(SAME, parts(logits, truth.float(), size=size), objective="bce")
    guess = logits > 0
    assert found["label_error"] == pytest.approx(hamming_loss(truth, guess))
    assert found["exact_match_error"] == pytest.approx(float((truth != guess).any(1).float().mean()))
    seen = [place for place in range(k) if bool((truth | guess)[:, place].any())]
    for name, score in (("macro_f1", f1_score), ("mean_iou", jaccard_score)):
        each = [score(truth[:, place], guess[:, place]) for place in seen]
        assert found[name] == pytest.approx(np.mean(each)) if seen else np.isnan(found[name])
    assert found.loss == pytest.approx(
        float(F.binary_cross_entropy_with_logits(logits, truth.float())), rel=1e-5
    )


def test_a_map_of_yes_and_no_is_segmented() -> None:
    truth = torch.rand(6, 9, 11, generator=torch.Generator().manual_seed(0)) < 0.3
    net = nn.Conv2d(1, 1, 1)
    with torch.no_grad():
        net.weight.fill_(4.0)
        net.bias.fill_(-2.0)
    found = evaluate(net, [(truth[:, None].float(), truth)], objective="bce")
    assert found.metrics == {"label_error": 0, "exact_match_error": 0, "macro_f1": 1, "mean_iou": 1}
    assert columns(torch.zeros(2, 3, 4, 5)).shape == (40, 3) and columns(torch.zeros(2, 4, 5)).shape == (
        40,
        1,
    )


def test_maps_are_learned_pixel_by_pixel() -> None:
    pictures = torch.randn(24, 1, 6, 6, generator=torch.Generator().manual_seed(3))
    truth = (pictures[:, 0] > 0.3).long() + (pictures[:, 0] < -0.3).long() * 2
    net = nn.Sequential(nn.Conv2d(1, 8, 1), nn.ReLU(), nn.Conv2d(8, 3, 1))
    how = TrainingSettings(epochs=40, learning_rate=0.2, weight_decay=0)
    found = evaluate(fit(net, parts(pictures, truth), settings=how).model, parts(pictures, truth))
    assert isinstance(found, Evaluation) and found.total == 24 * 36 and found.mean_iou > 0.8


def test_an_objective_of_one_s_own_is_watched_where_there_are_no_classes() -> None:
    def huber(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.huber_loss(model(inputs)[:, 0], targets)

    data = parts(X, X @ torch.arange(5.0))
    how = TrainingSettings(epochs=30, patience=3, learning_rate=0.02)
    found = fit(nn.Linear(5, 1), data, settings=how, validation=data, objective=huber, metrics={"far": far})
    losses = [entry["validation_loss"] for entry in found.history]
    scores = evaluate(found.model, data, objective=huber, metrics={"far": far})
    assert scores.loss == pytest.approx(min(losses)) and losses[-1] < losses[0]
    assert scores["far"] == pytest.approx(far(found.model(X), X @ torch.arange(5.0)), abs=1e-4)
    assert str(scores).startswith("loss ")


def far(outputs: torch.Tensor, targets: torch.Tensor) -> float:
    return float((outputs[:, 0] - targets).abs().max().detach())


def test_history_holds_the_scores_of_numbers() -> None:
    data = parts(X, X @ torch.arange(5.0))
    how = TrainingSettings(epochs=3, patience=3, watch="r2")
    found = fit(nn.Linear(5, 1), data, settings=how, validation=data, objective="mse")
    assert {"validation_loss", "validation_r2", "validation_mae"} <= found.history[0].keys()
    best = max(entry["validation_r2"] for entry in found.history)
    assert evaluate(found.model, data, objective="mse")["r2"] == pytest.approx(best)


LABELS = torch.tensor([0, 0, 1, 2, 2, 2, 1, 0, 0, 0])
WEIGHTS = (0.5, 2.0, 7.0)


@pytest.mark.parametrize("shape", [(10,), (10, 4, 2)])
@pytest.mark.parametrize("smoothed", [False, True])
def test_class_weights_are_those_of_torch(shape: tuple[int, ...], smoothed: bool) -> None:
    made = torch.Generator().manual_seed(1)
    labels = LABELS if len(shape) == 1 else torch.randint(0, 3, shape, generator=made)
    if smoothed:
        labels = labels.clone()
        labels[3] = -100
    logits = torch.randn(10, 3, *shape[1:], generator=made)
    theirs = nn.CrossEntropyLoss(torch.tensor(WEIGHTS))(logits, labels)
    assert ClassLoss(class_weights=WEIGHTS)(SAME, logits, labels) == pytest.approx(float(theirs), rel=1e-6)


def test_training_minimizes_the_weighted_loss() -> None:
    torch.manual_seed(0)
    net = nn.Linear(5, 3)
    how = TrainingSettings(epochs=1, momentum=0, weight_decay=0, class_weights=WEIGHTS)
    found = fit(net, [(X[:10], LABELS)], settings=how)
    loss = nn.CrossEntropyLoss(torch.tensor(WEIGHTS))(net(X[:10]), LABELS)
    loss.backward()
    torch.testing.assert_close(found.model.weight.detach(), net.weight.detach() - 0.025 * net.weight.grad)
    assert found.history[0]["training_loss_nats"] == pytest.approx(float(loss.detach()), rel=1e-5)


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    batches = TensorBatches(X[:10], LABELS, batch_size=4, shuffle=True)
    theirs = compute_class_weight("balanced", classes=np.arange(3), y=LABELS.numpy())
    assert weights_of("balanced", batches) == pytest.approx(theirs)


def test_a_rare_class_is_found_when_classes_are_balanced() -> None:
    labels = (X[:, 0] + 0.5 * X[:, 1] > 1.4).long()
    noisy = parts(X + torch.randn(X.shape, generator=torch.Generator().manual_seed(5)), labels)
    plain, weighed = (
        evaluate(
            fit(nn.Linear(5, 2), noisy, settings=TrainingSettings(epochs=20, class_weights=w)).model, noisy
        )
        for w in (None, "balanced")
    )
    assert weighed.balanced_accuracy > plain.balanced_accuracy


def test_a_batch_of_classes_that_weigh_nothing_teaches_nothing() -> None:
    how = TrainingSettings(epochs=1, class_weights=(1.0, 0.0, 1.0), weight_decay=0)
    net = nn.Linear(5, 3)
    found = fit(net, [(X[:4], torch.ones(4, dtype=torch.int64))], settings=how)
    assert torch.equal(found.model.weight, net.weight) and found.history[0]["training_loss_nats"] == 0


def test_shares_of_a_weighted_batch_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = ClassLoss(class_weights=WEIGHTS)
    logits = torch.randn(10, 3, generator=torch.Generator().manual_seed(2))
    whole = float(loss(SAME, logits, LABELS))
    monkeypatch.setenv("WORLD_SIZE", "3")
    shares = []
    for number in range(3):
        monkeypatch.setenv("RANK", str(number))
        mine, labels, weight = shard_batch(logits, LABELS, loss.mass)
        shares.append(weight * float(loss(SAME, mine, labels)))
    assert sum(shares) / 3 == pytest.approx(whole, rel=1e-6)


class Own(nn.Module):
    """A classifier that computes its loss itself."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        logits = self.head(x)
        return (
            {"logits": logits}
            if labels is None
            else {"logits": logits, "loss": F.cross_entropy(logits, labels)}
        )


BAD: dict[str, tuple[object, str]] = {
    "too few": ((1.0, 2.0), "class_weights are 2 numbers, but the model has 3 outputs: one number for each"),
    "negative": ((1.0, -2.0, 1.0), r"none negative and not all 0, or 'balanced'; found \(1"),
    "none": ((), "class_weights must be a number for each class"),
    "a word": ("balance", "unknown class_weights 'balance'; did you mean 'balanced'"),
    "a number": (3, "class_weights must be a number for each class"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_are_no_class_weights_is_refused(case: str) -> None:
    weights, message = BAD[case]
    how = TrainingSettings(epochs=1, class_weights=weights)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message):
        fit(nn.Linear(5, 3), [(X[:10], LABELS)], settings=how)


def test_class_weights_are_for_the_cross_entropy_of_logits() -> None:
    how = TrainingSettings(epochs=1, class_weights=WEIGHTS)
    with pytest.raises(InputError, match="class_weights are for the cross-entropy; the objective is 'mse'"):
        fit(nn.Linear(5, 1), [(X, X[:, 0])], settings=how, objective="mse")
    with pytest.raises(InputError, match="the objective is of your own: weigh there"):
        distill(nn.Linear(5, 3), nn.Linear(5, 3), [(X[:10], LABELS)], settings=how)
    with pytest.raises(InputError, match="the model computes its loss itself"):
        fit(Own(), [{"x": X[:10], "labels": LABELS}], settings=how)
    with pytest.raises(InputError, match="cannot be balanced: class 1 has no sample"):
        weights_of("balanced", [(X[:2], torch.tensor([0, 2]))])


class Spread(nn.Module):
    """Mean and log-variance under names of their own; counts how often it is run."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.runs = nn.Linear(5, 2), 0

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        self.runs += 1
        return dict(zip(("mean", "log_variance"), self.heads(x).unbind(1), strict=True))


def test_an_objective_of_ones_own_is_scored_in_one_pass_whatever_the_model_returns() -> None:
    def likelihood(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        found = model(inputs)
        return (found["log_variance"] + (targets - found["mean"]) ** 2 / found["log_variance"].exp()).mean()

    model, data = Spread(), TensorBatches(X, X[:, 0], 20)
    with torch.no_grad():
        by_hand = float(likelihood(model, X, X[:, 0]))
    model.runs = 0
    assert evaluate(model, data, objective=likelihood).loss == pytest.approx(by_hand, rel=1e-5)
    assert model.runs == 3
    with pytest.raises(InputError, match="logits cannot be told"):
        evaluate(model, data, objective=likelihood, metrics={"own": F.l1_loss})  # of which outputs?
