"""What training minimizes unless told otherwise: cross-entropy of the logits, or the model's own loss."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from compression.batches import TensorBatches
from compression.forms import heads_of, own_loss, run
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
