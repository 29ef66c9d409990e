"""code_to_budget(): the network coded with feedback whose file is just within so many bytes."""

import logging
import math
import tempfile
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import nn

from capacity import checks
from capacity.errors import InputError
from compression.codec import encode
from compression.feedback.coding import FeedbackCodeResult, code_with_feedback
from compression.feedback.hessians import Calibration

LOGGER = logging.getLogger("compression")
FIRST = 1e-10  # nats a bit, from where the search goes out
LEAST, MOST = 1e-24, 1e6  # beyond which steps change no more
STRIDE = 30.0  # in which it goes out
CLOSE = 0.98  # of the budget is enough
HALVINGS = 10

Coding = Callable[[float], tuple[FeedbackCodeResult, int]]  # of a penalty: what is coded, bytes of its file


@checks.arguments(budget_bytes=checks.number, seed=checks.seed)
def code_to_budget(
    model: nn.Module,
    batches: Calibration | Iterable[Any],
    *,
    budget_bytes: float,
    layers: Sequence[str] | None = None,
    seed: int = 0,
) -> FeedbackCodeResult:
    """A copy of the model whose file takes at most so many bytes, at little loss: see `code_with_feedback`.

    What a bit is worth is searched for, by files that are written and measured, until one takes between 98
    and 100 % of the budget, or the search has halved its range ten times; the largest that fits is given.

    Parameters
    ----------
    batches, layers, seed: as for `code_with_feedback`, which is called some eight times
    budget_bytes: of the whole file of `encode`, header, biases and batch norms included. A budget above what
        the finest steps take gives these

    Raises InputError for a budget that cannot be reached, with the nearest that can, and where
    `code_with_feedback` does.
    """
    if not 0 < budget_bytes < math.inf:
        raise InputError(f"budget_bytes must be positive and finite, found {budget_bytes}")
    calibration = Calibration.of(batches)
    with tempfile.TemporaryDirectory() as folder:

        def coded(penalty: float) -> tuple[FeedbackCodeResult, int]:
            result = code_with_feedback(model, calibration, penalty=penalty, layers=layers, seed=seed)
            size = encode(result.model, f"{folder}/net.dcz")
            LOGGER.info("penalty %.3g nats a bit: %s bytes", penalty, f"{size:,}")
            return result, size

        return _search(coded, budget_bytes)


def _search(coded: Coding, budget_bytes: float) -> FeedbackCodeResult:
    """The largest file within the budget, between two penalties that are a stride apart."""
    penalty, best = FIRST, coded(FIRST)
    over, before = best[1] > budget_bytes, (best[0], 0)
    while (best[1] > budget_bytes) == over:
        if over and penalty >= MOST:
            raise InputError(
                f"budget_bytes={budget_bytes:,.0f} cannot be reached: the nearest that can is {best[1]:,}"
            )
        if not over and (best[1] <= before[1] or penalty <= LEAST or best[1] >= CLOSE * budget_bytes):
            return best[0]  # finer steps take no more, or it is near enough
        penalty *= STRIDE if over else 1 / STRIDE
        best, before = coded(penalty), best
    low, high = (penalty / STRIDE, penalty) if over else (penalty, penalty * STRIDE)
    fits = best if over else before
    for _ in range(HALVINGS):
        if fits[1] >= CLOSE * budget_bytes:
            break
        middle = math.sqrt(low * high)
        tried = coded(middle)
        if tried[1] > budget_bytes:
            low = middle
        else:
            high, fits = middle, max(fits, tried, key=lambda pair: pair[1])
    return fits[0]
