"""What a forward pass costs: floating-point operations counted, latency and peak memory measured."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from capacity.cloning import clone, fold_masks
from capacity.errors import InputError
from capacity.inputs import example_input, map_tensors


def flops(model: nn.Module, input_size: Any) -> int:
    """Floating-point operations of one sample's forward pass; a multiply-add counts as two.

    Counted by `torch.utils.flop_counter` on a weightless copy: matrix products and convolutions. Masks
    change nothing here, because dense kernels multiply the zeros too.
    """
    from torch.utils.flop_counter import FlopCounterMode

    copied = fold_masks(clone(model, device="meta")).eval()
    args, kwargs = example_input(copied, input_size, device="meta")
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        copied(*args, **kwargs)
    return int(counter.get_total_flops())


@dataclass(frozen=True)
class Latency:
    """Wall-clock times of forward passes; the interquartile range beside the median."""

    median_ms: float
    interquartile_ms: tuple[float, float]
    batch_size: int
    repeats: int
    device: str
    threads: int

    @property
    def per_sample_ms(self) -> float:
        return self.median_ms / self.batch_size

    def __str__(self) -> str:
        low, high = self.interquartile_ms
        return (
            f"{self.median_ms:.3f} ms [{low:.3f}, {high:.3f}] a batch of {self.batch_size}, "
            f"{self.repeats} repeats, {self.device}, {self.threads} threads"
        )


def latency(model: nn.Module, input_size: Any, *, batch_size: int = 1, repeats: int = 30) -> Latency:
    """Time forward passes in evaluation mode, where the model lies, after a tenth as many to warm up.

    On a GPU the times are those of CUDA events. Compare models with `latencies`, which takes turns.
    """
    return latencies([model], input_size, batch_size=batch_size, repeats=repeats)[0]


def latencies(
    models: Sequence[nn.Module], input_size: Any, *, batch_size: int = 1, repeats: int = 30
) -> list[Latency]:
    """Time several models in one process, taking turns, so that all of them meet the same disturbances."""
    if repeats < 1 or batch_size < 1:
        raise InputError(f"repeats and batch_size must be at least 1, found {repeats} and {batch_size}")
    calls = [_call(model, input_size, batch_size) for model in models]
    times = np.zeros((len(models), repeats))
    with torch.inference_mode():
        for place in range(-max(1, repeats // 10), repeats):
            for row, (copied, args, kwargs) in enumerate(calls):
                spent = _timed(copied, args, kwargs)
                if place >= 0:
                    times[row, place] = spent
    low, middle, high = np.quantile(times, [0.25, 0.5, 0.75], axis=1)
    threads = torch.get_num_threads()
    return [
        Latency(
            float(middle[k]), (float(low[k]), float(high[k])), batch_size, repeats, _device(call[0]), threads
        )
        for k, call in enumerate(calls)
    ]


def peak_memory_bytes(model: nn.Module, input_size: Any, *, batch_size: int = 1) -> int:
    """Most memory that a forward pass holds at once besides the weights and the input, as the allocator saw.

    Activations and the kernels' scratch memory, summed from the profiler's record of every allocation on
    the CPU, or from CUDA's own counter.
    """
    copied, args, kwargs = _call(model, input_size, batch_size)
    with torch.inference_mode():
        copied(*args, **kwargs)  # what is allocated only once is not a pass's
        if _device(copied).startswith("cuda"):
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            copied(*args, **kwargs)
            return int(torch.cuda.max_memory_allocated() - before)
        with torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
        ) as run:
            copied(*args, **kwargs)
    held = peak = 0
    for event in run.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def _call(model: nn.Module, input_size: Any, batch_size: int) -> tuple[nn.Module, Any, Any]:
    copied = fold_masks(clone(model)).eval()
    device = next((str(p.device) for p in copied.parameters()), "cpu")
    args, kwargs = example_input(copied, input_size, device=device)

    def repeated(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.repeat_interleave(batch_size, 0) if tensor.dim() else tensor

    return copied, map_tensors(args, repeated), map_tensors(kwargs, repeated)


def _device(model: nn.Module) -> str:
    return next((str(p.device) for p in model.parameters()), "cpu")


def _timed(model: nn.Module, args: Any, kwargs: Any) -> float:
    """Milliseconds of one forward pass."""
    if not _device(model).startswith("cuda"):
        start = time.perf_counter()
        model(*args, **kwargs)
        return 1e3 * (time.perf_counter() - start)
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    model(*args, **kwargs)
    last.record()
    torch.cuda.synchronize()
    return float(first.elapsed_time(last))
