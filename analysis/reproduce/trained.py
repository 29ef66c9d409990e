"""Lines that need training: from the run of the preset that trains each at full size, else its cost.

Beside the cost stands what the same preset at reduced scale measured, which judges nothing published.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from analysis.lab.literature import DISTILLATION, PRUNING, Point, Student, report_of
from analysis.lab.measurement.verdict import MARGIN, Estimate, compare, not_run
from analysis.lab.runs.loading import Run
from analysis.reproduce.claim import Claim
from capacity.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Trained:
    """A published figure that takes training: where it lies in the summary of which preset's run.

    published: a fraction, or a word for a difference that is read as at most half a point
    where: values of columns of the summary; column: of the summary, without _mean
    """

    report: str
    item: str
    published: float | str
    command: str
    preset: str
    where: Mapping[str, Any]
    column: str = "top1_error"
    source: str = ""

    @property
    def network(self) -> str:
        """The network that a line of students names; empty for others."""
        return str(self.where.get("network", ""))

    @property
    def call(self) -> str:
        return f"python -m analysis.{self.command} --preset {self.preset}"


PRUNED, TAUGHT, ROUNDED, COMPARED = (
    "pruning_curve", "distillation_table", "quantization_table", "comparison"
)  # fmt: skip


DIFFERENCES = {  # columns of the summary with the difference of an error from that of the run's own baseline
    (PRUNED, "top1_error"): "top1_error_difference",
    (TAUGHT, "top1_error"): "error_minus_alone",
    (ROUNDED, "top1_error"): "top1_error_difference",
}
BASELINES = {PRUNED: "the whole network", TAUGHT: "the student alone", ROUNDED: "the float network"}
CONTROL = "the whole network trained as long"
SMALL_DIFFERENCE = MARGIN  # what a report calls minimal


def _errors(point: Point | Student) -> list[tuple[str, float, str]]:
    """The published errors of a network: how the line begins, the error, its column."""
    top5 = [] if point.top5_error is None else [("top-5 ", point.top5_error, "top5_error")]
    return [("", point.top1_error, "top1_error"), *top5]


def _place(point: Point | Student) -> str:
    """Where in its report a result stands."""
    _, _, place = point.source.partition(", ")
    return place if place.startswith(("Table", "Figure")) else PLACES[report_of(point.source)]


PLACES = {"B": "Tables 2 and 3", "C": "its table", "D": "its table", "E": "Table 1; Section 4.6"}
TRAINED = (
    *(
        Trained("A", f"error after {k} squeeze{'s' * (k != 1)} of 100", 1 - accuracy,
                "capacity_curve", "paper", {"criterion": "l1", "step": k},
                source="FinalScript.pdf, cells 5 and 6")
        for k, accuracy in enumerate((0.9200, 0.9349, 0.9458, 0.9450, 0.9461, 0.9493))
    ),
    Trained("B", "error of VGG16", 0.2887, ROUNDED, "report-b", {"scheme": "float"}, source="Table 2"),
    Trained("B", "top-5 error of VGG16", 0.1054, ROUNDED, "report-b", {"scheme": "float"}, "top5_error",
            "Table 2"),
    Trained("B", "error of VGG16 after quantization", 0.2889, ROUNDED, "report-b", {"scheme": "dynamic"},
            source="Table 4"),
    Trained("B", "top-5 error of VGG16 after quantization", 0.1055, ROUNDED, "report-b",
            {"scheme": "dynamic"}, "top5_error", "Table 4"),
    *(
        Trained(report_of(point.source), kind + point.item, error, PRUNED, point.preset,
                {"criterion": point.criterion, "amount": point.amount}, column, _place(point))
        for point in PRUNING if point.preset for kind, error, column in _errors(point)
    ),
    *(
        Trained(report_of(point.source), kind + point.item, error, TAUGHT, point.preset,
                {"network": point.student, "variant": point.variant}, column, _place(point))
        for point in DISTILLATION if point.preset for kind, error, column in _errors(point)
    ),
    *(
        Trained("D", f"six-layer network, {label}", "minimal reduction", COMPARED, "report-d",
                {"technique": technique}, "top1_error_difference", "its table")
        for technique, label in (("masked", "five times sparser"),
                                 ("masked-int8", "five times sparser, then quantized"))
    ),
)  # fmt: skip


def trained_lines(runs: Sequence[Run]) -> Iterator[Claim]:
    """Each line from the run of its preset where that is finished; else what it would cost."""
    for row in TRAINED:
        mine = [run for run in runs if (run.command, run.preset) == (row.command, row.preset)]
        complete = (run for run in mine if not run.config.smoke and run.config.limit is None)
        run, figures = next(
            ((run, figures) for run in complete if (figures := _in_run(run, row))), (None, None)
        )
        if run is None or figures is None:
            spent = _training_flops(row.command, row.preset)
            cost = f"about {spent:.1e} floating-point operations of training"
            small = _reduced(row, runs)
            measured, how = ("-", "") if small is None else small
            yield Claim(
                row.report, row.item, _published(row.published), measured, not_run(cost), f"{how}{cost}",
                row.call, row.source,
            )  # fmt: skip
        else:
            yield _judged(row, *figures, run)


def _reduced(row: Trained, runs: Sequence[Run]) -> tuple[str, str] | None:
    """What a run of the preset at reduced scale measured, and of which network on what; None without one.

    Differences from the run's own dense or float network stand beside it, where the run holds them.
    """
    small = [run for run in runs if (run.command, run.preset) == (row.command, f"{row.preset}-reduced")]
    for run in small:
        names = [name for name in getattr(run.config, "student", ()) if name.startswith(f"{row.network}_")]
        thinner = replace(row, where={**row.where, "network": names[0]}) if names else row
        error = None if run.config.smoke else _in_run(run, thinner)
        if error is None:
            continue
        config = run.config
        facts = (
            f"{names[0] if names else config.model}, {config.limit:,} samples of "
            f"{config.dataset.rpartition(':')[2]} at {config.image_size} pixels, {config.epochs} epochs"
        )
        gap = _in_run(run, replace(thinner, column=DIFFERENCES.get((row.command, row.column), "")))
        if gap is not None and gap[0] == gap[0] and row.where.get("criterion") != "dense":
            control = row.command == PRUNED and config.retrain_epochs
            baseline = CONTROL if control else BASELINES[row.command]
            facts += f", {points(*gap)} beside {baseline}"
        return (
            f"{100 * error[0]:.2f}{plus_minus(100 * error[1])} %",
            f"at reduced scale ({facts}); at full scale ",
        )
    return None


def untrained_lines() -> Iterator[Claim]:
    """Figures that no preset trains: another processor, or weights that cannot be had, decide them."""
    rows = (
        ("A", "accuracy with dropout(100)", "from the high 80s to the low 90s", "ImageNet weights, twice",
         "python -m analysis.capacity_curve --preset paper --neuron-dropout 0", "Section 3.1", 2),
        ("B", "time of an epoch", "half a minute on a T4", "a T4", "", "Section 4", 1),
        ("A", "near 100 % memorization", "definitely possible", "training at capacity to no error",
         "python -m analysis.capacity_curve --preset paper", "Question 6", 1),
        ("B", "time to train v6 and v7", "approximately 2 hours on Kaggle", "a P100", "", "Section 6.1.2", 1),
        ("C", "CUDA time without 20 % of the channels", "12.64 to 10.79 ms", "a GPU",
         "python -m analysis.speed", "its table", 2),
    )  # fmt: skip
    for report, item, published, cost, command, source, figures in rows:
        yield Claim(
            report, item, published, "-", not_run(cost), f"needs {cost}", command, source=source,
            figures=figures,
        )  # fmt: skip


def _judged(row: Trained, mean: float, half: float, run: Run) -> Claim:
    """The line of a run; other data than the preset's is named."""
    spread, dataset = plus_minus(100 * half), run.config.dataset
    if isinstance(row.published, str):
        measured, reference, against = points(mean, half), 0.0, "the whole network"
    else:
        measured, reference, against = f"{100 * mean:.2f}{spread} %", row.published, "published"
    judgement = compare(Estimate(mean, half), Estimate(reference, 0.0), margin=SMALL_DIFFERENCE)
    gap = judgement.difference.mean
    remarks = [f"{100 * gap:+.2f} points beside {against}"]
    if dataset != preset_of(row.command, row.preset).dataset:
        remarks.append(f"on {dataset}")
    return Claim(
        row.report,
        row.item,
        _published(row.published),
        measured,
        judgement,
        "; ".join(remarks),
        run.call,
        row.source,
    )


def _published(published: float | str) -> str:
    return published if isinstance(published, str) else f"{100 * published:.2f} %"


def preset_of(command: str, preset: str) -> Any:
    """The settings of a command's preset."""
    return import_module(f"analysis.{command}").PRESETS[preset]


def _in_run(run: Run, row: Trained) -> tuple[float, float] | None:
    """Mean and half-width of a figure in a run; None where its rows do not say."""
    try:
        figures: tuple[float, float] | None = run.guarded("summary", lambda: _figure(run.summary(), row))
    except InputError:
        return None
    return figures


def _figure(summary: "pd.DataFrame", row: Trained) -> tuple[float, float] | None:
    rows = summary
    for column, value in row.where.items():
        close = (rows[column] - value).abs() < 1e-9 if isinstance(value, float) else rows[column] == value
        rows = rows[close]
    if rows.empty:
        return None
    first = rows.iloc[0]
    if f"{row.column}_mean" not in first:
        return None
    return float(first[f"{row.column}_mean"]), float(first[f"{row.column}_half_width"])


@lru_cache
def _training_flops(command: str, preset: str) -> float:
    """Operations of the preset's dense network and students: three passes a picture, epoch and seed."""
    config = preset_of(command, preset)
    pictures, size, classes = DATA[config.dataset]
    cost = partial(_pass_flops, size=size, classes=classes)
    dense = cost(config.model)
    if command == "capacity_curve":  # the frozen features are computed once
        return dense * float(pictures)
    epochs: float = 3.0 * dense * config.epochs
    if command == TAUGHT:
        lessons = sum(dense + 3 * cost(name) for name in config.student) * len(config.variants)
        epochs = 3.0 * dense * config.teacher_epochs + config.epochs * lessons
    return epochs * float(pictures * config.seeds)


@lru_cache
def _pass_flops(name: str, size: tuple[int, ...], classes: int) -> int:
    """Operations of a picture's pass through a network of the registry."""
    import torch

    from analysis.lab.models import create
    from compression.costs import flops

    with torch.device("meta"):
        return flops(create(name, input_size=size, classes=classes), size)


DATA = {
    "mnist": (54_000, (1, 28, 28), 10),
    "cifar10": (45_000, (3, 32, 32), 10),
    "cifar100": (45_000, (3, 32, 32), 100),
    "flowers102": (1_836, (3, 224, 224), 102),
}


def points(mean: float, half: float) -> str:
    """A difference of fractions in percentage points.

    >>> points(-0.0125, 0.003)
    '-1.25 ± 0.30 points'
    """
    return f"{100 * mean:+.2f}{plus_minus(100 * half)} points"


def plus_minus(half: float) -> str:
    return "" if half != half else f" ± {half:.2f}"
