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
TURNS = 10  # within a range

Coded = tuple[FeedbackCodeResult, int]  # what is coded, and bytes of its file
Coding = Callable[[float], Coded]  # of a penalty


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
    and 100 % of the budget, or ten have been tried within a range; the largest that fits is given.

    Parameters
    ----------
    batches, layers, seed: as for `code_with_feedback`, which is called some five times
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
    fits, size = (best, before[1]) if over else (before, best[1])
    return _between((low, size), (high, fits), coded, budget_bytes)


def _between(
    over: tuple[float, int], within: tuple[float, Coded], coded: Coding, budget_bytes: float
) -> FeedbackCodeResult:
    """The largest file within the budget between a penalty with its too many bytes, and one with its file.

    The logarithm of the bytes is nearly a line in that of the penalty: the next one is where the line through
    the two nearest files meets the budget.
    """
    low, high, fits = math.log(over[0]), math.log(within[0]), within[1]
    aim = math.log(math.sqrt(CLOSE) * budget_bytes)
    known = [(math.log(over[1]) - aim, low), (math.log(fits[1]) - aim, high)]
    for _ in range(TURNS):
        if fits[1] >= CLOSE * budget_bytes:
            break
        (one, here), (two, there) = sorted(known, key=lambda pair: abs(pair[0]))[:2]
        line = here - one * (there - here) / (two - one) if one != two else math.inf
        middle = line if low < line < high else (low + high) / 2
        tried = coded(math.exp(middle))
        known.append((math.log(tried[1]) - aim, middle))
        if tried[1] > budget_bytes:
            low = middle
        else:
            high, fits = middle, max(fits, tried, key=lambda pair: pair[1])
    return fits[0]
