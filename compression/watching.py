"""What training watches on validation data after each epoch, and whether that has become better."""

import math
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from capacity.errors import InputError, unknown
from compression.evaluation import Evaluation, evaluate
from compression.forms import parts_of
from compression.metrics import Metrics, higher_is_better, metric_names
from compression.objectives import ClassLoss, ElementLoss, Objective
from compression.scores import Scores

HIGHER = ("kappa", "balanced_accuracy", "macro_f1", "mean_iou")  # of classes: the higher, the better
LOWER = ("top1_error", "top5_error", "cross_entropy_nats")
NUMERIC = {"mse": ("loss", "mae", "r2"), "bce": ("loss", "label_error", "exact_match_error", "macro_f1",
           "mean_iou")}  # fmt: skip


class Watch:
    """Scores a model on validation data; `name` is the score that says which epoch was the best.

    Raises InputError for a name that no score and no metric has, and for a metric that does not say whether
    higher is better.
    """

    def __init__(self, validation: Iterable[Any], objective: Objective, metrics: Metrics, name: str) -> None:
        self.validation, self.metrics = validation, metrics
        self.objective = _scored_by(objective, validation)
        known: tuple[str, ...] = (*HIGHER, *LOWER)
        if self.objective is not None:
            known = NUMERIC.get(self.objective, ("loss",)) if isinstance(self.objective, str) else ("loss",)
        self.name = name or ("top1_error" if self.objective is None else "loss")
        own = metric_names(metrics)
        if self.name not in (*known, *own):
            raise unknown("score to watch", self.name, (*known, *own))
        self.higher = higher_is_better(metrics, name) if name in own else self.name in (*HIGHER, "r2")
        self.best = -math.inf if self.higher else math.inf

    def score(self, model: nn.Module) -> tuple[dict[str, float], bool]:
        """Entries of the history, each with `validation_` before its name, and whether this is the best."""
        objective: Any = self.objective
        scores: Evaluation | Scores = evaluate(
            model, self.validation, gather=True, objective=objective, metrics=self.metrics
        )
        first = "top1_error" if isinstance(scores, Evaluation) else "loss"
        values = scores.to_dict()
        entries = {name: values[name] for name in dict.fromkeys([first, *scores.metrics, self.name])}
        value = entries[self.name]
        if value is None:
            raise InputError(f"{self.name} cannot be watched: there are too few classes for it")
        better = value > self.best if self.higher else value < self.best
        if better:
            self.best = value
        return {
            f"validation_{name}": float(number) for name, number in entries.items() if number is not None
        }, better


def _scored_by(objective: Objective, validation: Iterable[Any]) -> Objective | str | None:
    """What `evaluate` scores by: a callable itself where the targets are floats, hence no classes."""
    if isinstance(objective, ElementLoss):
        return objective.kind
    if isinstance(objective, ClassLoss):
        return None
    for batch in validation:
        targets = parts_of(batch)[1]
        return objective if isinstance(targets, Tensor) and targets.is_floating_point() else None
    return None
