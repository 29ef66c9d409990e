"""One row of timings: ours and a peer's way to do the same, and memory while it is done."""

import time
from collections.abc import Callable
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

    `flops` are those of our matrix products in single precision, a multiply-add as two, from which follows
    what the ratio would be if ours took nothing but these; 0 where they are not counted.
    """

    name: str
    peer: str
    goal: str
    ours: Callable[[], Any]
    theirs: Callable[[], Any] | None
    flops: float = 0.0


def flops_per_second(side: int) -> float:
    """What a product of two square matrices reaches in single precision, on as many threads as torch has."""
    import torch

    matrix = torch.ones(side, side)
    torch.mm(matrix, matrix)
    return 2 * side**3 / min(seconds(lambda: torch.mm(matrix, matrix)) for _ in range(5))


def training_flops(network: "nn.Module", input_size: tuple[int, ...], samples: int) -> float:
    """Of a dense network's products, forward and backward; nothing asks for the gradient of its inputs.

    >>> from torch import nn
    >>> training_flops(nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2)), (3,), 10)
    1200.0
    """
    from torch import nn

    from compression.costs import flops

    first = next(layer for layer in network.modules() if isinstance(layer, nn.Linear))
    return float(samples) * (3 * flops(network, input_size) - 2 * first.weight.numel())
