"""Error against bytes of the file: prune, share values, code, read back, beside the published records."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from analysis.lab.commands import at_least_one, execute
from capacity.errors import InputError, unknown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.lab.records import RunFolder

Method = Literal["rate", "shared"]
METHODS: tuple[Method, ...] = ("rate", "shared")
LABELS = {
    "dense": "dense", "pruned": "pruned, single precision",
    "rate": "pruned, rounded by rate", "shared": "pruned, k-means code books",
}  # fmt: skip


@dataclass(frozen=True)
class Config:
    """Train a network, prune it to each density, give its weights few values, and write the file."""

    dataset: str = "digits"
    """digits, mnist, fashion-mnist, kmnist, cifar10, cifar100, flowers102 or imagefolder:PATH."""
    data: str = "data"
    """Folder where torchvision's data sets lie, or are downloaded to."""
    model: str = "mlp"
    """mlp, lenet300, lenet5 and the others that README names, torchvision:NAME or package.module:factory."""
    methods: tuple[Method, ...] = METHODS
    """rate: values on a grid, rounded where error and bits cost least; shared: k-means code books."""
    densities: tuple[float, ...] = (0.2, 0.05, 0.02)
    """Fractions of the weights to keep, descending."""
    criterion: Literal["l1", "energy-per-bit"] = "energy-per-bit"
    """What to prune by: magnitude, or squared magnitude over what a weight's place costs in the file."""
    penalty: float = 0.02
    """Of rate: squared error, in squares of the step, that a bit is worth."""
    relative_step: float = 0.7
    """Of rate: step of a tensor's grid in root mean squares of its non-zero weights."""
    bits: int = 3
    """Of shared: bits of the index into each tensor's code book."""
    seeds: int = 3
    """How many trials, each with its own initial weights and order of the data."""
    epochs: int = 20
    """Epochs of training of the dense network."""
    prune_epochs: int = 20
    """Epochs of training while it is pruned, under the dense network as teacher."""
    prune_until: float = 0.6
    """Share of those epochs after which the density is reached."""
    code_epochs: int = 8
    """Epochs of training with few values, under the dense network as teacher."""
    learning_rate: float = 0.05
    """Highest learning rate of training and pruning; it warms up over an epoch and anneals to zero."""
    code_learning_rate: float = 0.02
    """The same of training with few values."""
    weight_decay: float = 5e-4
    """Weight decay; none with few values."""
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    """Precision of forward and backward passes in training; errors are always measured in single."""
    temperature: float = 4.0
    """Of the teacher's soft targets."""
    alpha: float = 0.9
    """Weight of the teacher's soft targets; the rest is cross-entropy with the labels."""
    batch_size: int = 128
    """Samples in a batch."""
    augment: bool = False
    """Random crops and flips of the training pictures."""
    shift: int = 0
    """Random shifts of the training pictures by up to so many pixels; for digits, which must not flip."""
    validation: float = 0.1
    """Share of the training pictures held out; choices are made on them, and nothing learns from them."""
    convention: Literal["previous", "running", "uncapped"] = "previous"
    """How a layer's capacity is capped by what feeds it."""
    pretrained: bool = False
    """Start from ImageNet weights where the network has them."""
    image_size: int = 224
    """Side in pixels to which pictures of differing sizes are brought."""
    limit: int | None = None
    """Use only this many training and test samples."""
    output: str = ""
    """Run folder; by default runs/compression_frontier-DATASET-MODEL-HASH, resumed if it exists."""
    smoke: bool = False
    """A quick pass through everything: few samples, one density, one seed, one epoch."""
    preset: Literal["default", "lenet5", "lenet5-long", "lenet300"] = "default"
    """lenet5, lenet300: the networks of the published records on MNIST; lenet5-long: twice as long training
    on all training pictures but 1,000."""


PRESETS = {
    "default": Config(),
    "lenet300": Config(
        preset="lenet300", dataset="mnist", model="lenet300", densities=(0.03, 0.015, 0.01),
        methods=("rate",), epochs=15, prune_epochs=25, code_epochs=10, shift=1, weight_decay=1e-4,
    ),
    "lenet5": Config(
        preset="lenet5", dataset="mnist", model="lenet5", densities=(0.016, 0.0083, 0.0042),
        methods=("rate",), epochs=10, prune_epochs=40, code_epochs=24, alpha=0.0, shift=1,
        mixed_precision="bf16",
    ),
    "lenet5-long": Config(
        preset="lenet5-long", dataset="mnist", model="lenet5", densities=(0.0082,),
        methods=("rate",), epochs=10, prune_epochs=80, code_epochs=48, alpha=0.0, shift=1,
        mixed_precision="bf16", validation=1 / 60,
    ),
}  # fmt: skip


def run(config: Config) -> "pd.DataFrame":
    """A row per seed for the dense network, each density and each method; resumes from the run folder."""
    from analysis.lab.frontiers import Frontier
    from analysis.lab.publishing import all_trials

    _check(config)
    config = _smoke(config) if config.smoke else config
    experiment = Frontier(config)
    return all_trials(experiment, folder_of(config), config.seeds)


def folder_of(config: Config) -> "RunFolder":
    """The run folder of these settings."""
    from analysis.lab.records import trial_folder

    return trial_folder("compression_frontier", _smoke(config) if config.smoke else config)


def _check(config: Config) -> None:
    from compression.distillation import DistillationLoss

    at_least_one(config, "seeds", "epochs", "prune_epochs", "code_epochs", "batch_size", "image_size")
    DistillationLoss(config.temperature, config.alpha)  # refuses what cannot be
    if not config.methods:
        raise unknown("method", "", METHODS)
    found = config.densities
    if not found or any(not 0 < d < 1 for d in found) or list(found) != sorted(set(found), reverse=True):
        raise InputError(f"densities must be descending fractions between 0 and 1, found {list(found)}")
    if not 0 < config.prune_until <= 1:
        raise InputError(f"prune_until must be a share of the epochs, found {config.prune_until}")
    if config.penalty < 0 or not config.relative_step > 0:
        raise InputError("penalty must not be negative, and relative_step must be positive")
    if not 1 <= config.bits <= 12:
        raise InputError(f"bits must lie between 1 and 12, found {config.bits}")


def _smoke(config: Config) -> Config:
    small = min(config.limit or 256, 256)
    return replace(
        config, seeds=1, epochs=1, prune_epochs=1, code_epochs=1, densities=config.densities[:1], limit=small
    )


def summary(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Mean and 95 % interval over seeds of each method and density."""
    from analysis.lab.statistics import paired_difference, summarize

    columns = [
        "top1_error", "file_bytes", "compression_ratio", "entropy_bytes", "book_bytes", "bias_bytes",
        "nonzero_parameters", "capacity_bits", "points_of_all_per_bit",
    ]  # fmt: skip
    by = ["method", "density"]
    against = paired_difference(
        frame, "top1_error", against="dense", keys=["seed"], by=by, column_name="method"
    )
    return summarize(frame, by, columns).merge(against, on=by, how="left")


def table(frame: "pd.DataFrame") -> str:
    """The summary as text."""
    from rich.table import Table

    from analysis.tables import with_interval
    from capacity.report import render

    shown = Table()
    for column in (
        "method", "kept [%]", "top-1 error [%]", "error - dense [points]", "file [bytes]", "ratio",
        "by entropy [bytes]", "code books [bytes]", "biases [bytes]", "non-zero", "rho, all points",
    ):  # fmt: skip
        shown.add_column(column, justify="left" if column == "method" else "right")
    for row in summary(frame).to_dict("records"):
        shown.add_row(
            row["method"], f"{100 * row['density']:.4g}", with_interval(row, "top1_error", ".2f", 100),
            with_interval(row, "top1_error_difference", "+.2f", 100),
            with_interval(row, "file_bytes", ",.0f"), with_interval(row, "compression_ratio", ".1f"),
            with_interval(row, "entropy_bytes", ",.0f"), with_interval(row, "book_bytes", ",.0f"),
            with_interval(row, "bias_bytes", ",.0f"), with_interval(row, "nonzero_parameters", ",.0f"),
            with_interval(row, "points_of_all_per_bit", ".3g"),
        )  # fmt: skip
    return render(shown, width=175)


def headline(frame: "pd.DataFrame", config: Config) -> list[str]:
    """What the run says, in a few sentences: each published record, and ours beside it."""
    from analysis.lab.published import compression_records

    seeds, total = frame["seed"].nunique(), int(frame["total"].iloc[0])
    dense = int(frame["dense_bytes"].iloc[0])
    lines = [
        f"{config.model} on {config.dataset}, {dense:,} bytes in single precision, {total:,} test points, "
        f"{seeds} seeds; ± is a 95 % interval of the mean; bytes are those of the file, header, code books "
        f"and biases included, and the error is that of the network read back from it"
    ]
    means = summary(frame)
    for record in compression_records(config.model, config.dataset):
        lines.append(_beside(record.source, record.compression_ratio, record.top1_error, means))
    return lines


def _beside(source: str, ratio: float, error: float, means: "pd.DataFrame") -> str:
    """A record, and our smallest file that errs no more, or else the one that errs least."""
    told = f"{source}: {ratio:g}x at {100 * error:.2f} %"
    within = means[means["top1_error_mean"] <= error + 1e-12]
    if len(within):
        best = within.nlargest(1, "compression_ratio_mean").iloc[0]
        verdict = "beaten" if best["compression_ratio_mean"] > ratio else "not reached"
    else:
        best = means.nsmallest(1, "top1_error_mean").iloc[0]
        verdict = "not reached"
    ours = f"{best['compression_ratio_mean']:.0f}x at {100 * best['top1_error_mean']:.2f} %"
    return f"{told}; ours {ours} ({best['method']}, {100 * best['density']:g} % kept): {verdict}"


def plot(frame: "pd.DataFrame", config: Config) -> "Figure":
    """Error against bytes of the file, with intervals of both, and the published records."""
    from analysis.figures import COLUMN_INCHES, MARKERS, colours, new_figure
    from analysis.lab.published import compression_records

    means = summary(frame)
    figure, axes = new_figure(COLUMN_INCHES, 3.0)
    names = [name for name in LABELS if name in set(means["method"])]
    colour = colours(names)
    for place, name in enumerate(names):
        rows = means[means["method"] == name].sort_values("file_bytes_mean")
        axes.errorbar(
            rows["file_bytes_mean"], 100 * rows["top1_error_mean"],
            xerr=rows["file_bytes_half_width"].fillna(0), yerr=100 * rows["top1_error_half_width"].fillna(0),
            color=colour[name], marker=MARKERS[place], capsize=2, elinewidth=0.8, label=LABELS[name],
        )  # fmt: skip
    dense = float(frame["dense_bytes"].iloc[0])
    for place, record in enumerate(compression_records(config.model, config.dataset)):
        axes.plot(
            dense / record.compression_ratio, 100 * record.top1_error, marker="*x+1234|"[place % 8],
            color="black", linestyle="none", markersize=6, label=f"published: {record.source}",
        )  # fmt: skip
    _byte_axis(axes)
    axes.set(ylabel="top-1 error [%]")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2, fontsize=6)
    return figure


def _byte_axis(axes: "Axes") -> None:
    from matplotlib.ticker import FuncFormatter

    from analysis.figures import log_ticks, short_number

    axes.set_xscale("log")
    log_ticks(axes.xaxis, subs=(1, 3))
    axes.xaxis.set_major_formatter(FuncFormatter(short_number))
    axes.set_xlabel("file [bytes]")


def start(config: Config) -> None:
    """Run, print the table, write the figure and the table beside the results."""
    from analysis.lab.publishing import publish

    frame = run(config)
    publish(
        folder_of(config), "compression_frontier", means=summary(frame), table=table(frame),
        lines=headline(frame, config), figure=plot(frame, config),
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    execute(Config, PRESETS, start, arguments)


if __name__ == "__main__":
    main()
