"""Metrics of one's own in evaluate, fit, squeeze and recipe: torchmetrics objects and functions."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import cohen_kappa_score, jaccard_score
from torch import nn
from torch.nn import functional as F

from capacity import InputError
from compression import L1, TrainingSettings, evaluate, fit, recipe, squeeze
from compression.identity import describe
from compression.metrics import higher_is_better, metric_names
from compression.stopping import Peak
from compression.techniques import pruning

torchmetrics = pytest.importorskip("torchmetrics")
classification = torchmetrics.classification

X = torch.randn(48, 6, generator=torch.Generator().manual_seed(0))
Y = X[:, :3].argmax(1)
BATCHES = [(X[k : k + 16], Y[k : k + 16]) for k in range(0, 48, 16)]
MAPS = torch.randn(6, 3, 5, 7, generator=torch.Generator().manual_seed(1))
TRUTH = torch.randint(0, 3, (6, 5, 7), generator=torch.Generator().manual_seed(2))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))


def test_objects_of_torchmetrics_are_reset_fed_and_read() -> None:
    model, metric = network(), classification.MulticlassCohenKappa(3)
    metric.update(F.one_hot(1 - Y.clamp(max=1), 3).float(), Y)  # of before, and forgotten
    found = evaluate(model, BATCHES, metrics={"agreement": metric})
    assert found.metrics["agreement"] == pytest.approx(cohen_kappa_score(Y, model(X).argmax(1)), abs=1e-6)
    assert found.metrics["agreement"] == pytest.approx(found.kappa, abs=1e-6)
    assert evaluate(model, BATCHES, metrics={"agreement": metric}) == found
    assert found.to_dict()["agreement"] == found.metrics["agreement"] and "nats, agreement -0.0" in str(found)


def test_a_collection_gives_a_value_by_each_name() -> None:
    both = torchmetrics.MetricCollection(
        {"f1": classification.MulticlassF1Score(3), "rank": classification.MulticlassAccuracy(3, top_k=2)}
    )
    found = evaluate(network(), BATCHES, metrics=both)
    assert list(found.metrics) == metric_names(both) == ["f1", "rank"]
    assert found.metrics["f1"] == pytest.approx(found.macro_f1, abs=1e-6)
    assert metric_names({"own": both}) == ["own_f1", "own_rank"]
    assert higher_is_better({"own": both}, "own_rank")


def test_functions_are_given_all_outputs_and_targets_at_once() -> None:
    def spread(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        assert len(outputs) == len(targets) == 48
        return outputs.std()

    model = network()
    assert evaluate(model, BATCHES, metrics=spread).metrics["spread"] == pytest.approx(float(model(X).std()))


def test_segmentation_is_scored_by_intersection_over_union() -> None:
    data = [(MAPS[:4], TRUTH[:4]), (MAPS[4:], TRUTH[4:])]
    labels = TRUTH.clone()
    labels[:, 0] = -100
    metric = classification.MulticlassJaccardIndex(3, ignore_index=-100)
    for truth in (TRUTH, labels):
        data = [(MAPS[:4], truth[:4]), (MAPS[4:], truth[4:])]
        found = evaluate(nn.Identity(), data, metrics={"iou": metric})
        seen = truth.flatten() != -100
        guess = MAPS.argmax(1).flatten()[seen]
        assert found.mean_iou == pytest.approx(jaccard_score(truth.flatten()[seen], guess, average="macro"))
        assert found.metrics["iou"] == pytest.approx(found.mean_iou, abs=1e-6)
        loss = F.cross_entropy(MAPS, truth, ignore_index=-100)  # per pixel
        assert found.cross_entropy_nats == pytest.approx(float(loss), rel=1e-5)


def test_a_class_that_neither_occurs_nor_is_guessed_has_no_union() -> None:
    logits = F.one_hot(torch.tensor([0, 0, 1]), 4).float()
    found = evaluate(nn.Identity(), [(logits, torch.tensor([0, 1, 1]))])
    assert found.mean_iou == pytest.approx((1 / 2 + 1 / 2) / 2)


def test_training_watches_the_metric_that_is_named_in_its_own_direction() -> None:
    metrics = {
        "f1": classification.MulticlassF1Score(3),
        "wrong": classification.MulticlassHammingDistance(3),
    }
    assert higher_is_better(metrics, "f1") and not higher_is_better(metrics, "wrong")
    for name, best in (("f1", max), ("wrong", min), ("macro_f1", max), ("cross_entropy_nats", min)):
        settings = TrainingSettings(epochs=12, patience=2, watch=name, learning_rate=1.0, weight_decay=0)
        found = fit(network(), BATCHES, settings=settings, validation=BATCHES, metrics=metrics)
        column = f"validation_{name}"
        values = [entry[column] for entry in found.history]
        again = evaluate(found.model, BATCHES, metrics=metrics).to_dict()
        assert again[name] == pytest.approx(best(values), rel=1e-5)
        assert {"validation_top1_error", "validation_f1", column} <= found.history[0].keys()


def test_steps_hold_metrics_that_stop_and_are_resumed(tmp_path: Path) -> None:
    def steps(classes: int = 3) -> list[Any]:
        metrics = {"f1": classification.MulticlassF1Score(classes)}
        return list(
            squeeze(
                network(), L1("zero"), amount=0.5, iterations=3, directory=tmp_path,
                retrain=lambda m: fit(m, BATCHES, settings=TrainingSettings(epochs=1)),
                evaluate=lambda m: evaluate(m, BATCHES, metrics=metrics), stop=Peak("f1", patience=3),
            )
        )  # fmt: skip

    first, again = steps(), steps()
    assert [step.resumed for step in again] == [True] * len(first)
    assert all(step.metrics["f1"] == pytest.approx(step.metrics["macro_f1"], abs=1e-6) for step in first)
    with pytest.raises(InputError, match=r"f1\.settings\.num_classes"):
        steps(classes=4)


def test_recipes_hold_metrics() -> None:
    found = recipe(
        network(), [pruning(amount=0.3)], input_size=(6,), repeats=1,
        evaluate=lambda m: evaluate(m, BATCHES, metrics={"f1": classification.MulticlassF1Score(3)}),
    )  # fmt: skip
    assert found.to_frame()["f1"].between(0, 1).all()


def test_what_a_metric_is_says_which_it_is() -> None:
    of = lambda metric: describe(metric=metric)  # noqa: E731
    one = of(classification.MulticlassF1Score(3))
    assert (
        one
        == of(classification.MulticlassF1Score(3))
        != of(classification.MulticlassF1Score(3, average="micro"))
    )
    used = classification.MulticlassF1Score(3)
    used.update(X[:, :3], Y)
    assert of(used) == one


def word(outputs: torch.Tensor, targets: torch.Tensor) -> str:
    return "good"


BAD: dict[str, tuple[Any, str]] = {
    "word": (
        word,
        "metric 'word' must return a number, or a mapping of names to numbers, such as 0.1; found 'good'",
    ),
    "nothing": ({"m": lambda o, t: None}, "metric 'm' must return a number, .*; found None"),
    "one a class": (
        {"m": classification.MulticlassAccuracy(3, average=None)},
        r"metric 'm' must return a number, .*; found float32 \(3,\): .* average='macro' makes it one",
    ),
    "no metric": ({"m": 3}, r"metric 'm' must be an object with reset, update and compute, .*; found int"),
    "a class": (
        {"m": classification.MulticlassAccuracy},
        "metric 'm' must be an object .*; found _?ABCMeta|type",
    ),
    "for other targets": (
        {"m": classification.BinaryAccuracy()},
        r"metric 'm' failed given outputs float32 \(16, 3\) and targets int64 \(16,\): ",
    ),
    "fails": ({"m": lambda o, t: o[99]}, "metric 'm' failed given outputs"),
    "taken": ({"kappa": word}, "a metric cannot be called 'kappa', as a score that is given anyway is"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_metric_is_refused_in_one_line_with_the_form_expected(case: str) -> None:
    metrics, message = BAD[case]
    with pytest.raises(InputError, match=message) as found:
        evaluate(network(), BATCHES, metrics=metrics)
    assert "\n" not in str(found.value)


def test_labels_left_out_need_a_metric_that_leaves_them_out() -> None:
    labels = Y.clone()
    labels[0] = -100
    with pytest.raises(InputError, match="made with ignore_index=-100"):
        evaluate(network(), [(X, labels)], metrics={"m": classification.MulticlassAccuracy(3)})


@pytest.mark.parametrize(
    ("name", "metrics", "message"),
    [
        ("f", None, "unknown score to watch 'f'"),
        ("spread", {"spread": lambda o, t: o.std()}, "does not say whether higher is better"),
        ("top5_error", None, "top5_error cannot be watched: there are too few classes"),
    ],
)
def test_what_cannot_be_watched_is_refused(name: str, metrics: Any, message: str) -> None:
    settings = TrainingSettings(epochs=1, patience=1, watch=name)
    with pytest.raises(InputError, match=message):
        fit(network(), BATCHES, settings=settings, validation=BATCHES, metrics=metrics)


def test_metrics_and_watch_need_validation_and_patience() -> None:
    with pytest.raises(InputError, match="metrics are scored on validation data"):
        fit(network(), BATCHES, metrics={"m": word})
    with pytest.raises(
        InputError, match=re.escape("watch='kappa' says which epoch is the best, for patience")
    ):
        fit(network(), BATCHES, settings=TrainingSettings(watch="kappa"), validation=BATCHES)


def test_no_rule_stops_by_a_word() -> None:
    with pytest.raises(InputError, match="metric 'verdict' is 'good', so no rule can stop by it"):
        Peak("verdict").keep([{"verdict": "good"}])


def undefined(outputs: torch.Tensor, targets: torch.Tensor) -> float:
    return float("nan")


def test_what_is_nan_is_named(caplog) -> None:
    assert "mine" in evaluate(network(), BATCHES, metrics={"mine": undefined}).metrics
    pruned = squeeze(network(), L1(), amount=0.2, iterations=0, evaluate=lambda m: {"own": float("nan")})
    list(pruned)
    assert caplog.messages == ["NaN, no number: mine", "NaN, no number: own"]


def test_no_epoch_is_the_best_by_a_score_that_is_never_a_number() -> None:
    undefined.higher_is_better = True  # type: ignore[attr-defined]
    watching = TrainingSettings(epochs=3, patience=2, watch="mine")
    with pytest.raises(InputError, match="'mine', which says the best epoch, was no finite number after any"):
        fit(network(), BATCHES, settings=watching, validation=BATCHES, metrics={"mine": undefined})
