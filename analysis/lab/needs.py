"""What a run takes of memory and disk, said before it starts and refused where it cannot fit."""

import time
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.lab.consoles import Say
from analysis.lab.resources import free_disk, free_memory, size
from capacity.errors import InputError
from compression.progress import silent

if TYPE_CHECKING:
    from torch import nn

    from analysis.lab.runner import Runner

COPIES = 3  # of the weights in training: themselves, their gradients, the momentum
NUMBER = 4  # bytes of a number
CELL_BYTES = 20_000  # of the rows that a cell keeps, and its share of tables and figures
PROBED = 4  # batches that are trained on to tell how long all take


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
    smaller: what would fit where memory does not; empty: fewer samples in a batch, or another network
    """

    network_bytes: int
    sample_bytes: int
    batch_size: int
    least_disk_bytes: int
    disk_bytes: int
    smaller: str = ""

    @property
    def memory_bytes(self) -> int:
        """Networks and one batch."""
        return self.network_bytes + self.batch_size * self.sample_bytes

    def __str__(self) -> str:
        """In one line."""
        memory, disk = size(self.memory_bytes), size(self.disk_bytes)
        return f"takes about {memory} of memory beside data and libraries, and up to {disk} of disk"


def need_of_cells(networks: int, sizes: tuple[int, int], batch_size: int, cells: int, smaller: str) -> Need:
    """What a run takes whose cells are kept as rows only.

    Parameters
    ----------
    networks: trained at once
    sizes: parameters of the largest network, and numbers that its layers take and put out for one sample
    batch_size: samples in a batch
    cells: steps, of each of which a file of rows is kept
    smaller: the option that makes it smaller
    """
    parameters, outputs = sizes
    return Need(
        network_bytes=COPIES * NUMBER * parameters * networks,
        sample_bytes=NUMBER * outputs * networks,
        batch_size=batch_size,
        least_disk_bytes=0,
        disk_bytes=CELL_BYTES * cells,
        smaller=smaller,
    )


def dense_sizes(inputs: int, depth: int, width: int, classes: int) -> tuple[int, int]:
    """Parameters of a dense network, and numbers that it takes and puts out for one sample.

    >>> dense_sizes(64, 1, 16, 10)  # 64 x 16 + 16 and 16 x 10 + 10; the hidden layer and its ReLU
    (1210, 106)
    """
    sizes = [inputs, *[width] * depth, classes]
    parameters = sum(before * after + after for before, after in pairwise(sizes))
    return parameters, inputs + 2 * depth * width + classes


def need_of(runner: "Runner", config: Any, steps: int) -> Need:
    """What a run of `steps` networks a seed takes, from its network and one sample."""
    from compression.counting import stored_tensors

    weights = sum(tensor.nbytes for tensor in stored_tensors(runner.example).values())
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


def training_seconds(runner: "Runner", config: Any, epochs: float) -> float:
    """Seconds that so many epochs of this network take on this machine, as a few batches did just now."""
    rows: int = min(len(runner.data.train), PROBED * config.batch_size)
    few = runner.on(runner.data.train.take(slice(0, rows)))
    took: list[float] = []
    for _ in range(2):  # of which the first one warms up
        network = deepcopy(runner.example).to(runner.device)
        began = time.perf_counter()
        few.fit(network, replace(runner.training(config.seed, 1), warmup_epochs=0.5), silent)
        took.append(time.perf_counter() - began)
    return min(took) * epochs * (len(runner.data.train) / rows)


def duration(seconds: float) -> str:
    """A time in the unit that suits it.

    >>> duration(12), duration(100), duration(5_000), duration(400_000)
    ('under a minute', '2 minutes', '83 minutes', '4.6 days')
    """
    if seconds < 55:
        return "under a minute"
    for unit, of in (("days", 86_400), ("hours", 3_600)):
        if seconds >= 1.5 * of:
            return f"{seconds / of:.1f} {unit}"
    minutes = round(seconds / 60)
    return "a minute" if minutes == 1 else f"{minutes} minutes"


def require_fit(runner: "Runner", config: Any, steps: int, folder: Path, epochs: float, say: Say) -> None:
    """Say what a run takes, but of a quick pass; raises InputError where memory or disk cannot hold it.

    epochs: of training in the whole run, one seed after another.

    Processes that share a run, or train on a GPU, are left to find out about their memory.
    """
    from compression.processes import world_size

    need = need_of(runner, config, steps)
    if not config.smoke:
        say(str(need))
    if world_size() > 1 or runner.device.type != "cpu":
        need = replace(need, network_bytes=0, sample_bytes=0)
    require_room(need, folder)
    if not config.smoke and runner.frozen is None:
        seconds = training_seconds(runner, config, epochs)
        say(f"trains {epochs:,.0f} epochs, at this machine's pace in {duration(seconds)}")


def require_room(need: Need, folder: Path) -> None:
    """Raise InputError where memory or disk cannot hold a run, saying what would fit."""
    free = free_memory()
    if need.memory_bytes > free:
        fitting = (free - need.network_bytes) // max(1, need.sample_bytes)
        fits = f"--batch-size {2 ** (int(fitting).bit_length() - 1)}" if fitting >= 1 else "a smaller --model"
        fits = need.smaller or fits
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
