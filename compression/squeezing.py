"""squeeze(): compress, retrain, measure, and again: a generator of steps that resumes where it stopped."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Unpack, cast

from torch import nn

from capacity import checks
from capacity.cloning import clone
from capacity.columns import number
from capacity.errors import InputError
from compression.checkpoints import load_model, metrics_of, save_model
from compression.criteria import Criterion, require_criterion
from compression.identity import describe
from compression.masks import density, masks_of
from compression.options import with_options
from compression.pruning import DEFAULTS, Amount, PruneOptions, prune, shown
from compression.steps import STEP_DEFAULTS, StepDirectory, StepOptions, reported_steps
from compression.trackers import require_tracker
from compression.training import Retrain, model_of

Evaluate = Callable[[nn.Module], Any]
Metrics = Mapping[str, Any]


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

    @property
    def measured(self) -> Metrics:
        """The density and the metrics."""
        return {"density": self.density, **self.metrics}

    def __str__(self) -> str:
        measured = [
            f"{key} {number(value)}" for key, value in self.metrics.items() if isinstance(value, int | float)
        ]
        amounts = f"achieved {shown(self.achieved)}, density {self.density:.4f}"
        return f"step {self.index}: {', '.join([amounts, *measured])}"


Stop = Callable[[Step, Step, Sequence[Metrics]], bool]


class SqueezeOptions(PruneOptions, StepOptions, total=False):
    """How `squeeze` prunes, when it stops, and where its steps are kept and told."""

    identity: Any
    stop: Stop | None


SQUEEZE_DEFAULTS: SqueezeOptions = {**DEFAULTS, **STEP_DEFAULTS, "identity": None, "stop": None}


@checks.arguments(
    iterations=checks.count,
    retrain=checks.optional(checks.function(1)),
    evaluate=checks.function(1),
    directory=checks.optional(checks.path),
    fresh=checks.flag,
    stop=checks.optional(checks.function(3)),
    criterion=checks.optional(require_criterion),
)
@with_options(SQUEEZE_DEFAULTS)
def squeeze(
    model: nn.Module,
    criterion: Criterion | None,
    *,
    amount: Amount,
    iterations: int,
    retrain: Retrain | None = None,
    evaluate: Evaluate,
    **options: Unpack[SqueezeOptions],
) -> Iterator[Step]:
    """Prune by `amount`, retrain, evaluate; `iterations` times, after a step 0 for the model as given.

    Parameters
    ----------
    criterion: as for `prune`; None prunes nothing: the control that is only trained as long
    retrain: model -> trained model (or what `fit` returns); must give the same for the same model. None
        trains nothing
    evaluate: model -> a mapping or dataclass of numbers
    directory: where each whole step is kept; run again with the same arguments, finished steps are read
        from it and the rest computed. The same is what has the same content: settings, data, weights, and
        functions by their source and what they enclose (see `compression.identity`), but not by files that
        they read: let them enclose `compression.identity.file_sha256(path)`. None keeps nothing.
    fresh: start over, whatever the directory holds
    identity: any value that says which `retrain` and `evaluate` these are, instead of looking into them:
        for those that enclose what changes by itself, such as a progress bar or a list of results
    stop: (step 0, latest step, metrics of all steps so far) -> whether that was the last step; see
        `compression.stopping` for Knee, Peak and McNemarStop
    progress: called with (steps done, steps) after each step; True shows a bar. The logger "compression"
        tells each step anyway, at level INFO
    tracker: called with (density and the metrics, index) after each step, as for `fit`
    unit, scope, layers, input_size, keep: as for `prune`

    Raises InputError where `prune` does, for a directory that holds another squeeze or in which another
    process is at work, and for damaged step files, before anything is computed; and for metrics that are no
    numbers.
    """
    if iterations < 0:
        raise InputError(f"iterations must be at least 0, found {iterations}")
    require_tracker(options["tracker"])
    store, directory, identity = None, options["directory"], options["identity"]
    pruning = cast(PruneOptions, {name: options[name] for name in DEFAULTS})  # type: ignore[literal-required]
    if directory is not None:
        functions = {"retrain": retrain, "evaluate": evaluate} if identity is None else {"identity": identity}
        content = partial(
            describe, model=model, criterion=criterion, amount=amount,
            **pruning, **functions,
        )  # fmt: skip
        store = _Store(Path(directory), "squeeze", content, iterations + 1, fresh=options["fresh"])
    work = _Work(criterion, amount, retrain, evaluate, pruning)
    steps = _steps(model, iterations, work, store, options["stop"])
    return reported_steps(steps, iterations + 1, options["progress"], options["tracker"])


@dataclass(frozen=True)
class _Work:
    """What is done in each step."""

    criterion: Criterion | None
    amount: Amount
    retrain: Retrain | None
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
            current = clone(current) if self.retrain is None else model_of(self.retrain(current))
        metrics = metrics_of(self.evaluate(current))
        return Step(index, current, requested, achieved, density(masks_of(current)), metrics, False)


def _steps(
    model: nn.Module, iterations: int, work: _Work, store: "_Store | None", stop: Stop | None
) -> Iterator[Step]:
    current = model
    first: Step | None = None
    metrics: list[Metrics] = []
    for index in range(iterations + 1):
        step = store.read(index, model) if store is not None else None
        if step is None:
            step = work.step(index, current)
            if store is not None:
                store.write(step)
                if index < 2:  # by then both functions have run
                    store.note()
        current = step.model
        first = first or step
        metrics.append(step.metrics)
        yield step
        if stop is not None and stop(first, step, metrics):
            return


FIELDS = ("index", "requested", "achieved", "density", "metrics")  # of a step, as JSON


class _Store(StepDirectory):
    """The finished steps of one squeeze."""

    def read(self, index: int, model: nn.Module) -> Step | None:
        facts = self.load(index)
        if facts is None:
            return None
        weights, facts_path = self.weights(index), self.facts(index)
        if facts.keys() != set(FIELDS):
            raise InputError(f"{facts_path} is damaged: it holds {', '.join(facts)[:80]}; remove it")
        if not weights.exists():
            raise InputError(f"{weights} is missing; remove {facts_path} to run that step again")
        return Step(model=load_model(clone(model), weights, sealed=True).eval(), resumed=True, **facts)

    def write(self, step: Step) -> None:
        self.save(step.index, partial(save_model, step.model), {key: getattr(step, key) for key in FIELDS})
