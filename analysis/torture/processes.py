"""Commands in processes of their own, and what must be true of what they leave."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from compression.storage import PART

SECONDS = ("seconds", "milliseconds", "_ms", "_s", "latency", "time", "throughput", "speed")
MOST_SECONDS = 5.0


def call_of(command: str, folder: Path, *options: str) -> list[str]:
    """A quick pass of a command into a folder."""
    return [sys.executable, "-m", f"analysis.{command}", "--smoke", *options, "--output", str(folder)]


def started(call: Sequence[str], surroundings: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
    """A process of a session of its own, whose output can be read."""
    root = str(Path(__file__).parents[2])
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    return subprocess.Popen(
        call,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": paths} | dict(surroundings or {}),
    )


def family(number: int) -> list[psutil.Process]:
    """A process and all that it started."""
    try:
        process = psutil.Process(number)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def end_of(processes: Sequence[psutil.Process]) -> float:
    """Seconds until all have ended; those that stay are killed after twice the time that they have."""
    began = time.monotonic()
    _, alive = psutil.wait_procs(processes, timeout=2 * MOST_SECONDS)
    for process in alive:
        process.kill()
    return time.monotonic() - began


def left_over(folder: Path) -> list[Path]:
    """Temporary files of ours."""
    return [path for path in folder.rglob("*") if PART.fullmatch(path.name)]


def table_of(folder: Path) -> str:
    """results.csv without its times."""
    import pandas as pd

    frame = pd.read_csv(folder / "results.csv")
    timed = [name for name in map(str, frame.columns) if any(word in name for word in SECONDS)]
    text: str = frame.drop(columns=timed).to_csv(index=False)
    return text


def resumed(call: Sequence[str], folder: Path, right: str) -> str:
    """Run a command to its end; why it does not hold what an undisturbed one does, or nothing."""
    process = started(call)
    _, error = process.communicate()
    if process.returncode:
        return f"the resumed run ends with {process.returncode}: {error.strip()[-300:]}"
    if left_over(folder):
        return f"{left_over(folder)[0].name} is left"
    return "" if table_of(folder) == right else "results.csv is another"


def undisturbed(call: Sequence[str], folder: Path) -> tuple[str, float]:
    """What a whole run writes, and the seconds that it takes."""
    began = time.monotonic()
    process = started(call)
    _, error = process.communicate()
    if process.returncode:
        raise RuntimeError(error)
    return table_of(folder), time.monotonic() - began
