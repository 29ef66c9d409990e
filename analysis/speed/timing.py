"""One row of timings: ours and a peer's way to do the same, and memory while it is done."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


def seconds(work: Callable[[], Any] | None) -> float:
    """Wall-clock seconds of one run; NaN where there is no peer."""
    if work is None:
        return float("nan")
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def say(text: str) -> None:
    """Print a remark between the timings, in lines as the terminal has them."""
    from capacity.terminal import broken, printable

    print(printable(broken(text)))


@dataclass(frozen=True)
class Benchmark:
    """One row: what is done, by whom, and the ratio peer / ours (speed-up) that is the goal.

    `flops` are those of our matrix products in single precision, a multiply-add as two: they alone take so
    long on this machine that no ratio can be higher than the one they would leave.
    """

    name: str
    peer: str
    goal: str
    ours: Callable[[], Any]
    theirs: Callable[[], Any] | None
    flops: float = 0.0


def flops_per_second(size: int = 2048) -> float:
    """What a product of two square matrices reaches in single precision, on as many threads as torch has."""
    import torch

    matrix = torch.ones(size, size)
    torch.mm(matrix, matrix)
    return 2 * size**3 / min(seconds(lambda: torch.mm(matrix, matrix)) for _ in range(5))


def dense_training_flops(layers: "Sequence[nn.Linear]", samples: int) -> float:
    """Of the products of a training, forward and backward; none gives the inputs of the first a gradient.

    >>> from torch import nn
    >>> dense_training_flops([nn.Linear(3, 5), nn.Linear(5, 2)], 10)
    1200.0
    """
    weights = [layer.weight.numel() for layer in layers]
    return 2.0 * samples * (3 * sum(weights) - weights[0])
