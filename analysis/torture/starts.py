"""Two runs that start in one folder at once: one runs, the other says why it does not."""

import shutil
from pathlib import Path

from analysis.torture.config import Config
from analysis.torture.outcome import Outcome
from analysis.torture.processes import call_of, left_over, started, table_of, undisturbed

COMMAND = "capacity_curve"


def starts(config: Config, folder: Path) -> list[Outcome]:
    """So many pairs."""
    right, seconds = undisturbed(call_of(COMMAND, folder / "whole"), folder / "whole")
    tries = [_twice(folder / "run", right) for _ in range(config.starts)]
    return [Outcome("starts", COMMAND, config.starts, seconds, tuple(why for why in tries if why))]


def _twice(folder: Path, right: str) -> str:
    """Why two starts did not end as they must, or nothing."""
    shutil.rmtree(folder, ignore_errors=True)
    both = [started(call_of(COMMAND, folder)) for _ in range(2)]
    errors = [process.communicate()[1] for process in both]
    states = sorted(process.returncode for process in both)
    if states not in ([0, 0], [0, 2]):  # two that ran one after the other are right too
        return f"they end with {states}: {' '.join(errors)[-300:]}"
    for process, error in zip(both, errors, strict=True):
        refused = "another process is at work" in error and error.count("\n") == 1
        if process.returncode and not refused:
            return f"the second says {error.strip()[-300:]}"
    if left_over(folder):
        return f"{left_over(folder)[0].name} is left"
    return "" if table_of(folder) == right else "results.csv is another"
