"""Runs killed at random moments: all processes end, and the resumed run holds what a whole one does."""

import random
import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from subprocess import TimeoutExpired

from analysis.torture.config import Config
from analysis.torture.outcome import Outcome
from analysis.torture.processes import (
    MOST_SECONDS,
    call_of,
    end_of,
    family,
    resumed,
    started,
    undisturbed,
)

SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT")
SEVERAL = ("comparison",)  # commands that take --processes


def kills(config: Config, folder: Path) -> Iterator[Outcome]:
    """Each command by each signal, those with workers also with two of them."""
    for command in config.commands:
        for options in ((), ("--processes", "2")) if command in SEVERAL else ((),):
            place = folder / command / str(len(options))
            right, seconds = undisturbed(call_of(command, place / "whole", *options), place / "whole")
            for name in SIGNALS:
                dice = random.Random(f"{config.seed} {command} {name} {options}")
                tries = [
                    _killed(call_of(command, place / "run", *options), place / "run", name,
                            dice.uniform(0, seconds), right)
                    for _ in range(config.kills)
                ]  # fmt: skip
                what = " ".join([command, *options, name])
                why = tuple(reason for _, reason in tries if reason)
                yield Outcome("kills", what, config.kills, max(took for took, _ in tries), why)


def _killed(call: list[str], folder: Path, name: str, moment: float, right: str) -> tuple[float, str]:
    """Kill a run after so many seconds and resume it: the seconds it took to end, and what was wrong."""
    shutil.rmtree(folder, ignore_errors=True)
    process = started(call)
    with suppress(TimeoutExpired):
        process.wait(moment)
    processes = family(process.pid)
    with suppress(ProcessLookupError):
        process.send_signal(getattr(signal, name))
    took = end_of(processes)
    _, error = process.communicate()
    if took > MOST_SECONDS:
        return took, f"a process stays {took:.1f} s after {moment:.1f} s"
    if "Traceback" in error:
        return took, f"a traceback after {moment:.1f} s: {error.strip()[-300:]}"
    return took, resumed(call, folder, right)
