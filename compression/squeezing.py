"""squeeze(): compress, retrain, measure, and again: a generator of steps that resumes where it stopped."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypedDict, Unpack

from torch import nn

from capacity.cloning import clone
from capacity.columns import number
from capacity.errors import InputError
from compression.checkpoints import (
    LOGGER,
    load_json,
    load_model,
    metrics_of,
    save_json,
    save_model,
    settle,
    start_over,
)
from compression.criteria import Criterion
from compression.identity import describe
from compression.masks import density, masks_of
from compression.progress import Progress, told
from compression.pruning import Amount, Scope, Unit, prune, shown
from compression.storage import hold
from compression.trackers import Tracker, report, require_tracker
from compression.training import Retrain, model_of

Evaluate = Callable[[nn.Module], Any]
Metrics = Mapping[str, Any]


class PruneOptions(TypedDict, total=False):
    """What `prune` takes besides the criterion and the amount."""

    unit: Unit
    scope: Scope
    layers: Sequence[str] | None
    input_size: Any
    keep: int


DEFAULTS = {"unit": "weight", "scope": "layer", "layers": None, "input_size": None, "keep": 1}


@dataclass(frozen=True)
class Step:
    """One step. Step 0 is the model as given; step i has been squeezed i times.

    `requested` and `achieved` as in PruneResult (0 at step 0 and in a control); `metrics` is what
    `evaluate` returned; `resumed` says that it was read from the directory.
    """

    index: int
    model: nn.Module
    requested: Amount
    achieved: Amount
    density: float
    metrics: Metrics
    resumed: bool

    def __str__(self) -> str:
        measured = [
            f"{key} {number(value)}" for key, value in self.metrics.items() if isinstance(value, int | float)
        ]
        amounts = f"achieved {shown(self.achieved)}, density {self.density:.4f}"
        return f"step {self.index}: {', '.join([amounts, *measured])}"


Stop = Callable[[Step, Step, Sequence[Metrics]], bool]


def squeeze(
    model: nn.Module,
    criterion: Criterion | None,
    *,
    amount: Amount,
    iterations: int,
    retrain: Retrain,
    evaluate: Evaluate,
    directory: str | os.PathLike[str] | None = None,
    fresh: bool = False,
    identity: Any = None,
    stop: Stop | None = None,
    progress: Progress = None,
    tracker: Tracker | None = None,
    **pruning: Unpack[PruneOptions],
) -> Iterator[Step]:
    """Prune by `amount`, retrain, evaluate; `iterations` times, after a step 0 for the model as given.

    Parameters
    ----------
    criterion: as for `prune`; None prunes nothing: the control that is only trained as long
    retrain: model -> trained model (or what `fit` returns); must give the same for the same model
    evaluate: model -> a mapping or dataclass of numbers
    directory: where each whole step is kept; run again with the same arguments, finished steps are read
        from it and the rest computed. The same is what has the same content: settings, data, weights, and
        functions by their source and what they enclose (see `compression.identity`). None keeps nothing.
    fresh: start over, whatever the directory holds
    identity: any value that says which `retrain` and `evaluate` these are, instead of looking into them:
        for those that enclose what changes by itself, such as a progress bar or a list of results
    stop: (step 0, latest step, metrics of all steps so far) -> whether that was the last step; see
        `compression.stopping` for Knee, Peak and McNemarStop
    progress: called with (steps done, steps) after each step; True shows a bar. The logger "compression"
        tells each step anyway, at level INFO
    tracker: called with (density and the metrics, index) after each step, as for `fit`
    pruning: `unit`, `scope`, `layers`, `input_size` and `keep`, as for `prune`

    Raises InputError where `prune` does, for a directory that holds another squeeze or in which another
    process is at work, and for damaged step files, before anything is computed; and for metrics that are no
    numbers.
    """
    if iterations < 0:
        raise InputError(f"iterations must be at least 0, found {iterations}")
    require_tracker(tracker)
    store = None
    if directory is not None:
        functions = {"retrain": retrain, "evaluate": evaluate} if identity is None else {"identity": identity}
        content = partial(
            describe, model=model, criterion=criterion, amount=amount,
            **DEFAULTS | dict(pruning),
            **functions,
        )  # fmt: skip
        store = _Store(Path(directory), content, iterations, fresh)
    work = _Work(criterion, amount, retrain, evaluate, pruning)
    return _watched(_steps(model, iterations, work, store, stop), iterations + 1, progress, tracker)


@dataclass(frozen=True)
class _Work:
    """What is done in each step."""

    criterion: Criterion | None
    amount: Amount
    retrain: Retrain
    evaluate: Evaluate
    pruning: PruneOptions

    def step(self, index: int, current: nn.Module) -> Step:
        """The next step after `current`, which step 0 only evaluates."""
        requested: Amount = 0
        achieved: Amount = 0
        if index == 0:
            current = clone(current)
        else:
            if self.criterion is not None:
                result = prune(current, self.criterion, amount=self.amount, **self.pruning)
                current, requested, achieved = result.model, result.requested, result.achieved
            trained = self.retrain(current)
            current = model_of(trained)
        metrics = metrics_of(self.evaluate(current))
        return Step(index, current, requested, achieved, density(masks_of(current)), metrics, False)


def _steps(
    model: nn.Module, iterations: int, work: _Work, store: "_Store | None", stop: Stop | None
) -> Iterator[Step]:
    current = model
    first: Step | None = None
    metrics: list[Metrics] = []
    for index in range(iterations + 1):
        step = store.load(index, model) if store is not None else None
        if step is None:
            step = work.step(index, current)
            if store is not None:
                store.save(step)
                if index < 2:  # by then both functions have run
                    store.note()
        current = step.model
        first = first or step
        metrics.append(step.metrics)
        yield step
        if stop is not None and stop(first, step, metrics):
            return


def _watched(
    steps: Iterator[Step], total: int, progress: Progress, tracker: Tracker | None
) -> Iterator[Step]:
    """The steps, each told to the log, the bar and the tracker."""
    with told(progress, total, "steps") as advance:
        for step in steps:
            LOGGER.info("%s", step)
            report(tracker, {"density": step.density, **step.metrics}, step.index)
            if advance is not None:
                advance(step.index + 1, total)
            yield step


FIELDS = ("index", "requested", "achieved", "density", "metrics")  # of a step, as JSON


class _Store:
    """The finished steps of one squeeze: step-000.safetensors, then step-000.json once it is whole."""

    def __init__(
        self, directory: Path, content: Callable[[], Mapping[str, str]], iterations: int, fresh: bool
    ) -> None:
        self.directory, self.hold = directory, hold(directory)
        if fresh:
            start_over(directory, ["step-???.json", "step-???.safetensors", "squeeze.json"])
        self.note = settle(directory / "squeeze.json", content, "squeeze")
        done = sum(self._facts(index).exists() for index in range(iterations + 1))
        if done:
            LOGGER.info("resumed from %s, %d of %d steps", directory, done, iterations + 1)

    def _facts(self, index: int) -> Path:
        return self.directory / f"step-{index:03d}.json"

    def load(self, index: int, model: nn.Module) -> Step | None:
        facts_path = self._facts(index)
        if not facts_path.exists():
            return None
        facts = load_json(facts_path)
        if facts.keys() != set(FIELDS):
            raise InputError(f"{facts_path} is damaged: it holds {', '.join(facts)[:80]}; remove it")
        weights = self.directory / f"step-{index:03d}.safetensors"
        if not weights.exists():
            raise InputError(f"{weights} is missing; remove {facts_path} to run that step again")
        return Step(model=load_model(clone(model), weights, sealed=True).eval(), resumed=True, **facts)

    def save(self, step: Step) -> None:
        name = f"step-{step.index:03d}"
        save_model(step.model, self.directory / f"{name}.safetensors")
        save_json(self.directory / f"{name}.json", {key: getattr(step, key) for key in FIELDS})
