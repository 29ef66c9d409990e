"""What a forward pass costs: floating-point operations counted, latency and peak memory measured."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from capacity.cloning import clone, fold_masks
from capacity.errors import InputError
from capacity.inputs import example_input, map_tensors, tensors_in


def flops(model: nn.Module, input_size: Any) -> int:
    """Floating-point operations of one sample's forward pass; a multiply-add counts as two.

    Counted by `torch.utils.flop_counter` on a weightless copy: matrix products and convolutions. Masks
    change nothing here, because dense kernels multiply the zeros too. A model that cannot run on the meta
    device, because what it does depends on values, is run on real memory.
    """
    try:
        return _counted(fold_masks(clone(model, device="meta")), input_size, "meta")
    except (RuntimeError, NotImplementedError):
        device = next((str(p.device) for p in model.parameters()), "cpu")
        return _counted(fold_masks(clone(model)), input_size, device)


def _counted(copied: nn.Module, input_size: Any, device: str) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    args, kwargs = example_input(copied.eval(), input_size, device=device)
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
    return time_calls(
        [partial(_timed, *call) for call in calls],
        devices=[_device(call[0]) for call in calls],
        batch_size=batch_size,
        repeats=repeats,
    )


def time_calls(
    timed: Sequence[Callable[[], float]], *, devices: Sequence[str], batch_size: int, repeats: int
) -> list[Latency]:
    """Statistics of calls that each return their milliseconds, taking turns, after a tenth to warm up."""
    times = np.zeros((len(timed), repeats))
    with torch.no_grad():
        for place in range(-max(1, repeats // 10), repeats):
            for row, call in enumerate(timed):
                spent = call()
                if place >= 0:
                    times[row, place] = spent
    low, middle, high = np.quantile(times, [0.25, 0.5, 0.75], axis=1)
    threads, found = torch.get_num_threads(), []
    for k, device in enumerate(devices):
        spread = (float(low[k]), float(high[k]))
        found.append(Latency(float(middle[k]), spread, batch_size, repeats, device, threads))
    return found


def peak_memory_bytes(model: nn.Module, input_size: Any, *, batch_size: int = 1) -> int:
    """Most bytes that a forward pass holds at once in tensors besides the weights and the input.

    On the CPU measured after each operation of a real pass, without what a kernel allocates and frees
    within; on a GPU by CUDA's own counter, which sees that too.
    """
    copied, args, kwargs = _call(model, input_size, batch_size)
    with torch.no_grad():
        if _device(copied).startswith("cuda"):
            copied(*args, **kwargs)  # what is allocated only once is not a pass's
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            copied(*args, **kwargs)
            return int(torch.cuda.max_memory_allocated() - before)
        given = [*copied.parameters(), *copied.buffers(), *tensors_in(args), *tensors_in(kwargs)]
        meter = _Meter(given)
        with meter:
            copied(*args, **kwargs)
    return meter.peak_bytes


class _Meter(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive after each operation, those given at first left out."""

    def __init__(self, given: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.given = {tensor.untyped_storage()._cdata for tensor in given}
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.alive = {key: pair for key, pair in self.alive.items() if not pair[0].expired()}
        for tensor in tensors_in(result):
            storage = tensor.untyped_storage()
            if storage._cdata not in self.given:
                self.alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self.peak_bytes = max(self.peak_bytes, sum(size for _, size in self.alive.values()))
        return result


def _call(model: nn.Module, input_size: Any, batch_size: int) -> tuple[nn.Module, Any, Any]:
    copied = fold_masks(clone(model)).eval()
    device = next((str(p.device) for p in copied.parameters()), "cpu")
    args, kwargs = example_input(copied, input_size, device=device)

    def repeated(tensor: Tensor) -> Tensor:
        return tensor.repeat_interleave(batch_size, 0) if tensor.dim() else tensor

    return copied, map_tensors(args, repeated), map_tensors(kwargs, repeated)


def _device(model: nn.Module) -> str:
    return next((str(p.device) for p in model.parameters()), "cpu")


def wall_ms(call: Callable[[], Any]) -> float:
    """Wall-clock milliseconds of one call."""
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


def _timed(model: nn.Module, args: Any, kwargs: Any) -> float:
    """Milliseconds of one forward pass."""
    if not _device(model).startswith("cuda"):
        return wall_ms(partial(model, *args, **kwargs))
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    model(*args, **kwargs)
    last.record()
    torch.cuda.synchronize()
    return float(first.elapsed_time(last))
