"""Runs killed at random moments: all processes end, and the resumed run holds what a whole one does.

The first kill by each signal is of a Python that is started for it, the others of runs that are forked from
one that has imported what they need, so that the moments are those of the work.
"""

import random
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from subprocess import Popen, TimeoutExpired

from analysis.torture.config import Config
from analysis.torture.forks import Forks, Run
from analysis.torture.outcome import Outcome, growing
from analysis.torture.processes import (
    MOST_SECONDS,
    call_of,
    end_of,
    family,
    resumed,
    seconds_of,
    started,
    undisturbed,
)

Started = Run | Popen[str]
SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT")
SEVERAL = ("comparison",)  # commands that take --processes


def kills(config: Config, folder: Path, forks: Forks) -> Iterator[Outcome]:
    """Each command by each signal in turn, those with workers also with two of them."""
    for command in config.commands:
        for options in ((), ("--processes", "2")) if command in SEVERAL else ((),):
            place = folder / command / str(len(options))
            call = call_of(command, place / "whole", *options)
            seconds, (_, right) = seconds_of(forks, call), undisturbed(forks, call)
            call = call_of(command, place / "run", *options)
            dice = random.Random(f"{config.seed} {command} {options}")
            tries = _tries(config, forks, call, place / "run", (seconds, right, dice))
            yield from growing("kills", " ".join([command, *options]), config.kills, tries)


def _tries(
    config: Config, forks: Forks, call: list[str], folder: Path, facts: tuple[float, str, random.Random]
) -> Iterator[tuple[float, str]]:
    """Seconds until all processes had ended, and what was wrong, of each kill.

    facts: seconds and table of a run that nobody kills, and the dice for the moments.
    """
    seconds, right, dice = facts
    for number in range(config.kills):
        name = SIGNALS[number % len(SIGNALS)]
        start = started if number < len(SIGNALS) and not config.smoke else forks.start
        run, moment = _running(start, call, folder, seconds, dice)
        took, why = _killed(run, name)
        why = why or resumed(forks, call, folder, right)
        yield took, why and f"{name} after {moment:.1f} of {seconds:.1f} s: {why}"


def _running(
    start: Callable[[list[str]], Started], call: list[str], folder: Path, seconds: float, dice: random.Random
) -> tuple[Started, float]:
    """A run that is at work, and the moment that it is at: one that ended before its moment is no try."""
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        moment = dice.uniform(0, seconds)
        run = start(call)
        try:
            run.wait(moment)
        except TimeoutExpired:
            return run, moment
        run.communicate()
        seconds = moment


def _killed(run: Started, name: str) -> tuple[float, str]:
    """Kill a run: the seconds until its last process had ended, and what was wrong."""
    processes = family(run.pid)
    with suppress(ProcessLookupError):
        run.send_signal(getattr(signal, name))
    took = end_of(processes)
    _, error = run.communicate()
    if took > MOST_SECONDS:
        return took, f"a process stays {took:.1f} s"
    return took, f"a traceback, {error.strip()[-300:]}" if "Traceback" in error else ""
