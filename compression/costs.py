"""What a forward pass costs: floating-point operations counted, latency and peak memory measured."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from capacity import checks
from capacity.cloning import clone, fold_masks
from capacity.columns import counted
from capacity.errors import InputError
from capacity.inputs import example_input, map_tensors, require_module, taking, tensors_in
from compression.counting import subnormal_count
from compression.operations import counter


@torch.random.fork_rng()  # which networks that draw in evaluation mode would move on
def flops(model: nn.Module, input_size: Any) -> int:
    """Floating-point operations of one sample's forward pass; a multiply-add counts as two.

    Counted by `torch.utils.flop_counter` on a weightless copy: matrix products and convolutions, with the
    formulas of `compression.operations` for kernels that do several at once. Masks change nothing here,
    because dense kernels multiply the zeros too. A model that cannot run on the meta device, because what
    it does depends on values, is run on real memory.

    Raises InputError for an input that the model cannot take.
    """
    try:
        return _counted(fold_masks(clone(model, device="meta")), input_size, "meta")
    except InputError:
        raise
    except Exception:  # whatever a model stumbles over without memory
        on_meta = _on_meta(model)
    copied = fold_masks(clone(model))
    with taking(copied, input_size):
        return _counted(copied, input_size, "meta" if on_meta else _device(copied))


def _counted(copied: nn.Module, input_size: Any, device: str) -> int:
    args, kwargs = example_input(copied.eval(), input_size, device=device)
    with counter() as counted, torch.no_grad():
        copied(*args, **kwargs)
    return int(counted.get_total_flops())


def _on_meta(model: nn.Module) -> bool:
    return any(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])


@dataclass(frozen=True)
class Latency:
    """Wall-clock times of forward passes; the interquartile range beside the median.

    `subnormals` counts parameters and buffers too small for a full mantissa, with which a CPU computes many
    times more slowly: set to zero they change no result that can be seen. Not `steady` are times whose
    quartiles lay further apart than a factor of three in each of three takes: something else kept the machine
    busy.
    """

    median_ms: float
    interquartile_ms: tuple[float, float]
    batch_size: int
    repeats: int
    device: str
    threads: int
    subnormals: int = 0
    steady: bool = True

    @property
    def per_sample_ms(self) -> float:
        return self.median_ms / self.batch_size

    def __str__(self) -> str:
        low, high = self.interquartile_ms
        slow = f"; {self.subnormals:,} subnormal numbers in the model slow it down" if self.subnormals else ""
        return (
            f"{self.median_ms:.3f} ms [{low:.3f}, {high:.3f}] a batch of {self.batch_size}, "
            f"{counted(self.repeats, 'repeat')}, {self.device}, {counted(self.threads, 'thread')}{slow}"
            f"{'' if self.steady else '; unsteady: time it again on a quiet machine'}"
        )


@checks.arguments(batch_size=checks.count, repeats=checks.count)
def latency(model: nn.Module, input_size: Any, *, batch_size: int = 1, repeats: int = 30) -> Latency:
    """Time forward passes in evaluation mode, where the model lies, after a tenth as many to warm up.

    On a GPU the times are those of CUDA events. Compare models with `latencies`, which takes turns.
    """
    return latencies([model], input_size, batch_size=batch_size, repeats=repeats)[0]


@torch.random.fork_rng()
def latencies(
    models: Sequence[nn.Module], input_size: Any, *, batch_size: int = 1, repeats: int = 30
) -> list[Latency]:
    """Time several models in one process, taking turns, so that all of them meet the same disturbances.

    Raises InputError for a model on the meta device, which computes nothing, and for an input that a model
    cannot take.
    """
    if repeats < 1 or batch_size < 1:
        raise InputError(f"repeats and batch_size must be at least 1, found {repeats} and {batch_size}")
    calls = [_call(model, input_size, batch_size) for model in models]
    for copied, args, kwargs in calls:
        with taking(copied, input_size), torch.no_grad():
            copied(*args, **kwargs)
    times = time_calls(
        [partial(_timed, *call) for call in calls],
        devices=[_device(call[0]) for call in calls],
        batch_size=batch_size,
        repeats=repeats,
    )
    pairs = zip(times, calls, strict=True)
    return [replace(latency, subnormals=subnormal_count(call[0])) for latency, call in pairs]


def time_calls(
    timed: Sequence[Callable[[], float]], *, devices: Sequence[str], batch_size: int, repeats: int
) -> list[Latency]:
    """Statistics of calls that each return their milliseconds, taking turns, after a tenth to warm up.

    Times that are out of range, by their quartiles, are taken again, up to three times in all; the steadiest
    count.
    """
    with torch.no_grad():
        takes = [_take(timed, repeats)]
        while _spread(takes[-1]) > UNSTEADY and len(takes) < TAKES:
            takes.append(_take(timed, repeats))
    times = min(takes, key=_spread)
    low, middle, high = np.quantile(times, [0.25, 0.5, 0.75], axis=1)
    threads, steady = torch.get_num_threads(), _spread(times) <= UNSTEADY
    return [
        Latency(float(m), (float(a), float(b)), batch_size, repeats, device, threads, steady=steady)
        for device, a, m, b in zip(devices, low, middle, high, strict=True)
    ]


TAKES, UNSTEADY = 3, 3.0
FEWEST = 4  # times whose quartiles say something


def _take(timed: Sequence[Callable[[], float]], repeats: int) -> np.ndarray:
    """(calls, repeats) milliseconds, warmed up."""
    times = np.zeros((len(timed), repeats))
    for place in range(-max(1, repeats // 10), repeats):
        for row, call in enumerate(timed):
            spent = call()
            if place >= 0:
                times[row, place] = spent
    return times


def _spread(times: np.ndarray) -> float:
    """How far apart a call's quartiles lie, as a factor; the largest of all calls.

    >>> _spread(np.array([[1.0, 1.0, 2.0, 2.0], [5.0, 5.0, 5.0, 5.0]]))
    2.0
    """
    if times.shape[1] < FEWEST:
        return 1.0
    low, high = np.quantile(times, [0.25, 0.75], axis=1)
    return float(np.max(np.where(low > 0, high / np.maximum(low, 1e-12), np.inf)))


@checks.arguments(batch_size=checks.count)
@torch.random.fork_rng()
def peak_memory_bytes(model: nn.Module, input_size: Any, *, batch_size: int = 1) -> int:
    """Most bytes that a forward pass holds at once in tensors besides the weights and the input.

    On the CPU measured after each operation of a real pass, without what a kernel allocates and frees
    within; on a GPU by CUDA's own counter, which sees that too. Raises InputError as `latencies` does.
    """
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, found {batch_size}")
    copied, args, kwargs = _call(model, input_size, batch_size)
    with taking(copied, input_size), torch.no_grad():
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
    require_module(model)
    if _on_meta(model):
        raise InputError(
            f"{type(model).__name__} lies on the meta device, which computes nothing: times and memory "
            f"cannot be measured; give it memory with model.to_empty(device='cpu')"
        )
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
