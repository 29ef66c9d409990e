"""evaluate(): top-1 and top-5 error, Cohen's kappa and loss of a classifier."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from capacity.cloning import initialized
from capacity.errors import InputError
from capacity.generalization import wilson_interval
from compression.processes import gathered, rank, world_size


@dataclass(frozen=True)
class Evaluation:
    """Scores of a classifier on one split; errors as fractions. `top5_error` is None below six classes."""

    correct: int
    total: int
    classes: int
    top1_error: float
    top5_error: float | None
    kappa: float
    cross_entropy_nats: float

    @property
    def top1_error_interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the top-1 error."""
        return wilson_interval(self.total - self.correct, self.total)

    def to_dict(self) -> dict[str, float | int | None]:
        return asdict(self)

    def __str__(self) -> str:
        low, high = self.top1_error_interval
        top5 = "" if self.top5_error is None else f", top-5 error {100 * self.top5_error:.2f} %"
        return (
            f"top-1 error {100 * self.top1_error:.2f} % (95 % [{100 * low:.2f}, {100 * high:.2f}], "
            f"{self.correct:,} of {self.total:,} correct){top5}, kappa {self.kappa:.4f}, "
            f"cross-entropy {self.cross_entropy_nats:.4f} nats"
        )


def evaluate(model: nn.Module, data: Iterable[tuple[Tensor, Tensor]], *, gather: bool = False) -> Evaluation:
    """Score a classifier that maps (B, ...) inputs to (B, classes) logits.

    The model is run in evaluation mode, on the device it lies on, and left in the mode it was in. With
    `gather`, under torchrun, every process must call and scores its share of the batches; counts are added
    up, so that no sample counts twice.

    Raises InputError for no data, for labels outside the model's classes, and for outputs that are not
    logits.
    """
    with _evaluating(model) as device:
        return _score(model, data, device, gather)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[torch.device]:
    """Evaluation mode without gradients, on the device that the model lies on; the modes come back."""
    was_training = initialized(model).training
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():  # not inference mode, which masked weights would not outlive
            yield next((p.device for p in model.parameters()), torch.device("cpu"))
    finally:
        model.train(was_training)  # for an exported graph that is more than to set a flag
        for module, mode in modes:
            module.training = mode


def _score(
    model: nn.Module, data: Iterable[tuple[Tensor, Tensor]], device: torch.device, gather: bool
) -> Evaluation:
    size = world_size() if gather else 1
    mine = (batch for place, batch in enumerate(data) if place % size == rank() % size)
    confusion, top5, loss = _counts(model, mine, device)
    if size > 1:
        parts = [part for part in gathered((confusion, top5, loss)) if part[0] is not None]
        confusion = sum(part[0] for part in parts) if parts else None
        top5, loss = sum(part[1] for part in parts), sum(part[2] for part in parts)
    if confusion is None:
        raise InputError("there is no data to evaluate on")
    classes = confusion.shape[0]
    total, correct = int(confusion.sum()), int(confusion.diag().sum())
    return Evaluation(
        correct=correct,
        total=total,
        classes=classes,
        top1_error=1 - correct / total,
        top5_error=1 - top5 / total if classes > 5 else None,
        kappa=cohen_kappa(confusion),
        cross_entropy_nats=loss / total,
    )


def _counts(
    model: nn.Module, data: Iterable[tuple[Tensor, Tensor]], device: torch.device
) -> tuple[Tensor | None, int, float]:
    """Table of targets and predictions (classes, classes), top-5 hits, and sum of the losses."""
    confusion, top5, loss = None, 0, 0.0
    for inputs, targets in data:
        targets = targets.to(device)
        logits = model(inputs.to(device)).float()
        if logits.dim() != 2:
            raise InputError(f"a classifier must return (batch, classes) logits, found {tuple(logits.shape)}")
        classes = logits.shape[1]
        if int(targets.min()) < 0 or int(targets.max()) >= classes:
            raise InputError(
                f"labels run from {int(targets.min())} to {int(targets.max())}, "
                f"but the model has {classes} outputs"
            )
        loss += float(F.cross_entropy(logits, targets, reduction="sum"))
        pairs = torch.bincount(targets * classes + logits.argmax(1), minlength=classes**2)
        table = pairs.view(classes, classes).cpu()
        confusion = table if confusion is None else confusion + table
        if classes > 5:
            top5 += int((logits.topk(5, dim=1).indices == targets[:, None]).sum())
    return confusion, top5, loss


def outputs(model: nn.Module, data: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Outputs (N, ...) and targets (N,) on the CPU; the model is run and left as by `predictions`."""
    with _evaluating(model) as device:
        pairs = [(model(inputs.to(device)).cpu(), targets.cpu()) for inputs, targets in data]
    if not pairs:
        raise InputError("there is no data to run the model on")
    return torch.cat([found for found, _ in pairs]), torch.cat([targets for _, targets in pairs])


def predictions(model: nn.Module, data: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Predicted classes and targets, both (N,) on the CPU, in the order of the data.

    The model is run in evaluation mode, on the device it lies on, and left in the mode it was in.
    """
    with _evaluating(model) as device:
        pairs = [(model(inputs.to(device)).argmax(1).cpu(), targets.cpu()) for inputs, targets in data]
    if not pairs:
        raise InputError("there is no data to predict")
    return torch.cat([found for found, _ in pairs]), torch.cat([targets for _, targets in pairs])


@dataclass(frozen=True)
class PairedTest:
    """McNemar's test of two classifiers on the same points: right only before, right only after."""

    lost: int
    gained: int
    p_value: float


def mcnemar(before: Tensor, after: Tensor) -> PairedTest:
    """Exact two-sided McNemar test; `before` and `after` are (N,) booleans, True where a point is right.

    Under the null hypothesis each point that only one of the two gets right is equally likely to be
    either's.

    Reference: McNemar 1947, "Note on the sampling error of the difference between correlated
    proportions".

    >>> mcnemar(torch.tensor([True] * 9 + [False]), torch.tensor([False] * 9 + [True])).p_value
    0.021484375
    """
    from scipy.stats import binomtest

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
    counts = confusion.double()
    total = counts.sum()
    observed = counts.diag().sum() / total
    expected = (counts.sum(0) * counts.sum(1)).sum() / total**2
    return float((observed - expected) / (1 - expected)) if expected < 1 else 0.0
