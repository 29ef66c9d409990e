"""What a run takes of memory and disk, said before it starts and refused where it cannot fit."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.lab.consoles import Say
from analysis.lab.resources import free_disk, free_memory, size
from capacity.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from analysis.lab.runner import Runner

COPIES = 3  # of the weights in training: themselves, their gradients, the momentum


@dataclass(frozen=True)
class Need:
    """What a run takes at least in memory besides its data; of disk at least, and at most.

    Parameters
    ----------
    network_bytes: weights, gradients and momentum of all networks that are trained at once
    sample_bytes: what these networks keep of one sample between their forward and backward passes
    batch_size: samples in a batch
    least_disk_bytes: the trained networks alone
    disk_bytes: a network of full size for each step
    """

    network_bytes: int
    sample_bytes: int
    batch_size: int
    least_disk_bytes: int
    disk_bytes: int

    @property
    def memory_bytes(self) -> int:
        """Networks and one batch."""
        return self.network_bytes + self.batch_size * self.sample_bytes

    def __str__(self) -> str:
        """In one line."""
        return f"takes about {size(self.memory_bytes)} of memory and up to {size(self.disk_bytes)} of disk"


def need_of(runner: "Runner", config: Any, steps: int) -> Need:
    """What a run of `steps` networks a seed takes, from its network and one sample."""
    weights = sum(tensor.nbytes for tensor in runner.example.state_dict().values())
    rows = len(runner.data.train)
    networks = config.seeds if runner.stacked else 1
    return Need(
        network_bytes=COPIES * weights * networks,
        sample_bytes=_activation_bytes(runner.example, runner) * networks,
        batch_size=min(config.batch_size, rows),
        least_disk_bytes=weights * config.seeds,
        disk_bytes=weights * config.seeds * steps,
    )


def _activation_bytes(network: "nn.Module", runner: "Runner") -> int:
    """Bytes of the outputs of all layers for one sample."""
    import torch

    from capacity.inputs import tensors_in
    from compression.forms import dtype_of, placed

    total = 0

    def add(layer: "nn.Module", inputs: Any, output: Any) -> None:
        nonlocal total
        total += sum(tensor.nbytes for tensor in tensors_in(output))

    if runner.frozen is not None:  # whose features are small beside what they are of
        return 0
    leaves = [layer for layer in network.modules() if not any(True for _ in layer.children())]
    hooks = [layer.register_forward_hook(add) for layer in leaves]
    training = network.training
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    try:
        sample = next(iter(runner.data.train.take(slice(0, 1)).batches(1)))[0]
        with torch.no_grad():
            network.eval()(placed(sample, device, dtype_of(network)))
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    return total


def require_fit(runner: "Runner", config: Any, steps: int, folder: Path, say: Say) -> None:
    """Say what a run takes, but of a quick pass; raises InputError where memory or disk cannot hold it.

    Processes that share a run, or train on a GPU, are left to find out about their memory.
    """
    from compression.processes import world_size

    need = need_of(runner, config, steps)
    if not config.smoke:
        say(str(need))
    if world_size() > 1 or runner.device.type != "cpu":
        need = replace(need, network_bytes=0, sample_bytes=0)
    require_room(need, folder)


def require_room(need: Need, folder: Path) -> None:
    """Raise InputError where memory or disk cannot hold a run, saying what would fit."""
    free = free_memory()
    if need.memory_bytes > free:
        fitting = (free - need.network_bytes) // max(1, need.sample_bytes)
        fits = f"--batch-size {2 ** (int(fitting).bit_length() - 1)}" if fitting >= 1 else "a smaller --model"
        raise InputError(
            f"a run in batches of {need.batch_size:,} takes at least {size(need.memory_bytes)} of memory, "
            f"and {size(free)} are free: {fits} would fit"
        )
    room = free_disk(folder) + held(folder.rglob("*.safetensors"))
    if need.least_disk_bytes > room:
        raise InputError(
            f"the trained networks alone take {size(need.least_disk_bytes)} of disk, and {folder} has room "
            f"for {size(room)}: choose an --output with more room, or fewer --seeds"
        )


def held(paths: Iterable[Path]) -> int:
    """Bytes of files that are there."""
    return sum(path.stat().st_size for path in paths if path.is_file())
