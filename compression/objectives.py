"""What training minimizes: cross-entropy of the logits or the model's own loss, or an objective by name."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from capacity import checks
from capacity.errors import InputError, brief, unknown
from capacity.inputs import shown
from compression.batches import TensorBatches
from compression.forms import heads_of, logits_of, own_loss, parts_of, run
from compression.labels import IGNORED, cross_entropy, matched, span

Objective = Callable[[nn.Module, Any, Any], Tensor]
ClassWeights = Sequence[float] | Tensor | Literal["balanced"]


@dataclass
class ClassLoss:
    """Mean cross-entropy in nats of class logits of any form that `compression.forms` knows.

    Where the model computes a loss itself, that one is taken; auxiliary heads add 0.3 of theirs.
    `bounds` are the lowest and highest label, where they are known before; `class_weights` what a sample of
    each class weighs in the mean, as in torch's CrossEntropyLoss.
    """

    bounds: tuple[int, int] | None = None
    class_weights: tuple[float, ...] | None = None

    def __call__(self, model: nn.Module, inputs: Any, targets: Any) -> Tensor:
        output = run(model, inputs, targets)
        if isinstance(output, Tensor):
            return self._loss(output, targets)
        loss = own_loss(output)
        if loss is not None:
            if self.class_weights is not None:
                raise InputError(
                    "the model computes its loss itself, in which class_weights have no place: return the "
                    "logits alone, or weigh there"
                )
            return loss
        return torch.stack([weight * self._loss(head, targets) for weight, head in heads_of(output)]).sum()

    def _loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        if logits.dim() != 2 or targets.dim() != 1 or targets.dtype != torch.int64 or logits.shape[1] < 2:
            logits, targets = matched(logits, targets)
        weights = self._weights(logits)
        if weights is not None and not self.mass(targets):
            return 0 * logits.sum()  # of classes that weigh nothing there is no mean
        return cross_entropy(logits, targets, self.bounds, weights)

    def _weights(self, logits: Tensor) -> Tensor | None:
        if self.class_weights is None:
            return None
        if len(self.class_weights) != logits.shape[1]:
            raise InputError(
                f"class_weights are {len(self.class_weights)} numbers, but the model has {logits.shape[1]} "
                f"outputs: one number for each class"
            )
        wide = torch.float64 if logits.dtype == torch.float64 else torch.float32
        return torch.tensor(self.class_weights, dtype=wide, device=logits.device)

    def mass(self, targets: Any) -> float | None:
        """What a batch's samples weigh together; None where each weighs the same."""
        if self.class_weights is None or not isinstance(targets, Tensor):
            return None
        counts = torch.bincount(targets[targets >= 0].flatten().long(), minlength=len(self.class_weights))
        return float(counts.double().cpu() @ torch.tensor(self.class_weights, dtype=torch.float64))


def class_loss(data: Any, class_weights: ClassWeights | None = None) -> ClassLoss:
    """The loss for these batches; the labels of TensorBatches are looked through once."""
    weights = None if class_weights is None else weights_of(class_weights, data)
    targets = data.targets if isinstance(data, TensorBatches) else None
    if targets is None or targets.dim() != 1 or targets.is_floating_point():
        return ClassLoss(class_weights=weights)
    return ClassLoss(span(targets), weights)


def weights_of(class_weights: ClassWeights, data: Any) -> tuple[float, ...]:
    """Class weights as numbers; "balanced": samples / (classes * samples of the class), as in scikit-learn.

    Raises InputError for what are no weights, and for a class without samples where they are to be balanced.

    >>> weights_of("balanced", [(torch.zeros(4, 1), torch.tensor([0, 0, 0, 1]))])
    (0.6666666666666666, 2.0)
    """
    if isinstance(class_weights, str):
        if class_weights != "balanced":
            raise unknown("class_weights", class_weights, ["balanced"])
        return _balanced(data)
    try:
        numbers = tuple(float(number) for number in class_weights)
    except (TypeError, ValueError, RuntimeError):  # torch's word for complex ones
        numbers = ()
    if not any(number > 0 for number in numbers) or not all(0 <= n < math.inf for n in numbers):
        raise InputError(
            f"class_weights must be a number for each class, none negative and not all 0, or 'balanced'; "
            f"found {brief(class_weights)}"
        )
    return numbers


def _balanced(data: Any) -> tuple[float, ...]:
    counts = torch.zeros(0, dtype=torch.int64)
    for batch in data:
        targets = parts_of(batch)[1]
        if not isinstance(targets, Tensor) or targets.is_floating_point():
            raise InputError(f"class_weights 'balanced' need class indices, found targets {shown(targets)}")
        counted = torch.bincount(targets[targets != IGNORED].flatten().long().cpu(), minlength=len(counts))
        counted[: len(counts)] += counts
        counts = counted
    if not bool((counts > 0).all()):
        missing = int((counts == 0).nonzero()[0])
        raise InputError(f"class_weights cannot be balanced: class {missing} has no sample in the data")
    return tuple((counts.sum() / (len(counts) * counts.double())).tolist())


@dataclass(frozen=True)
class ElementLoss:
    """A mean over elements of outputs and targets of one shape: "mse" for numbers, "bce" for yes and no.

    Outputs (B, 1, ...) meet targets (B, ...). "bce" takes logits and targets in [0, 1], a column for each of
    several labels to a sample, or a map of them.
    """

    kind: str

    def __call__(self, model: nn.Module, inputs: Any, targets: Any) -> Tensor:
        outputs = logits_of(run(model, inputs))
        outputs, targets = same_shape(outputs, targets)
        if self.kind == "mse":
            return F.mse_loss(outputs, targets)
        self.check(targets)
        return F.binary_cross_entropy_with_logits(outputs, targets)

    def check(self, targets: Tensor) -> None:
        """Raise InputError for targets that "bce" cannot have."""
        if self.kind == "bce" and not bool(((targets >= 0) & (targets <= 1)).all()):
            raise InputError(
                f"objective 'bce' takes targets in [0, 1], found {float(targets.min()):g} to "
                f"{float(targets.max()):g}"
            )


def same_shape(outputs: Tensor, targets: Any) -> tuple[Tensor, Tensor]:
    """Outputs and float targets of one shape, in single precision at least, an axis of one output left out.

    Raises InputError for shapes that do not belong together, which torch would stretch over each other.
    """
    if not isinstance(targets, Tensor):
        raise InputError(f"targets must be a tensor in the outputs' shape, found {shown(targets)}")
    if outputs.dim() == targets.dim() + 1 and outputs.shape[1] == 1:
        outputs = outputs[:, 0]
    elif targets.dim() == outputs.dim() + 1 and targets.shape[1] == 1:
        targets = targets[:, 0]
    if outputs.shape != targets.shape:
        raise InputError(
            f"outputs {shown(outputs)} and targets {shown(targets)} do not belong together: they need "
            f"one shape"
        )
    wide = torch.float64 if outputs.dtype == torch.float64 else torch.float32
    return outputs.to(wide), targets.to(wide)


NAMED = {"mse": ElementLoss("mse"), "bce": ElementLoss("bce")}


def is_cross_entropy(objective: Any) -> bool:
    """Whether this asks for the loss that labels have by default."""
    return objective is None or (isinstance(objective, str) and objective == "cross-entropy")


def objective_of(
    objective: "Objective | str | None", data: Any, class_weights: ClassWeights | None = None
) -> Objective:
    """An objective by name ("cross-entropy", "mse", "bce"), itself, or for None the loss for these batches.

    Raises InputError for an unknown name, and for class weights with another objective than cross-entropy.
    """
    if objective is None or is_cross_entropy(objective):
        return class_loss(data, class_weights)
    if class_weights is not None:
        described = repr(objective) if isinstance(objective, str) else "of your own"
        raise InputError(
            f"class_weights are for the cross-entropy; the objective is {described}: weigh there"
        )
    if isinstance(objective, str):
        if objective not in NAMED:
            raise unknown("objective", objective, ["cross-entropy", *NAMED])
        return NAMED[objective]
    if isinstance(objective, nn.Module):
        if checks.takes(objective.forward, 3):
            return objective
        raise InputError(
            f"objective must be a function (model, inputs, targets) -> scalar loss, found a "
            f"{type(objective).__name__}: write objective=lambda model, x, y: loss(model(x), y)"
        )
    if not checks.takes(objective, 3):
        raise InputError(
            f"objective must be one of cross-entropy, {', '.join(NAMED)}, or a function (model, inputs, "
            f"targets) -> scalar loss; found {shown(objective)}"
        )
    return objective


def require_scalar(loss: Any) -> None:
    """Raise InputError for what an objective returns and is no scalar loss."""
    if not isinstance(loss, Tensor) or loss.dim():
        raise InputError(
            f"objective must return a scalar loss of what the model computed, such as F.mse_loss(model(x), y)"
            f"; found {shown(loss)}"
        )
