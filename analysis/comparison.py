"""Every technique on the same networks and data, measured one way: error, capacity, bytes, FLOPs, time."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from analysis.lab.commands import at_least_one, execute
from capacity.errors import InputError, unknown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.lab.comparing import Ranking
    from analysis.lab.records import RunFolder

Technique = Literal[
    "control", "masked", "shrunk", "distilled", "low-rank", "dynamic-int8", "static-int8", "grouped-int4",
    "aware-int4", "masked-int8", "deep-compressed", "rate-coded", "distil-quantize-prune",
    "prune-shrink-int8",
]  # fmt: skip
ALL: tuple[Technique, ...] = (
    "control", "masked", "shrunk", "distilled", "low-rank", "dynamic-int8", "static-int8", "grouped-int4",
    "deep-compressed", "rate-coded", "distil-quantize-prune", "prune-shrink-int8",
)  # fmt: skip


@dataclass(frozen=True)
class Config:
    """Train a network, make it smaller in every way, and measure each result the same way."""

    dataset: str = "digits"
    """digits, mnist, fashion-mnist, kmnist, cifar10, cifar100, flowers102 or imagefolder:PATH."""
    data: str = "data"
    """Folder where torchvision's data sets lie, or are downloaded to."""
    model: str = "mlp"
    """mlp, lenet300, lenet5, resnet18 and the others that README names, torchvision:NAME or
    package.module:factory."""
    techniques: tuple[Technique, ...] = ALL
    """What to compare beside the baseline: control (trained as long), masked, shrunk, distilled, low-rank,
    dynamic-int8, static-int8, grouped-int4, aware-int4, deep-compressed, rate-coded, and the recipes
    distil-quantize-prune and prune-shrink-int8."""
    sparsity: float = 0.8
    """Of masked: share of the weights to mask."""
    channels: float = 0.3
    """Of shrunk: share of the channels to remove."""
    student: str = ""
    """Of distilled: the student's name; by default the network itself with fewer channels."""
    student_amount: float = 0.5
    """Of distilled without a name: share of the channels that the student lacks."""
    temperature: float = 2.0
    """Of distilled: of the teacher's soft targets."""
    alpha: float = 0.5
    """Of distilled: weight of the teacher's soft targets; the rest is cross-entropy with the labels."""
    energy: float = 0.9
    """Of low-rank: share of the squared singular values to keep."""
    coded_sparsity: float = 0.9
    """Of deep-compressed and rate-coded: share of the weights to prune."""
    bits: int = 5
    """Of deep-compressed: bits of the index into each code book."""
    calibration: int = 1_000
    """Training samples that calibrate the ranges of activations."""
    seeds: int = 3
    """How many trials, each with its own initial weights and order of the data."""
    epochs: int = 30
    """Epochs of training of the baseline, and of the student."""
    retrain_epochs: int = 10
    """Epochs of training in each technique that trains."""
    batch_size: int = 128
    """Samples in a batch."""
    learning_rate: float = 0.05
    """Highest learning rate; it warms up over the first epoch and anneals to zero."""
    weight_decay: float = 5e-4
    """Weight decay."""
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    """Precision of forward and backward passes in training; everything is measured in single."""
    augment: bool = False
    """Random crops and flips of the training pictures."""
    shift: int = 0
    """Random shifts of the training pictures by up to so many pixels; for digits, which must not flip."""
    compile: bool = False
    """Time integer kernels compiled by Inductor, which takes minutes; by default ONNX Runtime's."""
    repeats: int = 30
    """Timed passes of each network; the median counts."""
    processes: int = 1
    """Cells computed at once on this machine; timings are cleanest with one."""
    scheduler: str = ""
    """Address of a Dask scheduler, as in tcp://host:8786, to compute the cells on its workers instead."""
    convention: Literal["previous", "running", "uncapped"] = "previous"
    """How a layer's capacity is capped by what feeds it."""
    pretrained: bool = False
    """Start from ImageNet weights where the network has them."""
    image_size: int = 224
    """Side in pixels to which pictures of differing sizes are brought."""
    limit: int | None = None
    """Use only this many training and test samples."""
    output: str = ""
    """Run folder; by default runs/comparison-DATASET-MODEL-HASH, resumed if it exists."""
    smoke: bool = False
    """A quick pass through everything: few samples, one seed, one epoch."""
    preset: Literal["default", "lenet5", "report-d", "report-e"] = "default"
    """lenet5: on MNIST; report-d: that report's six-layer network at a fifth of its weights, then in
    integers, on MNIST; report-e: that report's ResNet-18 on CIFAR-10 at full size."""


PRESETS = {
    "default": Config(),
    "lenet5": Config(
        preset="lenet5", dataset="mnist", model="lenet5", epochs=6, retrain_epochs=3, shift=1,
        coded_sparsity=0.98, sparsity=0.95, mixed_precision="bf16",
    ),
    "report-d": Config(
        preset="report-d", dataset="mnist", model="six_layer", epochs=4, retrain_epochs=2, sparsity=0.8,
        techniques=("control", "masked", "static-int8", "masked-int8"),
    ),
    "report-e": Config(
        preset="report-e", dataset="cifar10", model="resnet18", epochs=100, retrain_epochs=30, augment=True,
        sparsity=0.6, student="cnn5", learning_rate=0.1, mixed_precision="bf16",
    ),
}  # fmt: skip


def run(config: Config) -> "pd.DataFrame":
    """A row per seed and technique, the baseline first; resumes from the run folder.

    Raises InputError naming the cells that failed if none was left.
    """
    frame, failures = compare(config)
    if frame.empty:
        raise InputError("every cell failed: " + "; ".join(f"{k}: {v}" for k, v in failures.items()))
    return frame


def compare(config: Config) -> "tuple[pd.DataFrame, dict[str, str]]":
    """The rows, and the cells that failed with the reason; both baselines and techniques are cells."""
    import pandas as pd

    from analysis.lab.contenders import compute, contenders
    from analysis.lab.progress import progress
    from analysis.lab.sweeps import Workers, sweep

    _check(config)
    config = _smoke(config) if config.smoke else config
    here = replace(config, processes=1, scheduler="", output="", smoke=False)  # what a cell depends on
    contenders(here)  # refuses what cannot be before anything is written
    folder = folder_of(config)
    setting, workers = (here, str(folder.path.resolve())), Workers(config.processes, config.scheduler)
    names = [  # the baselines first: all other cells start from them
        [f"seed-{seed}/{name}" for name in wave for seed in range(config.seeds)]
        for wave in (("baseline",), config.techniques)
    ]
    rows: list[Any] = []
    failures: dict[str, str] = {}
    with progress(sum(map(len, names)), "cells") as advance:
        for wave in names:
            found = sweep(compute, setting, wave, folder=folder.path, workers=workers, advance=advance)
            rows += found.rows
            failures |= found.failures
    frame = pd.DataFrame(rows)
    if not frame.empty:
        folder.save_frame(frame.drop(columns="right"))
    return frame, failures


def folder_of(config: Config) -> "RunFolder":
    """The run folder of these settings; where the cells are computed does not change what comes out."""
    from analysis.lab.records import trial_folder

    config = _smoke(config) if config.smoke else config
    return trial_folder("comparison", replace(config, processes=1, scheduler=""))


def _check(config: Config) -> None:
    from compression.distillation import DistillationLoss

    DistillationLoss(config.temperature, config.alpha)  # refuses what cannot be
    at_least_one(
        config, "seeds", "epochs", "retrain_epochs", "batch_size", "image_size", "calibration", "repeats",
        "processes",
    )  # fmt: skip
    if not config.techniques:
        raise unknown("technique", "", ALL)
    for name in ("sparsity", "channels", "student_amount", "coded_sparsity", "energy"):
        if not 0 < getattr(config, name) < 1:
            raise InputError(f"{name} must lie between 0 and 1, found {getattr(config, name)}")
    if not 1 <= config.bits <= 12:
        raise InputError(f"bits must lie between 1 and 12, found {config.bits}")
    if config.scheduler and config.processes > 1:
        raise InputError("give either processes or a scheduler: its workers are the processes")


def _smoke(config: Config) -> Config:
    small = min(config.limit or 256, 256)
    return replace(config, seeds=1, epochs=1, retrain_epochs=1, limit=small, repeats=2, compile=False)


def summary(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Mean and 95 % interval over seeds of every figure, and the paired difference to the control's error."""
    from analysis.lab.metrics import METRICS
    from analysis.lab.statistics import paired_difference, summarize

    columns = [name for name in METRICS if name in frame.columns and frame[name].notna().any()]
    means = summarize(frame, ["technique"], columns)
    flags = frame.groupby("technique", sort=False)[["mask_only", "execution"]].first().reset_index()
    means = means.merge(flags, on="technique")
    against = paired_difference(
        frame, "top1_error", against="baseline", keys=["seed"], by=["technique"], column_name="technique"
    )
    return means.merge(against, on="technique", how="left")


def ranking(frame: "pd.DataFrame") -> "Ranking | None":
    """The techniques by error, from the test points that each got right; None for fewer than two of them."""
    import numpy as np

    from analysis.lab.comparing import rank
    from analysis.lab.metrics import unpacked

    if "right" not in frame.columns:  # results.csv leaves it out
        return None
    seeds = sorted(frame["seed"].unique())
    whole = [name for name, rows in frame.groupby("technique", sort=False) if len(rows) == len(seeds)]
    right = {}
    for name in whole:
        rows = frame[frame["technique"] == name].sort_values("seed")
        pairs = zip(rows["right"], rows["total"], strict=True)
        right[str(name)] = np.stack([unpacked(digits, int(total)) for digits, total in pairs])
    return rank(right) if len(right) > 1 else None


def table(frame: "pd.DataFrame") -> str:
    """The summary as text: what it can do and what it costs to keep, then what it costs to run."""
    from rich.table import Table

    from analysis.lab.metrics import METRICS
    from analysis.tables import with_interval
    from capacity.report import render

    means, parts = summary(frame), []
    kept = {name: cell for name, cell in METRICS.items() if f"{name}_mean" in means.columns}
    cut = list(kept).index("flops")
    for names in (list(kept)[:cut], list(kept)[cut:]):
        shown = Table()
        shown.add_column("technique")
        for name in names:
            shown.add_column(kept[name][0], justify="right")
        for row in means.to_dict("records"):
            cells = [with_interval(row, name, kept[name][2], kept[name][1]) for name in names]
            shown.add_row(row["technique"] + " (mask only)" * row["mask_only"], *cells)
        parts.append(render(shown, width=190))
    return "\n".join(parts)


def headline(frame: "pd.DataFrame", config: Config) -> list[str]:
    """What the run says: the setting, the ranking, who cannot be told apart, who is really faster."""
    from analysis.lab.statistics import timing_threads

    total, seeds = int(frame["total"].iloc[0]), frame["seed"].nunique()
    lines = [
        f"{config.model} on {config.dataset}, {total:,} test points, "
        f"{int(frame['classes'].iloc[0])} classes, {seeds} seeds, "
        f"convention {frame['convention'].iloc[0]!r}; ± is a 95 % interval of the mean over seeds; "
        f"times beside the baseline's in one process, {timing_threads(frame)} threads; "
        f"a multiply-add is two FLOPs, of dense kernels, which multiply zeros too"
    ]
    found = ranking(frame)
    if found is not None:
        places = [f"{name} [{found.ranks[name][0]}-{found.ranks[name][1]}]" for name in found.names]
        lines.append("by error, with the 95 % interval of the rank: " + ", ".join(places))
        lines += [str(pair) for pair in found.doubts()]
    if config.processes > 1 or config.scheduler:
        lines.append("times were taken beside other cells; with --processes 1 they are cleaner")
    means = summary(frame).set_index("technique")
    for name, row in means.iterrows():
        if row["mask_only"]:
            lines.append(f"{name}: a mask only, which makes nothing smaller or faster as it stands")
        elif row["speedup_1_mean"] < 1 and row["speedup_32_mean"] < 1 and name != "baseline":
            lines.append(f"{name}: not faster than the float baseline here ({row['execution']})")
    return lines


def plot(frame: "pd.DataFrame", config: Config) -> "Figure":
    """Error against bytes of the file and against speed-up, mean and interval, with both Pareto fronts."""
    from matplotlib.colors import to_rgba
    from matplotlib.lines import Line2D

    from analysis.figures import PAGE_INCHES, colours, log_ticks, new_figure, short_number

    means = summary(frame)
    names = list(means["technique"])
    colour = dict(zip(names, colours([*names]).values(), strict=True))
    marks = dict(zip(names, "osD^v<>PXphd*8"[: len(names)], strict=True))
    figure, panels = new_figure(PAGE_INCHES, 3.3, ncols=2, sharey=True)
    axis_of = {"file_bytes": "file [bytes]", "speedup_32": "speed-up over the baseline, batch of 32"}
    for axes, (x, label) in zip(panels, axis_of.items(), strict=True):
        rows = means[means[f"{x}_mean"].notna()]
        for row in rows.to_dict("records"):
            half = {key: row[f"{key}_half_width"] for key in (x, "top1_error")}
            axes.errorbar(
                row[f"{x}_mean"], 100 * row["top1_error_mean"], color=colour[row["technique"]],
                ecolor=to_rgba(colour[row["technique"]], 0.45),
                marker=marks[row["technique"]], linestyle="none", capsize=2, elinewidth=0.7, markersize=5,
                xerr=half[x] if half[x] == half[x] and half[x] < row[f"{x}_mean"] else 0,
                yerr=100 * half["top1_error"] if half["top1_error"] == half["top1_error"] else 0,
            )  # fmt: skip
        costs = rows[f"{x}_mean"] * (-1 if x == "speedup_32" else 1)
        front = pareto(costs.tolist(), rows["top1_error_mean"].tolist())
        points = rows.iloc[front].sort_values(f"{x}_mean")
        side = "pre" if x == "speedup_32" else "post"
        errors = 100 * points["top1_error_mean"]
        axes.step(points[f"{x}_mean"], errors, where=side, color="0.6", zorder=0, linewidth=0.9)
        axes.set_xscale("log")
        log_ticks(axes.xaxis, subs=(1, 2, 5) if x == "speedup_32" else (1, 3))
        axes.xaxis.set_major_formatter(short_number)
        axes.set_xlabel(label)
    panels[0].set_ylabel("top-1 error [%]")
    handles = [
        Line2D([], [], color=colour[n], marker=marks[n], linestyle="none", markersize=5) for n in names
    ]
    figure.legend(handles, names, loc="outside right center", title="grey: Pareto front", title_fontsize=7)
    return figure


def pareto(costs: Sequence[float], errors: Sequence[float]) -> list[int]:
    """Places of the points that no other beats in cost and error at once.

    >>> pareto([1, 2, 3], [0.3, 0.1, 0.2])
    [0, 1]
    """
    pairs = list(zip(costs, errors, strict=True))
    return [
        place
        for place, (cost, error) in enumerate(pairs)
        if not any((c <= cost and e <= error) and (c < cost or e < error) for c, e in pairs)
    ]


def start(config: Config) -> None:
    """Run, print the tables, write everything; cells that failed are named at the end, with status 1."""
    from analysis.lab.publishing import publish

    frame, failures = compare(config)
    if not frame.empty:
        publish(
            folder_of(config), "comparison", means=summary(frame), table=table(frame),
            lines=headline(frame, config), figure=plot(frame, config),
        )  # fmt: skip
    if failures:
        reasons = "\n".join(f"  {name}: {reason.strip()}" for name, reason in failures.items())
        raise SystemExit(f"{len(failures)} cells failed; run again to try only these:\n{reasons}")


def main(arguments: Sequence[str] | None = None) -> None:
    execute(Config, PRESETS, start, arguments)


if __name__ == "__main__":
    main()
