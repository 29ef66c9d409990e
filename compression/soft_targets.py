"""The usual loss under a teacher whose outputs are kept: both its terms and their gradient in one pass.

Automatic differentiation would go through twenty small operations there and back for each batch, which for a
small student is a tenth of the training. Loss and slope are written out instead:

    α·w·T²·(Σ p log p - Σ p log q_T) + (1 - α)·(-log q_y)        w: 1, "doubled" 2, "class-mean" 1 / classes
    α·w·T·(q_T - p) + (1 - α)·(q - 1_y)                          the slope at the student's logits, over B

with p the teacher's and q_T the student's classes at the temperature, q the student's at 1, y the label.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from capacity import checks
from capacity.errors import InputError

TEMPERATURES = (1e-6, 100)  # there 0.02 % of a divergence is rounding of single precision; at 1e4 a sixth


def check_temperature(name: str, value: Any) -> float:
    """A check of a temperature, which divides logits; its square multiplies what is left of them."""
    plain = checks.number(name, value)
    if not TEMPERATURES[0] <= plain <= TEMPERATURES[1]:
        raise InputError(
            f"{name} must lie between {TEMPERATURES[0]:g} and {TEMPERATURES[1]:g}, where single precision "
            f"tells softened probabilities apart, found {value}"
        )
    return plain


class SoftTargetLoss(torch.autograd.Function):
    """Scalar loss of (B, classes) student logits, log-probabilities of the teacher at T, and (B,) labels."""

    @staticmethod
    def forward(
        ctx: Any, student: Tensor, log_p: Tensor, labels: Tensor, terms: tuple[float, float, float]
    ) -> Tensor:
        """terms: α·w, T and 1 - α."""
        soft, temperature, hard = terms
        count = len(student)
        p = log_p.exp()
        log_t = torch.log_softmax(student / temperature, 1)
        scale = soft * temperature / count
        loss = torch.sub(log_p, log_t).mul_(p).sum().mul_(scale * temperature)
        slope = log_t.exp_().sub_(p).mul_(scale)
        if hard:
            log_q = torch.log_softmax(student, 1)
            index = labels[:, None]
            loss.sub_(log_q.gather(1, index).sum(), alpha=hard / count)
            slope.add_(log_q.exp_(), alpha=hard / count)
            slope.scatter_add_(1, index, slope.new_full((), -hard / count).expand(count, 1))
        ctx.save_for_backward(slope)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grown: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = ctx.saved_tensors
        return slope * grown, None, None, None
