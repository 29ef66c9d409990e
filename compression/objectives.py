"""What training minimizes: cross-entropy of the logits or the model's own loss, or an objective by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from capacity.errors import InputError, unknown
from capacity.inputs import shown
from compression.batches import TensorBatches
from compression.forms import heads_of, logits_of, own_loss, run
from compression.labels import cross_entropy, matched, span

Objective = Callable[[nn.Module, Any, Any], Tensor]


@dataclass
class ClassLoss:
    """Mean cross-entropy in nats of class logits of any form that `compression.forms` knows.

    Where the model computes a loss itself, that one is taken; auxiliary heads add 0.3 of theirs.
    `bounds` are the lowest and highest label, where they are known before.
    """

    bounds: tuple[int, int] | None = None

    def __call__(self, model: nn.Module, inputs: Any, targets: Any) -> Tensor:
        output = run(model, inputs, targets)
        if isinstance(output, Tensor):
            return self._loss(output, targets)
        loss = own_loss(output)
        if loss is not None:
            return loss
        return torch.stack([weight * self._loss(head, targets) for weight, head in heads_of(output)]).sum()

    def _loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        if logits.dim() != 2 or targets.dim() != 1 or targets.dtype != torch.int64 or logits.shape[1] < 2:
            logits, targets = matched(logits, targets)
        return cross_entropy(logits, targets, self.bounds)


def class_loss(data: Any) -> ClassLoss:
    """The loss for these batches; the labels of TensorBatches are looked through once."""
    targets = data.targets if isinstance(data, TensorBatches) else None
    if targets is None or targets.dim() != 1 or targets.is_floating_point():
        return ClassLoss()
    return ClassLoss(span(targets))


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
        if bool(((targets < 0) | (targets > 1)).any()):
            raise InputError(
                f"objective 'bce' takes targets in [0, 1], found {float(targets.min()):g} to "
                f"{float(targets.max()):g}"
            )
        return F.binary_cross_entropy_with_logits(outputs, targets)


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


def objective_of(objective: "Objective | str | None", data: Any) -> Objective:
    """An objective by name ("cross-entropy", "mse", "bce"), itself, or for None the loss for these batches.

    Raises InputError for an unknown name.
    """
    if objective is None or objective == "cross-entropy":
        return class_loss(data)
    if isinstance(objective, str):
        if objective not in NAMED:
            raise unknown("objective", objective, ["cross-entropy", *NAMED])
        return NAMED[objective]
    return objective
