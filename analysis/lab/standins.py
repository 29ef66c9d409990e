"""Lines that need training: the preset that trains each at full size, and the run that stands in for it.

A line is read from a finished run of its preset where there is one. Without it the line says what training
would cost, in floating-point operations, and what the stand-in - the same experiment on the bundled digits -
found.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.lab.claims import Line, Verdict
from analysis.lab.finished import Finished, finished, runs_below
from analysis.lab.published import DISTILLATION, PRUNING, report_of

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

    @property
    def call(self) -> str:
        return f"python -m analysis.{self.command} --preset {self.preset}"


PRUNED, TAUGHT, ROUNDED, COMPARED = (
    "pruning_curve", "distillation_table", "quantization_table", "comparison"
)  # fmt: skip
SMALL_DIFFERENCE = 0.005  # what a report calls minimal
TRAINED = (
    *(
        Trained("A", f"error after {k} squeezes of 100", 1 - accuracy, "capacity_curve", "paper",
                {"criterion": "l1", "step": k})
        for k, accuracy in enumerate((0.9200, 0.9349, 0.9458, 0.9450, 0.9461, 0.9493))
    ),
    Trained("B", "error of VGG16", 0.2887, ROUNDED, "report-b", {"scheme": "float"}),
    Trained("B", "top-5 error of VGG16", 0.1054, ROUNDED, "report-b", {"scheme": "float"}, "top5_error"),
    *(
        Trained(report_of(point.source), point.item, point.top1_error, PRUNED, point.preset,
                {"criterion": point.criterion, "amount": point.amount})
        for point in PRUNING if point.preset
    ),
    *(
        Trained(report_of(point.source), point.item, point.top1_error, TAUGHT, point.preset,
                {"network": point.student, "variant": point.variant})
        for point in DISTILLATION if point.preset
    ),
    *(
        Trained("D", f"six-layer network, {label}", "minimal reduction", COMPARED, "report-d",
                {"technique": technique}, "top1_error_difference")
        for technique, label in (("masked", "five times sparser"),
                                 ("masked-int8", "five times sparser, then quantized"))
    ),
    Trained("E", "error of static int8", 0.1156, ROUNDED, "report-e", {"scheme": "static"}),
)  # fmt: skip


def trained_lines(runs: Sequence[Finished]) -> Iterator[Line]:
    """Each line from the run of its preset where that is finished; else what it would cost."""
    for row in TRAINED:
        mine = [run for run in runs if (run.command, run.preset) == (row.command, row.preset)]
        run = next((run for run in mine if not run.config.smoke and run.config.limit is None), None)
        found = None if run is None else _found(run.summary(), row)
        if run is None or found is None:
            cost = _training_flops(row.command, row.preset)
            yield Line(
                row.report, row.item, _told(row.published), "not run", "needs its preset",
                f"about {cost:.1e} floating-point operations of training", row.call,
            )  # fmt: skip
        else:
            yield _judged(row, *found, run)


def _judged(row: Trained, mean: float, half: float, run: Finished) -> Line:
    """The line of a run; other data than the preset's is named."""
    spread, dataset = _spread(100 * half), run.config.dataset
    if isinstance(row.published, str):
        measured, within = f"{100 * mean:+.2f}{spread} points", mean <= SMALL_DIFFERENCE
        gap, against = mean, "the whole network"
    else:
        gap, against = mean - row.published, "published"
        measured, within = f"{100 * mean:.2f}{spread} %", abs(gap) <= half
    remarks = [f"{100 * abs(gap):.2f} points {'better' if gap < 0 else 'worse'} than {against}"] * (
        not within
    )
    if dataset != preset_of(row.command, row.preset).dataset:
        remarks.append(f"on {dataset}")
    verdict: Verdict = "within interval" if within else "not reproduced"
    return Line(row.report, row.item, _told(row.published), measured, verdict, "; ".join(remarks), run.call)


def _told(published: float | str) -> str:
    return published if isinstance(published, str) else f"{100 * published:.2f} %"


def preset_of(command: str, preset: str) -> Any:
    """The settings of a command's preset."""
    return import_module(f"analysis.{command}").PRESETS[preset]


def _found(summary: "pd.DataFrame", row: Trained) -> tuple[float, float] | None:
    rows = summary
    for column, value in row.where.items():
        close = (rows[column] - value).abs() < 1e-9 if isinstance(value, float) else rows[column] == value
        rows = rows[close]
    if rows.empty:
        return None
    first = rows.iloc[0]
    return float(first[f"{row.column}_mean"]), float(first[f"{row.column}_half_width"])


@lru_cache
def _training_flops(command: str, preset: str) -> float:
    """Operations of the preset's dense network and students: three passes a picture, epoch and seed."""
    import torch

    from analysis.lab.models import create
    from compression.costs import flops

    config = preset_of(command, preset)
    pictures, size, classes = DATA[config.dataset]

    def cost(name: str) -> int:
        with torch.device("meta"):
            return flops(create(name, input_size=size, classes=classes), size)

    whole = cost(config.model)
    if command == "capacity_curve":  # the frozen features are computed once
        return whole * float(pictures)
    epochs: float = 3.0 * whole * config.epochs
    if command == TAUGHT:
        lessons = sum(whole + 3 * cost(name) for name in config.student) * len(config.variants)
        epochs = 3.0 * whole * config.teacher_epochs + config.epochs * lessons
    return epochs * float(pictures * config.seeds)


DATA = {
    "mnist": (54_000, (1, 28, 28), 10),
    "cifar10": (45_000, (3, 32, 32), 10),
    "cifar100": (45_000, (3, 32, 32), 100),
    "flowers102": (1_836, (3, 224, 224), 102),
}
STANDINS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("capacity_curve", {}),
    ("pruning_curve", {}),
    ("distillation_table", {}),
    ("quantization_table", {"compile": False, "seeds": 3}),
    ("comparison", {}),
    ("data_requirement", {}),
)


def stand_in(command: str, changes: Mapping[str, Any], folder: Path, *, smoke: bool) -> Finished:
    """Run a command's default experiment on the digits, or read it where it is finished."""
    module = import_module(f"analysis.{command}")
    path = folder / command
    config = replace(module.Config(), **changes, smoke=smoke, output=str(path))
    with redirect_stdout(StringIO()):
        module.start(config)
    return finished(path)


def lessons(runs: Mapping[str, Finished]) -> Iterator[Line]:
    """What the stand-ins say about lines that need training."""
    for function in LESSONS:
        yield from function(runs)


def _squeezes(runs: Mapping[str, Finished]) -> Iterator[Line]:
    means = runs["capacity_curve"].summary()
    rows = means[means["criterion"] == "l1"]
    last: Any = rows[rows["step"] == rows["step"].max()].iloc[0]
    gap, half = 100 * last["top1_error_difference_mean"], 100 * last["top1_error_difference_half_width"]
    yield Line(
        "A", "accuracy rises as the network is squeezed", "92.00 % to 94.93 %",
        f"beside a control trained as long: {gap:+.2f}{_spread(half)} points of error", "wrong",
        "it is the further training that helps, which the report did not control for; stand-in on the digits",
        runs["capacity_curve"].call,
    )  # fmt: skip


def _masks(runs: Mapping[str, Finished]) -> Iterator[Line]:
    means = runs["comparison"].summary().set_index("technique")
    masked: Any = means.loc["masked"]
    dense: Any = means.loc["baseline"]
    same = masked["file_bytes_mean"] == dense["file_bytes_mean"]
    yield Line(
        "C", "unstructured pruning leaves size and time unchanged", "unchanged",
        f"file {'unchanged' if same else 'changed'}, time {1 / masked['speedup_32_mean']:.2f} of the whole's",
        "exact" if same else "not reproduced", "a mask only; stand-in on the digits", runs["comparison"].call,
    )  # fmt: skip
    yield Line(
        "E", "latency after 60 % pruning", "2.05 of 2.27 ms",
        f"{masked['flops_mean'] / dense['flops_mean']:.0%} of the operations, "
        f"{1 / masked['speedup_32_mean']:.2f} of the time", "not reproduced",
        "dense kernels multiply the zeros too; stand-in on the digits", runs["comparison"].call,
    )  # fmt: skip
    static: Any = means.loc["static-int8"]
    gap, half = 100 * static["top1_error_difference_mean"], 100 * static["top1_error_difference_half_width"]
    yield Line(
        "C", "static quantization", "abandoned: bad accuracy",
        f"{gap:+.2f}{_spread(half)} points of error beside float", "not reproduced",
        "it works once observers have seen data; stand-in on the digits", runs["comparison"].call,
    )  # fmt: skip


def _observers(runs: Mapping[str, Finished]) -> Iterator[Line]:
    difference = runs["quantization_table"].summary().set_index("scheme")["top1_error_difference_mean"]
    lost, kept = (100 * float(difference[name]) for name in ("uncalibrated", "static"))
    yield Line(
        "E", "accuracy of static int8", "88.44 %, from 94.24 %",
        f"uncalibrated {lost:+.2f} points of error, calibrated {kept:+.2f}", "wrong",
        "its observers had never seen an activation; stand-in on the digits", runs["quantization_table"].call,
    )  # fmt: skip


def _students(runs: Mapping[str, Finished]) -> Iterator[Line]:
    means = runs["distillation_table"].summary()
    means = means[means["variant"] != "teacher"].set_index("variant")
    names = {"class-mean": "mean over classes", "dropout-on": "dropout on in tests", "cold": "T = 1",
             "report-b": "all three"}  # fmt: skip
    for variant, label in names.items():
        if variant in means.index:
            row: Any = means.loc[variant]
            gap, half = 100 * row["error_minus_distilled_mean"], 100 * row["error_minus_distilled_half_width"]
            yield Line(
                "B", f"disappointing students: {label}", "-", f"{gap:+.2f}{_spread(half)} points of error",
                "wrong", "beside the same students soundly distilled; stand-in on the digits",
                runs["distillation_table"].call,
            )  # fmt: skip


def _spread(half: float) -> str:
    return "" if half != half else f" ± {half:.2f}"


LESSONS: tuple[Callable[[Mapping[str, Finished]], Iterator[Line]], ...] = (
    _squeezes, _masks, _observers, _students,
)  # fmt: skip


def recorded(folders: Sequence[str | Path]) -> list[Finished]:
    """Finished runs in any of these folders."""
    return [run for folder in folders for run in runs_below(folder)]
