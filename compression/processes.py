"""One run in several processes, as torchrun and `accelerate launch` start them: who computes, who writes.

Every process runs the same program. The first one writes files and prints; all must reach the collective
steps, training and `evaluate(..., gather=True)`, together.
"""

import atexit
import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from capacity.errors import InputError
from capacity.inputs import first_line, map_tensors, tensors_in
from compression._moved import keep_old_names


def rank() -> int:
    """Number of this process; 0 is the one that writes."""
    return _number("RANK", 0) if world_size() > 1 else 0


def world_size() -> int:
    """How many processes share this run; 1 outside of torchrun."""
    return _number("WORLD_SIZE", 1)


def _number(variable: str, default: int) -> int:
    """What torchrun says in the environment; raises InputError where that is no whole number."""
    text = os.environ.get(variable, str(default))
    if not text.isdecimal() or (variable == "WORLD_SIZE" and int(text) < 1):
        raise InputError(
            f"the environment variable {variable} must be a whole number, found {text!r}: unset it"
        )
    return int(text)


DEVICE = "ACCELERATE_TORCH_DEVICE"  # Accelerate reads it too, and processes started later inherit it


def use_device(name: str) -> torch.device:
    """Train on this device from now on, here and in processes started later: "cpu", "cuda", "cuda:1", "mps".

    Raises InputError for a device that there is not, and under torchrun, where each process has its own.
    """
    if world_size() > 1:
        raise InputError(f"device {name!r}: under torchrun each process has a device of its own")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(
            f"device {name!r} is not here ({first_line(error, 90)}); cpu always is, cuda, cuda:1 or mps may "
            f"be"
        ) from error
    os.environ[DEVICE] = name
    _forget()
    return device


@contextmanager
def on_device(name: str) -> Iterator[None]:
    """Within it, train on this device, as `use_device` has it; under torchrun on each process's own.

    Where that is another than before, an `Accelerator` made before is of no use within and after.
    """
    if world_size() > 1 or own_device().type == name:
        yield
        return
    before = os.environ.get(DEVICE)
    use_device(name)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(DEVICE, None)
        else:
            os.environ[DEVICE] = before
        _forget()


def _forget() -> None:
    """Let Accelerate choose its device anew: else the first of a process would stay."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)


def own_device() -> torch.device:
    """The device chosen by `use_device`, else this process's GPU, or the CPU where there is none."""
    if DEVICE in os.environ and world_size() == 1:
        return torch.device(os.environ[DEVICE])
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", _number("LOCAL_RANK", 0))


def joined() -> Any:
    """Accelerate's state of this process, in the group of all of them; on the CPU where there is no GPU.

    `torch.distributed.nn` is imported first: its functions' default arguments hold the group there is at
    their import for ever, whose threads then outlive `leave` and may abort the interpreter at its end.
    """
    import torch.distributed.nn  # noqa: F401
    from accelerate import PartialState

    on_cpu = own_device().type == "cpu"
    if on_cpu:  # a group of GPUs may wait for the others when it is left; its user calls `leave`
        atexit.unregister(leave)
        atexit.register(leave)
    return PartialState(cpu=on_cpu)


@contextmanager
def main_first() -> Iterator[None]:
    """Let the first process through before all others."""
    if world_size() == 1:
        yield
        return
    with joined().main_process_first():
        yield


def leave() -> None:
    """Part from the other processes at the end of a run."""
    import torch.distributed as dist

    if world_size() > 1 and dist.is_initialized():
        gc.collect()  # what was trained in parallel refers to the group, in circles
        dist.destroy_process_group()


def gather_objects(values: Any) -> list[Any]:
    """What each process holds, in their order; every process gets the whole list."""
    if world_size() == 1:
        return [values]
    from accelerate.utils import gather_object

    joined()
    gathered: list[Any] = gather_object([values])
    return gathered


def shard_batch(
    inputs: Any, targets: Any, mass: Callable[[Any], float | None] | None = None
) -> tuple[Any, Any, float]:
    """This process's samples of a batch, and the weight of their mean loss.

    Gradients are averaged over processes: with these weights that is the gradient of the mean over the
    whole batch, whatever its size. A process without samples takes one with weight 0. `mass` gives what
    samples of these targets weigh together in the loss's mean, where they do not weigh the same.
    """
    size = world_size()
    if size == 1:
        return inputs, targets, 1.0
    count = len(tensors_in(targets)[0])
    mine = slice(rank(), None, size) if rank() < count else slice(0, 1)
    weight = len(range(rank(), count, size)) * size / count
    total = None if mass is None else mass(targets)
    inputs, targets = map_tensors((inputs, targets), lambda tensor: tensor[mine])
    if mass is not None and total and weight:
        weight = size * (mass(targets) or 0.0) / total
    return inputs, targets, weight


keep_old_names(__name__)
