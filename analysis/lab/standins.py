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

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Trained:
    """A published figure that takes training: where it lies in the summary of which preset's run.

    where: values of columns of the summary; column: of the summary, without _mean; published as a fraction
    """

    report: str
    item: str
    published: float
    command: str
    preset: str
    where: Mapping[str, Any]
    column: str = "top1_error"

    @property
    def call(self) -> str:
        return f"python -m analysis.{self.command} --preset {self.preset}"


def _row(report: str, item: str, published: float, command: str, preset: str, **where: Any) -> Trained:
    return Trained(report, item, published, command, preset, where)


PRUNED, TAUGHT, ROUNDED = "pruning_curve", "distillation_table", "quantization_table"
TRAINED = (
    *(
        _row("A", f"error after {k} squeezes of 100", 1 - accuracy, "capacity_curve", "paper",
             criterion="l1", step=k)
        for k, accuracy in enumerate((0.9200, 0.9349, 0.9458, 0.9450, 0.9461, 0.9493))
    ),
    _row("B", "error of VGG16", 0.2887, ROUNDED, "report-b", scheme="float"),
    _row("B", "error after 10 % random pruning", 0.6559, PRUNED, "report-b", criterion="random", amount=0.1),
    _row("B", "error after 10 % L1 pruning", 0.4242, PRUNED, "report-b", criterion="l1", amount=0.1),
    *(
        _row("B", f"error of student v{n}", error, TAUGHT, "report-b", network=f"student_v{n}",
             variant="report-b")
        for n, error in enumerate((0.4159, 0.3743, 0.3828, 0.5191, 0.5352, 0.3763, 0.4150), 1)
    ),
    _row("C", "error of GoogLeNet", 0.2296, PRUNED, "report-c", criterion="dense"),
    _row("C", "error without 20 % of the channels", 0.2585, PRUNED, "report-c", criterion="l2", amount=0.2),
    _row("D", "error of the teacher on MNIST", 0.0222, TAUGHT, "report-d", network="cnn_teacher"),
    _row("D", "error of the student on MNIST", 0.0250, TAUGHT, "report-d", network="cnn_student",
         variant="distilled"),
    _row("E", "error of ResNet-18", 0.0576, PRUNED, "report-e", criterion="dense"),
    _row("E", "error after 60 % pruning", 0.0974, PRUNED, "report-e", criterion="l1", amount=0.6),
    _row("E", "error of static int8", 0.1156, ROUNDED, "report-e", scheme="static"),
    _row("E", "error of the student alone", 0.33925, TAUGHT, "report-e", network="cnn5", variant="alone"),
    _row("E", "error of the student at T = 0.01", 0.323, TAUGHT, "report-e", network="cnn5",
         variant="freezing"),
)  # fmt: skip


def trained_lines(runs: Sequence[Finished]) -> Iterator[Line]:
    """Each line from the run of its preset where that is finished; else what it would cost."""
    for row in TRAINED:
        run = next(
            (r for r in runs if (r.command, r.settings.get("preset")) == (row.command, row.preset)), None
        )
        found = None if run is None else _found(run.summary(), row)
        published = f"{100 * row.published:.2f} %"
        if found is None:
            cost = _training_flops(row.command, row.preset)
            yield Line(
                row.report, row.item, published, "not run", "needs its preset",
                f"about {cost:.1e} floating-point operations of training", row.call,
            )  # fmt: skip
            continue
        mean, half = found
        spread = "" if half != half else f" ± {100 * half:.2f}"
        within = abs(mean - row.published) <= (half if half == half else 0)
        better = "better" if mean < row.published else "worse"
        verdict: Verdict = "within interval" if within else "not reproduced"
        why = "" if within else f"{100 * abs(mean - row.published):.2f} points {better} than published"
        yield Line(row.report, row.item, published, f"{100 * mean:.2f}{spread} %", verdict, why, row.call)


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

    config = import_module(f"analysis.{command}").PRESETS[preset]
    pictures, size, classes = DATA[config.dataset]

    def cost(name: str) -> int:
        with torch.device("meta"):
            return flops(create(name, input_size=size, classes=classes), size)

    whole = cost(config.model)
    if command == "capacity_curve":  # the frozen features are computed once
        return float(whole * pictures)
    epochs: float = 3.0 * whole * config.epochs
    if command == TAUGHT:
        lessons = sum(whole + 3 * cost(name) for name in config.student) * len(config.variants)
        epochs = 3.0 * whole * config.teacher_epochs + config.epochs * lessons
    return epochs * pictures * config.seeds


DATA = {
    "mnist": (54_000, (1, 28, 28), 10),
    "cifar10": (45_000, (3, 32, 32), 10),
    "cifar100": (45_000, (3, 32, 32), 100),
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
    last = rows[rows["step"] == rows["step"].max()].iloc[0]
    gap, half = 100 * last["top1_error_difference_mean"], 100 * last["top1_error_difference_half_width"]
    yield Line(
        "A", "accuracy rises as the network is squeezed", "92.00 % to 94.93 %",
        f"beside a control trained as long: {gap:+.2f}{_spread(half)} points of error", "wrong",
        "it is the further training that helps, which the report did not control for; stand-in on the digits",
        runs["capacity_curve"].call,
    )  # fmt: skip


def _masks(runs: Mapping[str, Finished]) -> Iterator[Line]:
    means = runs["comparison"].summary().set_index("technique")
    masked = means.loc["masked"]
    same = masked["file_bytes_mean"] == means.loc["baseline", "file_bytes_mean"]
    yield Line(
        "C", "unstructured pruning leaves size and time unchanged", "unchanged",
        f"file {'unchanged' if same else 'changed'}, time {1 / masked['speedup_32_mean']:.2f} of the whole's",
        "exact" if same else "not reproduced", "a mask only; stand-in on the digits", runs["comparison"].call,
    )  # fmt: skip
    static = means.loc["static-int8"]
    gap, half = 100 * static["top1_error_difference_mean"], 100 * static["top1_error_difference_half_width"]
    yield Line(
        "C", "static quantization", "abandoned: bad accuracy",
        f"{gap:+.2f}{_spread(half)} points of error beside float", "not reproduced",
        "it works once observers have seen data; stand-in on the digits", runs["comparison"].call,
    )  # fmt: skip


def _observers(runs: Mapping[str, Finished]) -> Iterator[Line]:
    means = runs["quantization_table"].summary().set_index("scheme")
    lost, kept = (100 * means.loc[name, "top1_error_difference_mean"] for name in ("uncalibrated", "static"))
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
            row = means.loc[variant]
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
