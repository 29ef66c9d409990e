"""Commands in processes of their own, and what must be true of what they leave."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from analysis.torture.forks import Forks, with_package

SECONDS = ("seconds", "milliseconds", "_ms", "_s", "latency", "time", "throughput", "speed")
MOST_SECONDS = 5.0


def call_of(command: str, folder: Path, *options: str) -> list[str]:
    """A quick pass of a command into a folder."""
    return [sys.executable, "-m", f"analysis.{command}", "--smoke", *options, "--output", str(folder)]


def started(call: Sequence[str]) -> "subprocess.Popen[str]":
    """A Python of its own, of a session of its own, whose output can be read."""
    return subprocess.Popen(
        call,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=with_package(),
    )


def family(number: int) -> list[psutil.Process]:
    """A process, all that it started, and what else is of its session."""
    members = {}
    with suppress(psutil.Error):
        process = psutil.Process(number)
        members = {each.pid: each for each in (process, *process.children(recursive=True))}
    for other in psutil.pids():
        with suppress(OSError, psutil.Error):
            if os.getsid(other) == number:
                members.setdefault(other, psutil.Process(other))
    return list(members.values())


def end_of(processes: Sequence[psutil.Process]) -> float:
    """Seconds until all have ended; those that stay are killed after twice the time that they have."""
    began = time.monotonic()
    _, alive = psutil.wait_procs(processes, timeout=2 * MOST_SECONDS)
    for process in alive:
        process.kill()
    return time.monotonic() - began


def left_over(folder: Path) -> list[Path]:
    """Temporary files of ours."""
    from compression.storage import PART

    return [path for path in folder.rglob("*") if PART.fullmatch(path.name)]


def table_of(folder: Path) -> str:
    """results.csv without its times."""
    import pandas as pd

    frame = pd.read_csv(folder / "results.csv")
    timed = [name for name in map(str, frame.columns) if any(word in name for word in SECONDS)]
    text: str = frame.drop(columns=timed).to_csv(index=False)
    return text


def timed(attempt: Callable[[], str]) -> tuple[float, str]:
    """Seconds of a try, and what it returns."""
    began = time.monotonic()
    why = attempt()
    return time.monotonic() - began, why


def resumed(forks: Forks, call: Sequence[str], folder: Path, right: str) -> str:
    """Run a command to its end; why it does not hold what an undisturbed one does, or nothing."""
    run = forks.start(call)
    _, error = run.communicate()
    if run.returncode:
        return f"the resumed run ends with {run.returncode}: {error.strip()[-300:]}"
    if left_over(folder):
        return f"{left_over(folder)[0].name} is left"
    return "" if table_of(folder) == right else "results.csv is another"


def undisturbed(forks: Forks, call: Sequence[str]) -> tuple[Path, str]:
    """Folder and table of a run that nobody disturbs: done once for each call, whatever its folder."""
    *same, folder = call
    with forks.first:
        if tuple(same) not in forks.undisturbed:
            run = forks.start(call)
            _, error = run.communicate()
            if run.returncode:
                raise RuntimeError(error)
            forks.learn(run)
            forks.undisturbed[tuple(same)] = Path(folder), table_of(Path(folder))
    return forks.undisturbed[tuple(same)]


def seconds_of(forks: Forks, call: Sequence[str]) -> float:
    """Seconds of a whole run once what it imports is; raises RuntimeError where it writes something else."""
    *same, folder = call
    _, right = undisturbed(forks, [*same, f"{folder}-first"])
    began = time.monotonic()
    if why := resumed(forks, call, Path(folder), right):
        raise RuntimeError(f"{' '.join(call)}, run twice: {why}")
    return time.monotonic() - began
