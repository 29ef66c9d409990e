"""recipe(): several techniques in a row, each measured before and after, resumable.

A technique is a name and a function from a model to a model, or to any result of this package that holds
one; `compression.techniques` has ready-made ones, and any function will do.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Unpack

from torch import fx, nn

from capacity import checks
from capacity.cloning import clone, plain_copy
from capacity.columns import counted
from capacity.errors import InputError
from capacity.inputs import require_weights
from capacity.measuring import measure
from capacity.registry import column
from capacity.tables import Table, Tabular
from compression.checkpoints import load_model, metrics_of, save_model
from compression.codec import encode
from compression.costs import latencies, peak_memory_bytes
from compression.counting import nonzero_count, parameter_count
from compression.evaluation import Evaluation
from compression.identity import describe
from compression.options import with_options
from compression.steps import STEP_DEFAULTS, StepDirectory, StepOptions, reported_steps
from compression.trackers import require_tracker
from compression.training import model_of


@dataclass(frozen=True)
class Technique:
    """One step of a recipe.

    apply: model -> model, or a result whose `.model` it is
    save, load: (result, path) -> None and (model before, path) -> model, for techniques that change the
        architecture; by default the weights are kept as safetensors and read into a copy of the model before
    """

    name: str
    apply: Callable[[nn.Module], Any]
    save: Callable[[Any, Path], Any] | None = None
    load: Callable[[nn.Module, Path], nn.Module] | None = None


@dataclass(frozen=True)
class RecipeStep:
    """The model after a technique and all that was measured of it; step 0 is the model as given.

    `metrics` hold what `evaluate` returned and: parameters (all, and those not zero), live_parameters and
    capacity_bits of effective capacity and points_per_bit (None for quantized graphs, whose layers are
    operations), file_bytes as `encode` writes them, latency_ms of one sample beside first_latency_ms, the
    first model's in turns with it, and peak_memory_bytes.
    """

    index: int
    technique: str
    model: nn.Module
    metrics: Mapping[str, Any]
    resumed: bool

    @property
    def measured(self) -> Mapping[str, Any]:
        """The metrics."""
        return self.metrics

    def __str__(self) -> str:
        return f"step {self.index}: {self.technique}"


SHOWN = (
    "technique", "top1_error", "capacity_bits", "points_per_bit", "parameters", "nonzero_parameters",
    "live_parameters", "file_bytes", "latency_ms", "peak_memory_bytes", "top5_error", "kappa",
    "balanced_accuracy", "macro_f1", "mean_iou", "cross_entropy_nats",
)  # fmt: skip
UNKNOWN = ("capacity_bits", "points_per_bit", "live_parameters")  # of a graph, whose layers are operations
ONLY_STORED = ("correct", "total", "classes", "not_finite", "first_latency_ms")
OWN = 85  # importance of a metric of one's own: after the error alone


@dataclass(frozen=True)
class RecipeResult(Tabular):
    """All steps of a recipe."""

    steps: tuple[RecipeStep, ...]

    @property
    def model(self) -> nn.Module:
        """The last step's model."""
        return self.steps[-1].model

    def table(self) -> Table:
        """A row per step: what is measured of each model, and one's own metrics by their names."""
        first, last = self.steps[0].metrics, self.steps[-1].metrics
        count = counted(len(self.steps) - 1, "technique")
        title = f"{count}: {first['file_bytes']:,.0f} -> {last['file_bytes']:,.0f} bytes"
        rows = [{"step": s.index, "technique": s.technique, **s.metrics} for s in self.steps]
        known, *others = (replace(column(name), missing="-" * (name in UNKNOWN)) for name in SHOWN)
        columns = [known, *(replace(column(name), importance=OWN) for name in self._own()), *others]
        return Table(columns, rows, title, label="tab:recipe")

    def _own(self) -> list[str]:
        """Numbers that only `evaluate` knows of."""
        named = {name: value for step in self.steps for name, value in step.metrics.items()}
        numbers = {name for name, value in named.items() if isinstance(value, int | float)}
        return [name for name in named if name in numbers - {*SHOWN, *ONLY_STORED}]


@checks.arguments(
    techniques=checks.each(checks.instance(Technique)),
    evaluate=checks.function(1),
    repeats=checks.count,
    directory=checks.optional(checks.path),
    fresh=checks.flag,
)
@with_options(STEP_DEFAULTS)
def recipe(
    model: nn.Module,
    techniques: Sequence[Technique],
    *,
    input_size: Any,
    evaluate: Callable[[nn.Module], Any],
    repeats: int = 20,
    **options: Unpack[StepOptions],
) -> RecipeResult:
    """Apply techniques one after another and measure the model before the first and after each.

    Parameters
    ----------
    input_size: as for `capacity.measure`
    evaluate: model -> a mapping or dataclass of numbers; what `compression.evaluation.evaluate` returns
        gives points_per_bit too
    directory: where each whole step is kept; run again with the same model, techniques and functions
        (by their content, see `compression.identity`, but not by files that they read), finished steps are
        read from it. None keeps nothing but a temporary file
    repeats: timed passes; the median counts
    fresh: start over, whatever the directory holds
    progress: called with (steps done, steps) after each step; True shows a bar
    tracker: called with (metrics, index) after each step, as for `fit`

    Raises InputError for techniques of one name, for a directory that holds another recipe or in which
    another process is at work, and where a technique does.
    """
    require_weights(model)
    names = [technique.name for technique in techniques]
    if len(set(names)) < len(names):
        raise InputError(f"techniques must have different names, found {names}")
    require_tracker(options["tracker"])
    store, directory = None, options["directory"]
    if directory is not None:
        content = partial(
            describe, model=model, input_size=input_size, evaluate=evaluate, repeats=repeats,
            techniques={technique.name: technique for technique in techniques},
            techniques_in_order=", ".join(names),
        )  # fmt: skip
        store = _Store(Path(directory), "recipe", content, len(names) + 1, fresh=options["fresh"])
    measured = _Measured(model, input_size, evaluate, repeats, store.directory if store else None)
    steps = _steps([Technique("as given", clone), *techniques], measured, store)
    reported = reported_steps(
        steps, len(names) + 1, options["progress"], options["tracker"], noun="techniques"
    )
    return RecipeResult(tuple(reported))


def _steps(
    techniques: Sequence[Technique], measured: "_Measured", store: "_Store | None"
) -> Iterator[RecipeStep]:
    current = measured.first
    for index, technique in enumerate(techniques):
        step = None if store is None else store.read(index, technique, current)
        if step is None:
            result = technique.apply(current)
            model = model_of(result)
            step = RecipeStep(index, technique.name, model, measured(model), False)
            if store is not None:
                store.write(step, technique, result)
                store.note()
        current = step.model
        yield step


class _Store(StepDirectory):
    """The finished steps of one recipe."""

    digits = 2

    def read(self, index: int, technique: Technique, before: nn.Module) -> RecipeStep | None:
        facts = self.load(index)
        if facts is None:
            return None
        load = technique.load or (lambda model, path: load_model(clone(model), path, sealed=True))
        model = load(before, self.weights(index))
        model.eval()  # whose own return value an exported graph leaves out
        return RecipeStep(index, technique.name, model, facts, True)

    def write(self, step: RecipeStep, technique: Technique, result: Any) -> None:
        write = partial(save_model, step.model) if technique.save is None else partial(technique.save, result)
        self.save(step.index, write, step.metrics)


@dataclass(frozen=True)
class _Measured:
    """All that is measured of a model of the recipe."""

    first: nn.Module
    input_size: Any
    evaluate: Callable[[nn.Module], Any]
    repeats: int
    directory: Path | None

    def __call__(self, model: nn.Module) -> dict[str, Any]:
        result = self.evaluate(model)
        metrics = metrics_of(result)
        plain = plain_copy(model)
        metrics |= {"parameters": parameter_count(plain), "nonzero_parameters": nonzero_count(plain)}
        metrics |= {"capacity_bits": None, "live_parameters": None, "points_per_bit": None}
        if not isinstance(model, fx.GraphModule):
            report = measure(plain, self.input_size, effective=True)
            metrics |= {"capacity_bits": report.capacity_bits, "live_parameters": report.parameters}
            if isinstance(result, Evaluation) and report.capacity_bits:
                metrics["points_per_bit"] = result.correct / report.capacity_bits
        times = latencies([model, self.first], self.input_size, repeats=self.repeats)
        metrics |= {"latency_ms": times[0].median_ms, "first_latency_ms": times[1].median_ms}
        metrics["peak_memory_bytes"] = peak_memory_bytes(model, self.input_size)
        metrics["file_bytes"] = _file_bytes(model, self.directory)
        return metrics


def _file_bytes(model: nn.Module, directory: Path | None) -> int:
    import tempfile

    with tempfile.TemporaryDirectory(prefix=".coded.", suffix=".part", dir=directory) as folder:
        return encode(model, Path(folder) / "net.dcz")
