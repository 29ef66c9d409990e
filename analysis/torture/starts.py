"""Two runs at once: in one folder, where one runs and the other says why not; and with one feature cache."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from analysis.torture.config import Config
from analysis.torture.forks import Forks
from analysis.torture.outcome import Outcome, growing
from analysis.torture.processes import call_of, left_over, table_of, timed, undisturbed

COMMAND = "capacity_curve"


def starts(config: Config, folder: Path, forks: Forks) -> Iterator[Outcome]:
    """So many pairs."""
    _, right = undisturbed(forks, call_of(COMMAND, folder / "whole"))
    tries = (timed(lambda: _twice(forks, folder / "run", right)) for _ in range(config.starts))
    yield from growing("starts", COMMAND, config.starts, tries)


def _twice(forks: Forks, folder: Path, right: str) -> str:
    """Why two starts did not end as they must, or nothing."""
    shutil.rmtree(folder, ignore_errors=True)
    both = [forks.start(call_of(COMMAND, folder)) for _ in range(2)]
    errors = [process.communicate()[1] for process in both]
    states = sorted(process.wait() for process in both)
    if states not in ([0, 0], [0, 2]):  # two that ran one after the other are right too
        return f"they end with {states}: {' '.join(errors)[-300:]}"
    for process, error in zip(both, errors, strict=True):
        refused = "another process is at work" in error and error.count("\n") == 1
        if process.returncode and not refused:
            return f"the second says {error.strip()[-300:]}"
    if left_over(folder):
        return f"{left_over(folder)[0].name} is left"
    return "" if table_of(folder) == right else "results.csv is another"


def shares(config: Config, folder: Path, forks: Forks) -> Iterator[Outcome]:
    """So many pairs of runs that compute the same features at once, each in a folder of its own."""
    _, right = undisturbed(forks, _call(folder / "alone" / "whole"))
    tries = (timed(lambda: _shared(forks, folder / "both", right)) for _ in range(config.shares))
    yield from growing("shares", COMMAND, config.shares, tries)


def _call(folder: Path) -> list[str]:
    return call_of(COMMAND, folder, "--model", "analysis.torture.networks:half_frozen", "--cache-features")


def _shared(forks: Forks, place: Path, right: str) -> str:
    """Why two runs beside each other did not end as they must, or nothing."""
    shutil.rmtree(place, ignore_errors=True)
    runs = [place / "one", place / "two"]
    both = [forks.start(_call(run)) for run in runs]
    for process, run in zip(both, runs, strict=True):
        _, error = process.communicate()
        if process.returncode:
            return f"{run.name} ends with {process.returncode}: {error.strip()[-300:]}"
        if table_of(run) != right:
            return f"results.csv of {run.name} is another"
    return f"{left_over(place)[0].name} is left" if left_over(place) else ""
