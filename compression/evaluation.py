"""evaluate(): error, kappa and loss of a classifier, scores of other objectives, and metrics of one's own."""

import math
import operator
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import reduce
from itertools import starmap
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from capacity import checks, wilson_interval
from capacity.errors import InputError
from capacity.inputs import require_weights, shown
from compression.epochs import evaluation_mode, require_batches
from compression.forms import dtype_of, logits_of, own_loss, parts_of, placed, run, size_of
from compression.labels import IGNORED, aligned, check_range, matched, span
from compression.metrics import Fed, Metrics
from compression.objectives import (
    ElementLoss,
    Objective,
    is_cross_entropy,
    objective_of,
    require_scalar,
    same_shape,
)
from compression.processes import gather_objects, rank, world_size
from compression.scores import NAMED_SCORES, TALLIES, Losses, Scores, Tally


@dataclass(frozen=True)
class Evaluation:
    """Scores of a classifier on one split; errors as fractions. `top5_error` is None below six classes.

    `balanced_accuracy` is the mean over classes of the share found, `macro_f1` that of
    F1 = 2 hits / (labels + predictions), both as in scikit-learn over the classes that occur: a rare class
    weighs as much as a frequent one. `mean_iou` is the mean over the same classes of intersection over union,
    hits / (labels + predictions - hits), over all samples and positions together. `metrics` are one's own.

    `not_finite` samples have logits with NaN or plus infinity: they count as wrong, and the cross-entropy is
    NaN.
    """

    correct: int
    total: int
    classes: int
    top1_error: float
    top5_error: float | None
    kappa: float
    cross_entropy_nats: float
    not_finite: int = 0
    balanced_accuracy: float = math.nan
    macro_f1: float = math.nan
    mean_iou: float = math.nan
    metrics: Mapping[str, float] = field(default_factory=dict, hash=False)

    @property
    def top1_error_interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the top-1 error."""
        return wilson_interval(self.total - self.correct, self.total)

    def to_dict(self) -> dict[str, float | int | None]:
        """All numbers by name."""
        values = dict(vars(self))
        return values | dict(values.pop("metrics"))

    def __str__(self) -> str:
        low, high = self.top1_error_interval
        top5 = "" if self.top5_error is None else f", top-5 error {100 * self.top5_error:.2f} %"
        broken = (
            f"; {self.not_finite:,} with NaN or infinite logits count as wrong" if self.not_finite else ""
        )
        return (
            f"top-1 error {100 * self.top1_error:.2f} % (95 % [{100 * low:.2f}, {100 * high:.2f}], "
            f"{self.correct:,} of {self.total:,} correct){top5}, kappa {self.kappa:.4f}, "
            f"cross-entropy {self.cross_entropy_nats:.4f} nats{broken}"
            + "".join(f", {name} {value:.4g}" for name, value in self.metrics.items())
        )


@overload
def evaluate(
    model: nn.Module, data: Iterable[Any], *, gather: bool = ..., class_axis: int | None = ...,
    objective: Literal["cross-entropy"] | None = ..., metrics: Metrics = ...,
) -> Evaluation: ...  # fmt: skip
@overload
def evaluate(
    model: nn.Module, data: Iterable[Any], *, gather: bool = ..., class_axis: int | None = ...,
    objective: Objective | Literal["mse", "bce"], metrics: Metrics = ...,
) -> Scores: ...  # fmt: skip
@checks.arguments(data=require_batches, gather=checks.flag, class_axis=checks.optional(checks.integer))
def evaluate(
    model: nn.Module,
    data: Iterable[Any],
    *,
    gather: bool = False,
    class_axis: int | None = None,
    objective: Objective | str | None = None,
    metrics: Metrics = None,
) -> Evaluation | Scores:
    """Score a classifier: (B, classes) logits, or dense maps and sequences with a label at each position.

    The model is run in evaluation mode, on the device it lies on, and left in the modes it was in. Batches
    and outputs may have the forms of `compression.forms`. Labels of -100 are left out. `class_axis` says
    which axis of the logits is the classes, where shapes do not. With `gather`, under torchrun, every process
    must call and scores its share of the batches; counts are added up, so that no sample counts twice.

    `objective` is what `fit` takes. With "mse" or "bce" the outputs are numbers or several labels to a
    sample, with a callable what it makes of them: Scores are returned instead. `metrics` are one's own, by
    name: torchmetrics objects or functions, see `compression.metrics`; the result's `metrics` hold their
    values.

    Raises InputError for no data, for labels outside the model's classes, for targets that are no class
    indices, for outputs that are not logits, and for metrics that fail or return no number.
    """
    require_batches("data", data)
    size = world_size() if gather else 1
    mine = (batch for place, batch in enumerate(data) if place % size == rank() % size)
    chosen = None if is_cross_entropy(objective) else objective_of(objective, data)
    own = Fed(metrics, TAKEN if chosen is None else NAMED_SCORES)
    counts: Any = None
    with _evaluating(model):
        for outputs, targets, tally in _tallied(model, mine, chosen, class_axis, bool(own.metrics)):
            own.update(outputs, targets)
            counts = tally if counts is None else counts + tally
    parts = [part for part in (gather_objects(counts) if size > 1 else [counts]) if part is not None]
    if not parts:
        raise InputError("there is no data to evaluate on")
    scores: Evaluation | Scores = reduce(operator.add, parts).scores()
    return replace(scores, metrics={**scores.metrics, **own.values(gather)}) if own.metrics else scores


TAKEN = {part.name for part in fields(Evaluation)}


def _tallied(
    model: nn.Module,
    data: Iterable[Any],
    objective: Objective | None,
    class_axis: int | None,
    with_outputs: bool,
) -> Iterator[tuple[Any, Any, "Tally | _Counts"]]:
    """Outputs, targets and the counts of each batch; of classes where there is no objective.

    An objective of one's own runs the model itself, which is run again only `with_outputs`; None without.
    """
    if objective is None:
        for logits, targets in _matched_batches(model, data, class_axis):
            yield logits, targets, _count(*_counted(logits, targets))
    elif isinstance(objective, ElementLoss):
        for output, truth in _run(model, data):
            outputs, targets = same_shape(logits_of(output), truth)
            objective.check(targets)
            yield outputs, targets, TALLIES[objective.kind](outputs, targets)
    else:
        device, kind = _device_of(model), dtype_of(model)
        for batch in data:
            inputs, targets = parts_of(batch)
            inputs, targets = placed(inputs, device, kind), placed(targets, device)
            loss, samples = objective(model, inputs, targets), size_of(targets)
            require_scalar(loss)
            output = logits_of(run(model, inputs)) if with_outputs else None
            yield output, targets, Losses(samples, samples * float(loss))


@dataclass(frozen=True)
class _Counts:
    """Counts that add up over batches; memory grows with the classes, not with their square.

    `truths`, `guesses` and `hits` are (classes,) numbers of labels, predictions and right ones.
    """

    truths: Tensor
    guesses: Tensor
    hits: Tensor
    correct: int
    top5: int
    loss: float
    not_finite: int

    def __add__(self, other: "_Counts") -> "_Counts":
        if len(self.truths) != len(other.truths):
            raise InputError(
                f"the model has {len(self.truths)} outputs in one batch, {len(other.truths)} in another"
            )
        added = {key: value + getattr(other, key) for key, value in vars(self).items()}
        return replace(self, **added)

    def scores(self) -> Evaluation:
        classes, total = len(self.truths), int(self.truths.sum())
        if not total:
            raise InputError(f"all labels are {IGNORED}, which are left out: there is nothing to evaluate on")
        named = self.truths + self.guesses
        return Evaluation(
            correct=self.correct,
            total=total,
            classes=classes,
            top1_error=1 - self.correct / total,
            top5_error=1 - self.top5 / total if classes > 5 else None,
            kappa=_kappa(self.correct, self.truths, self.guesses),
            cross_entropy_nats=self.loss / total,
            not_finite=self.not_finite,
            balanced_accuracy=float((self.hits / self.truths)[self.truths > 0].mean()),
            macro_f1=float((2 * self.hits / named)[named > 0].mean()),
            mean_iou=float((self.hits / (named - self.hits))[named > 0].mean()),
        )


def _count(logits: Tensor, targets: Tensor) -> _Counts:
    """Counts of (P, classes) logits and (P,) labels, none of them ignored."""
    classes = logits.shape[1]
    guesses, finite = _guesses(logits)
    right = (guesses == targets) & finite
    top5 = 0
    if classes > 5:
        top5 = int(((logits.topk(5, dim=1).indices == targets[:, None]).any(1) & finite).sum())
    return _Counts(
        torch.bincount(targets, minlength=classes).cpu(),
        torch.bincount(guesses[finite], minlength=classes).cpu(),
        torch.bincount(guesses[right], minlength=classes).cpu(),
        int(right.sum()),
        top5,
        float(F.cross_entropy(logits, targets, reduction="sum")),
        int((~finite).sum()),
    )


def _guesses(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The class with the largest logit of (P, classes), and whether the softmax is defined; both (P,)."""
    largest, guesses = logits.max(1)
    return guesses, largest.isfinite()  # NaN counts as largest; all minus infinity has no softmax either


def _matched_batches(
    model: nn.Module, data: Iterable[Any], class_axis: int | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """(B, classes, ...) logits in single precision at least, and (B, ...) labels, ignored ones among them."""
    for output, targets in _run(model, data, with_labels=True):
        logits = logits_of(output)
        loss = own_loss(output)
        if not isinstance(targets, Tensor):
            raise InputError("targets must be a tensor of class indices to be scored")
        logits, targets = matched(logits, targets.to(logits.device), class_axis)
        if loss is not None and logits.dim() == 3:
            targets = aligned(logits, targets, loss)
        check_range(*span(targets), logits.shape[1])
        yield logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits, targets


def _counted(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """(P, classes) logits and (P,) labels of all positions, the ignored ones left out."""
    if logits.dim() > 2:
        logits, targets = logits.movedim(1, -1).reshape(-1, logits.shape[1]), targets.reshape(-1)
    counted = targets != IGNORED
    return (logits, targets) if bool(counted.all()) else (logits[counted], targets[counted])


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; not inference mode, which masked weights do not outlive."""
    require_weights(model)
    with evaluation_mode(model), torch.no_grad():
        yield


def _device_of(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def _run(model: nn.Module, data: Iterable[Any], *, with_labels: bool = False) -> Iterator[tuple[Any, Any]]:
    """Outputs and targets of each batch, on the device that the model lies on."""
    device, kind = _device_of(model), dtype_of(model)
    for batch in data:
        inputs, targets = parts_of(batch)
        targets = placed(targets, device)
        yield run(model, placed(inputs, device, kind), targets if with_labels else None), targets


def exercise(model: nn.Module, data: Iterable[Any]) -> int:
    """Run the model on all batches, for what observes it, and return how many there were."""
    with _evaluating(model):
        return sum(1 for _ in _run(model, data))


def run_batches(model: nn.Module, data: Iterable[Any]) -> list[Any]:
    """What the model returns for each batch; it is run and left as by `evaluate`."""
    with _evaluating(model):
        return [output for output, _ in _run(model, data)]


def outputs(model: nn.Module, data: Iterable[Any]) -> tuple[Tensor, Tensor]:
    """Logits (N, ...) and targets (N, ...) on the CPU; the model is run and left as by `evaluate`."""
    with _evaluating(model):
        pairs = [(logits_of(output).cpu(), targets.cpu()) for output, targets in _run(model, data)]
    if not pairs:
        raise InputError("there is no data to run the model on")
    return torch.cat([logits for logits, _ in pairs]), torch.cat([targets for _, targets in pairs])


def predictions(model: nn.Module, data: Iterable[Any]) -> tuple[Tensor, Tensor]:
    """Predicted classes and labels, both (N,) on the CPU, in the order of the data, ignored labels left out.

    Where the logits are not finite the prediction is -1, which is never right. The model is run and left as
    by `evaluate`.
    """
    predicted = []
    with _evaluating(model):
        for logits, targets in starmap(_counted, _matched_batches(model, data)):
            guesses, finite = _guesses(logits)
            predicted.append((guesses.where(finite, -1).cpu(), targets.cpu()))
    if not predicted:
        raise InputError("there is no data to predict")
    return torch.cat([guesses for guesses, _ in predicted]), torch.cat([targets for _, targets in predicted])


@dataclass(frozen=True)
class PairedTest:
    """McNemar's test of two classifiers on the same points: right only before, right only after."""

    lost: int
    gained: int
    p_value: float


@checks.arguments(before=checks.instance(Tensor), after=checks.instance(Tensor))
def mcnemar(before: Tensor, after: Tensor) -> PairedTest:
    """Exact two-sided McNemar test; `before` and `after` are (N,) booleans, True where a point is right.

    Under the null hypothesis each point that only one of the two gets right is equally likely to be
    either's.

    Reference: McNemar 1947, "Note on the sampling error of the difference between correlated
    proportions".

    Raises InputError for what are no booleans of one length.

    >>> mcnemar(torch.tensor([True] * 9 + [False]), torch.tensor([False] * 9 + [True])).p_value
    0.021484375
    """
    from scipy.stats import binomtest

    if any(side.dtype != torch.bool or side.dim() != 1 for side in (before, after)):
        raise InputError(
            f"before and after must be (N,) booleans, such as predictions == labels; found {shown(before)} "
            f"and {shown(after)}"
        )
    if before.shape != after.shape:
        raise InputError(f"paired predictions differ in length: {len(before)} and {len(after)}")
    lost, gained = int((before & ~after).sum()), int((after & ~before).sum())
    p_value = float(binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0
    return PairedTest(lost, gained, p_value)


def cohen_kappa(confusion: Tensor) -> float:
    """Cohen's kappa = (po - pe) / (1 - pe) of a (classes, classes) table of counts.

    po is the observed agreement, pe the one expected by chance; 0.0 where chance agreement is certain.

    Reference: Cohen 1960, "A coefficient of agreement for nominal scales".

    >>> round(cohen_kappa(torch.tensor([[20, 5], [10, 15]])), 10)
    0.4
    """
    return _kappa(float(confusion.diag().sum()), confusion.sum(1), confusion.sum(0))


def _kappa(correct: float, truths: Tensor, guesses: Tensor) -> float:
    """Kappa from its table's diagonal and margins; what was not guessed at all is in `truths` only."""
    total = float(truths.sum())
    observed, expected = correct / total, float(truths.double() @ guesses.double()) / total**2
    return (observed - expected) / (1 - expected) if expected < 1 else 0.0
