"""Steps of a long computation: kept in a directory, from which it resumes, and reported as they come."""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from compression.checkpoints import LOGGER, load_json, save_json, settle, start_over
from compression.options import REPORTED, ReportOptions
from compression.progress import Progress, reporting
from compression.storage import hold
from compression.trackers import Tracker, report


class ReportedStep(Protocol):
    """A step that was computed or read."""

    @property
    def index(self) -> int:
        """Its place, from 0."""

    @property
    def measured(self) -> Mapping[str, Any]:
        """What a tracker is told."""


S = TypeVar("S", bound=ReportedStep)


class StepOptions(ReportOptions, total=False):
    """Where steps are kept, and whom they are told."""

    directory: str | os.PathLike[str] | None
    fresh: bool


STEP_DEFAULTS: StepOptions = {"directory": None, "fresh": False, **REPORTED}


class StepDirectory:
    """The finished steps of one computation: step-000.safetensors, then step-000.json once that is whole.

    Parameters
    ----------
    what: "squeeze" or "recipe", which also names the file that says what the steps depend on
    content: what that is, as `identity.describe` has it
    total: steps of the whole computation
    fresh: start over, whatever the directory holds

    The directory is held as long as this object lives. Raises InputError for one that holds another
    computation, or in which another process is at work.
    """

    digits = 3  # of a step's number in the names of its files

    def __init__(
        self, directory: Path, what: str, content: Callable[[], Mapping[str, str]], total: int, *, fresh: bool
    ) -> None:
        self.directory, self.hold = directory, hold(directory)
        if fresh:
            names = f"step-{'?' * self.digits}"
            start_over(directory, [f"{names}.json", f"{names}.*", f"{what}.json"])
        self.note = settle(directory / f"{what}.json", content, what)
        done = sum(self.facts(index).exists() for index in range(total))
        if done:
            LOGGER.info("resumed from %s, %d of %d steps", directory, done, total)

    def weights(self, index: int) -> Path:
        """Where a step's model lies."""
        return self.directory / f"step-{index:0{self.digits}d}.safetensors"

    def facts(self, index: int) -> Path:
        """Where the rest of it lies; a step is whole once this is there."""
        return self.weights(index).with_suffix(".json")

    def save(self, index: int, write: Callable[[Path], object], facts: Mapping[str, Any]) -> None:
        """Write a step: its model by a function of the path, then its facts."""
        write(self.weights(index))
        save_json(self.facts(index), facts)

    def load(self, index: int) -> dict[str, Any] | None:
        """A step's facts; None where it is not there. Raises InputError for a damaged file."""
        return load_json(self.facts(index)) if self.facts(index).exists() else None


def reported_steps(
    steps: Iterator[S], total: int, progress: Progress, tracker: Tracker | None, *, noun: str = "steps"
) -> Iterator[S]:
    """The steps, each reported to the log, the bar and the tracker."""
    with reporting(progress, total, noun) as on_progress:
        for step in steps:
            LOGGER.info("%s", step)
            report(tracker, step.measured, step.index)
            if on_progress is not None:
                on_progress(step.index + 1, total)
            yield step
