"""Cells for tests of sweeps: functions of a module, as workers import them."""

import os
import signal
import time
from pathlib import Path

from torch import Tensor, nn

KILLER = """
import os, pathlib, sys, time
folder, process, signal = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
end = time.time() + 60
while len(list(folder.iterdir())) < 4 and time.time() < end:
    time.sleep(0.02)
os.kill(process, signal)
"""


def square(folder: str, name: str) -> dict[str, int]:
    import torch

    time.sleep(0.05)
    number = int(name.partition("-")[2])
    trimmed = os.environ.get("MALLOC_TRIM_THRESHOLD_")
    return {
        "square": number**2, "process": os.getpid(), "threads": torch.get_num_threads(), "trimmed": trimmed,
    }  # fmt: skip


def slow_square(folder: str, name: str) -> dict[str, int]:
    (Path(folder) / "started" / f"{name}-{os.getpid()}").touch()
    time.sleep(0.3)
    return square(folder, name)


def fails_once(folder: str, name: str) -> dict[str, int]:
    mark = Path(folder) / "failed"
    if name == "cell-3" and not mark.exists():
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        return {"square": 1 // 0}
    return square(folder, name)


def kills_itself_once(folder: str, name: str) -> dict[str, int]:
    mark = Path(folder) / "killed"
    if name == "cell-2" and not mark.exists():
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return square(folder, name)


def always_kills_itself(folder: str, name: str) -> dict[str, int]:
    if name == "cell-2":
        os.kill(os.getpid(), signal.SIGKILL)
    return square(folder, name)


class Stubborn(nn.Sequential):
    """A network that torch cannot export: what it does depends on the values it sees."""

    def forward(self, pictures: Tensor) -> Tensor:
        found = super().forward(pictures)
        return found * 2 if float(found.mean()) > 0 else found


def stubborn(input_size, classes: int) -> nn.Module:
    return Stubborn(nn.Flatten(), nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, classes))
