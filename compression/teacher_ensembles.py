"""Several teachers as one: the mean of their softened probabilities."""

from collections.abc import Sequence
from math import inf, log
from typing import Any

import torch
from torch import Tensor, nn

from capacity import checks
from capacity.errors import InputError
from capacity.inputs import shown, tensors_in
from compression.forms import logits_for
from compression.soft_targets import check_temperature


class TeacherEnsemble(nn.Module):
    """Logits whose softmax at `temperature` is the weighted mean of the teachers' at that temperature.

    forward(...) passes its arguments on to each teacher and returns T · log Σ wₖ softmax(zₖ / T), of the
    logits' shape. Under KL divergence a student so taught has the gradient of the weighted mean of its
    divergences from each teacher, as the two differ by a constant (Hinton et al. 2015, arXiv:1503.02531; You
    et al. 2017, "Learning from multiple teacher networks", KDD).

    Parameters
    ----------
    teachers: two classifiers or more with the same classes
    temperature: T, that of the `DistillationLoss` beside which they teach
    weights: positive numbers, one for each teacher, of which the shares count; by default all are alike
    class_axis: which axis of the logits is the classes; by default the second, and needed for logits of three
        axes

    Raises InputError for fewer than two teachers and for weights that are none; in forward for teachers of
    different classes.

    >>> sure, unsure = nn.Linear(1, 2, bias=False), nn.Linear(1, 2, bias=False)
    >>> for teacher, logits in ((sure, [[2.0], [0.0]]), (unsure, [[0.0], [0.0]])):
    ...     _ = teacher.weight.data.copy_(torch.tensor(logits))
    >>> both = TeacherEnsemble([sure, unsure], temperature=1.0)(torch.ones(1, 1)).softmax(1)
    >>> alone = [teacher(torch.ones(1, 1)).softmax(1) for teacher in (sure, unsure)]
    >>> torch.allclose(both, (alone[0] + alone[1]) / 2)
    True
    """

    def __init__(
        self,
        teachers: Sequence[nn.Module],
        *,
        temperature: float = 4.0,
        weights: Sequence[float] | None = None,
        class_axis: int | None = None,
    ) -> None:
        super().__init__()
        checks.optional(checks.integer)("class_axis", class_axis)
        self.teachers = nn.ModuleList(_several(teachers))
        self.shares = _shares(weights, len(self.teachers))
        self.temperature = float(check_temperature("temperature", temperature))
        self.class_axis = class_axis

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        every = [self._logits(teacher, named or inputs) for teacher in self.teachers]
        shapes = {tuple(logits.shape) for logits in every}
        if len(shapes) > 1:
            listed = " and ".join(map(str, sorted(shapes)))
            raise InputError(f"the teachers must have the same classes: their logits have shapes {listed}")
        axis = self._axis(every[0])
        softened = [
            torch.log_softmax(logits / self.temperature, axis) + log(share)
            for share, logits in zip(self.shares, every, strict=True)
        ]
        return self.temperature * torch.logsumexp(torch.stack(softened), dim=0)

    @staticmethod
    def _logits(teacher: nn.Module, given: Any) -> Tensor:
        """A teacher's logits, in single precision at least, where the inputs are."""
        device = next((tensor.device for tensor in tensors_in(given)), torch.device("cpu"))
        logits = logits_for(teacher, given, device)
        return logits if logits.dtype == torch.float64 else logits.float()

    def _axis(self, logits: Tensor) -> int:
        if self.class_axis is None and logits.dim() == 3:
            raise InputError(
                f"teachers with logits {tuple(logits.shape)}: say which axis is the classes, class_axis=2 "
                f"for sequences (B, T, classes)"
            )
        axis = 1 if self.class_axis is None else self.class_axis
        if not -logits.dim() < axis < logits.dim() or axis % logits.dim() == 0 or logits.shape[axis] < 2:
            raise InputError(f"axis {axis} of the teachers' logits {shown(logits)} holds no classes")
        return axis


def _several(teachers: Any) -> Sequence[nn.Module]:
    if isinstance(teachers, nn.Module) and not isinstance(teachers, nn.ModuleList):
        raise InputError(f"teachers must be a list of networks, found one {type(teachers).__name__}")
    checks.each(checks.instance(nn.Module))("teachers", teachers)
    every = list(teachers)
    if len(every) < 2:
        raise InputError(f"teachers must be two or more, found {len(every)}")
    return every


def _shares(weights: Sequence[float] | None, count: int) -> tuple[float, ...]:
    if weights is None:
        return (1 / count,) * count
    checks.each(checks.number)("weights", weights)
    every = [float(weight) for weight in weights]
    if len(every) != count or not all(0 < weight < inf for weight in every):
        raise InputError(f"weights must be {count} positive numbers, one for each teacher, found {weights}")
    return tuple(weight / sum(every) for weight in every)
