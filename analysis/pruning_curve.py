"""Accuracy against how much was pruned, for each criterion, with what the file and the clock say."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from analysis.capacity_curve import CRITERIA
from analysis.capacity_curve import LABELS as CRITERION_LABELS
from analysis.lab.commands import at_least_one, execute
from capacity.errors import InputError, unknown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.lab.records import RunFolder

LABELS = CRITERION_LABELS | {
    f"{name} + teacher": f"{label}, dense teacher" for name, label in CRITERION_LABELS.items()
}


@dataclass(frozen=True)
class Config:
    """Train a network, prune it to each amount by each criterion, retrain, and measure what is left."""

    dataset: str = "digits"
    """digits, mnist, fashion-mnist, kmnist, cifar10, cifar100, flowers102 or imagefolder:PATH."""
    data: str = "data"
    """Folder where torchvision's data sets lie, or are downloaded to."""
    model: str = "mlp"
    """mlp, lenet300, lenet5, vgg16, vgg16bn, googlenet, resnet18 and the others that README names,
    torchvision:NAME or package.module:factory."""
    criterion: tuple[Literal["l1", "l2", "reservoir", "random"], ...] = ("l1", "random")
    """What to prune by."""
    center: Literal["mean", "zero"] = "zero"
    """What L1 and L2 measure a weight's deviation from: zero (magnitude pruning), or the layer's mean."""
    amounts: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
    """Fractions of all weights (or units) to prune, ascending."""
    unit: Literal["weight", "neuron"] = "weight"
    """Prune single weights (masks only), or whole neurons and channels, which are then removed."""
    scope: Literal["layer", "global"] = "global"
    """Whether the amount holds for each layer or for all of them together."""
    schedule: Literal["one-shot", "iterative", "rewind", "gradual"] = "one-shot"
    """one-shot: each amount from the dense network; iterative: from the amount before; rewind: so, but
    what survives goes back to its values after --snapshot-epoch; gradual: while a fresh network trains."""
    layers: tuple[str, ...] = ()
    """Layers to prune; by default all dense and convolutional ones (for neurons, all but the last)."""
    seeds: int = 3
    """How many trials, each with its own initial weights and order of the data."""
    epochs: int = 30
    """Epochs of training of the dense network, and of gradual pruning."""
    retrain_epochs: int = 10
    """Epochs of training after pruning (one-shot, iterative); 0 shows the bare damage."""
    teacher: bool = False
    """Also retrain each under the dense network as its teacher, beside plain retraining."""
    temperature: float = 4.0
    """Of the teacher's soft targets."""
    alpha: float = 0.9
    """Weight of the teacher's soft targets; the rest is cross-entropy with the labels."""
    snapshot_epoch: int = 1
    """Epoch to rewind to."""
    gradual_until: float = 0.7
    """Share of the epochs after which gradual pruning has reached the amount."""
    batch_size: int = 128
    """Samples in a batch."""
    learning_rate: float = 0.05
    """Highest learning rate; it warms up over the first epoch and anneals to zero."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """SGD with Nesterov momentum 0.9, or AdamW."""
    weight_decay: float = 5e-4
    """Weight decay."""
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    """Precision of forward and backward passes in training; everything is measured in single."""
    augment: bool = False
    """Random crops and flips of the training pictures."""
    shift: int = 0
    """Random shifts of the training pictures by up to so many pixels; for digits, which must not flip."""
    tolerance: float = 0.005
    """Accuracy counts as equal while the mean error is at most so much above the reference."""
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
    """Run folder; by default runs/pruning_curve-DATASET-MODEL-HASH, resumed if it exists."""
    smoke: bool = False
    """A quick pass through everything: few samples, two amounts, one seed, one epoch."""
    preset: Literal[
        "default",
        "lenet5",
        "lenet300",
        "lenet5-teacher",
        "report-b",
        "report-c",
        "report-c-masked",
        "report-e",
    ] = "default"
    """lenet5, lenet300: sparsity records on MNIST; lenet5-teacher: retraining at 1 % density under the dense
    teacher and without; report-b, -c, -e: those reports' pruning at full size (C's of channels, and of
    single weights)."""


PRESETS = {
    "default": Config(),
    "lenet5": Config(
        preset="lenet5", dataset="mnist", model="lenet5", criterion=("l1",), amounts=(0.991, 0.996),
        schedule="gradual", epochs=25, shift=1,
    ),
    "lenet300": Config(
        preset="lenet300", dataset="mnist", model="lenet300", criterion=("l1",), amounts=(0.95, 0.985),
        schedule="gradual", epochs=60, learning_rate=0.1, weight_decay=1e-4, shift=1,
    ),
    "lenet5-teacher": Config(
        preset="lenet5-teacher", dataset="mnist", model="lenet5", criterion=("l1",), amounts=(0.99,),
        epochs=10, retrain_epochs=3, teacher=True, seeds=5,
    ),
    "report-b": Config(
        preset="report-b", dataset="cifar100", model="vgg16bn", amounts=(0.1, 0.2, 0.4, 0.6, 0.8),
        epochs=200, retrain_epochs=0, augment=True,
    ),
    "report-c": Config(
        preset="report-c", dataset="cifar100", model="googlenet", criterion=("l2",), amounts=(0.2,),
        unit="neuron", scope="layer", epochs=200, retrain_epochs=100, augment=True,
    ),
    "report-c-masked": Config(
        preset="report-c-masked", dataset="cifar100", model="googlenet", criterion=("l1",), amounts=(0.2,),
        epochs=200, retrain_epochs=100, augment=True,
    ),
    "report-e": Config(
        preset="report-e", dataset="cifar10", model="resnet18", epochs=100, retrain_epochs=0, augment=True
    ),
}  # fmt: skip


def run(config: Config) -> "pd.DataFrame":
    """A row per seed, criterion and amount, and for the dense network; resumes from the run folder."""
    from analysis.lab.cuts import Cuts
    from analysis.lab.publishing import all_trials

    _check(config)
    config = _smoke(config) if config.smoke else config
    experiment = Cuts(config)
    return all_trials(experiment, folder_of(config), config.seeds)


def folder_of(config: Config) -> "RunFolder":
    """The run folder of these settings."""
    from analysis.lab.records import trial_folder

    return trial_folder("pruning_curve", _smoke(config) if config.smoke else config)


def _check(config: Config) -> None:
    from compression.distillation import DistillationLoss

    at_least_one(config, "seeds", "epochs", "batch_size", "image_size")
    if config.teacher and config.schedule in ("one-shot", "iterative") and not config.retrain_epochs:
        raise InputError("a teacher needs retraining: --retrain-epochs of at least 1")
    DistillationLoss(config.temperature, config.alpha)  # refuses what cannot be
    if config.retrain_epochs < 0 or config.shift < 0 or config.tolerance < 0:
        raise InputError("retrain_epochs, shift and tolerance must not be negative")
    amounts = config.amounts
    if not amounts or any(not 0 < a < 1 for a in amounts) or list(amounts) != sorted(set(amounts)):
        raise InputError(f"amounts must be ascending fractions between 0 and 1, found {list(amounts)}")
    if not config.criterion:
        raise unknown("criterion", "", CRITERIA)
    if config.schedule == "gradual" and config.unit == "neuron":
        raise InputError("gradual pruning masks single weights: use --unit weight")
    if config.schedule == "rewind" and not 0 <= config.snapshot_epoch < config.epochs:
        raise InputError(f"snapshot_epoch must lie between 0 and {config.epochs - 1}")
    if not 0 < config.gradual_until <= 1:
        raise InputError(f"gradual_until must be a share of the epochs, found {config.gradual_until}")


def _smoke(config: Config) -> Config:
    small = min(config.limit or 256, 256)
    return replace(
        config, seeds=1, epochs=1, retrain_epochs=min(config.retrain_epochs, 1), snapshot_epoch=0,
        amounts=config.amounts[:2], limit=small,
    )  # fmt: skip


def summary(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Mean and 95 % interval over seeds of each amount, and the paired difference to the reference."""
    from analysis.lab.statistics import paired_difference, summarize

    frame = frame.assign(
        file_ratio=frame["file_bytes"] / frame["dense_file_bytes"],
        theoretical_ratio=frame["theoretical_bytes"] / frame["dense_file_bytes"],
        latency_ratio=frame["latency_ms"] / frame["dense_latency_ms"],
    )
    columns = [
        "top1_error", "density", "live_parameters", "capacity_bits", "points_per_bit", "file_bytes",
        "file_ratio", "theoretical_ratio", "latency_ratio",
    ]  # fmt: skip
    by = ["criterion", "amount"]
    against = paired_difference(frame, "top1_error", against=reference(frame), keys=["seed"], by=by)
    return summarize(frame, by, columns).merge(against, on=by, how="left")


def reference(frame: "pd.DataFrame") -> str:
    """What errors are compared with: the control that was trained as long, or the dense network."""
    return "control" if "control" in set(frame["criterion"]) else "dense"


def table(frame: "pd.DataFrame") -> str:
    """The summary as text."""
    from rich.table import Table

    from analysis.tables import with_interval
    from capacity.report import render

    shown = Table()
    for column in (
        "criterion", "pruned [%]", "top-1 error [%]", f"error - {reference(frame)} [points]",
        "live parameters", "rho [points/bit]", "file [bytes]", "file / dense", "4 x live / dense",
        "time / dense",
    ):  # fmt: skip
        shown.add_column(column, justify="left" if column == "criterion" else "right")
    for row in summary(frame).to_dict("records"):
        shown.add_row(
            row["criterion"], f"{100 * row['amount']:.4g}", with_interval(row, "top1_error", ".2f", 100),
            with_interval(row, "top1_error_difference", "+.2f", 100),
            with_interval(row, "live_parameters", ",.0f"),
            with_interval(row, "points_per_bit", ".3g"), with_interval(row, "file_bytes", ",.0f"),
            with_interval(row, "file_ratio", ".3f"), with_interval(row, "theoretical_ratio", ".4f"),
            with_interval(row, "latency_ratio", ".2f"),
        )  # fmt: skip
    return render(shown, width=170)


def equal_accuracy(frame: "pd.DataFrame", tolerance: float) -> "pd.DataFrame":
    """For each criterion the largest amount whose mean error is within `tolerance` of the reference's."""
    means = summary(frame)
    kept = means[means["top1_error_difference_mean"] <= tolerance]
    names = [name for name in means["criterion"].unique() if name not in ("dense", "control")]
    largest = kept.groupby("criterion")["amount"].max()
    return largest.reindex(names).rename("amount").rename_axis("criterion").reset_index()


def under_teacher(frame: "pd.DataFrame") -> list[str]:
    """What the dense teacher was worth, paired over seeds, at each amount."""
    from analysis.lab.statistics import paired_difference

    lines = []
    for name in [
        name for name in frame["criterion"].unique() if f"{name} + teacher" in set(frame["criterion"])
    ]:
        pair = frame[frame["criterion"].isin([name, f"{name} + teacher"])]
        keys, by = ["seed", "amount"], ["criterion", "amount"]
        for row in paired_difference(pair, "top1_error", against=name, keys=keys, by=by).to_dict("records"):
            gap, half = row["top1_error_difference_mean"], row["top1_error_difference_half_width"]
            beyond = "beyond" if abs(gap) > half else "within"
            lines.append(
                f"{name} at {100 * row['amount']:.4g} % pruned, retrained under the dense teacher: "
                f"{100 * gap:+.2f} ± {100 * half:.2f} points against plain retraining, {beyond} the interval"
            )
    return lines


def headline(frame: "pd.DataFrame", config: Config) -> list[str]:
    """What the run says, in a few sentences."""
    from analysis.lab.published import published

    seeds, total = frame["seed"].nunique(), int(frame["total"].iloc[0])
    retrained = {
        "gradual": f"pruned gradually over {config.epochs} epochs",
        "rewind": f"rewound to epoch {config.snapshot_epoch} after each amount",
    }.get(config.schedule, f"{config.schedule}, retrained for {config.retrain_epochs} epochs")
    lines = [
        f"{config.model} on {config.dataset}, {total:,} test points, {seeds} seeds, {config.unit}s pruned "
        f"{config.scope}ly: {retrained}; ± is a 95 % interval of the mean over seeds"
    ]
    for row in equal_accuracy(frame, config.tolerance).to_dict("records"):
        points = f"{100 * config.tolerance:g} points of {reference(frame)}"
        found = "no amount" if row["amount"] != row["amount"] else f"up to {100 * row['amount']:.4g} % pruned"
        lines.append(f"{row['criterion']}: {found} within {points}")
    lines += under_teacher(frame)
    means = summary(frame).set_index(["criterion", "amount"])
    for point in published(config.model, config.dataset).to_dict("records"):
        if (point["criterion"], point["amount"]) in means.index and point["unit"] == config.unit:
            ours = means.loc[(point["criterion"], point["amount"]), "top1_error_mean"]
            verdict = "on or under" if ours <= point["top1_error"] else "above"
            lines.append(
                f"{point['source']}: {100 * point['top1_error']:.2f} % "
                f"at {100 * point['amount']:.4g} % pruned; ours {100 * ours:.2f} %, {verdict} it"
            )
    if bool(frame["mask_only"].any()):
        lines.append("mask only: nothing became smaller or faster, see the bytes of the file and the time")
    return lines


def plot(frame: "pd.DataFrame", config: Config) -> "Figure":
    """Error against the amount pruned, published points beside it; bytes and time, measured, below."""
    from analysis.figures import MARKERS, PAGE_INCHES, colours, interval_line, log_ticks, new_figure
    from analysis.lab.published import published

    means = summary(frame)
    names = [name for name in means["criterion"].unique() if name not in ("dense", "control")]
    colour = colours(names)
    figure, (left, right) = new_figure(PAGE_INCHES, 2.9, ncols=2)
    for place, name in enumerate(names):
        rows = means[means["criterion"] == name]
        rows = rows.assign(kept=1 - rows["amount"], percent_mean=100 * rows["top1_error_mean"],
                           percent_half_width=100 * rows["top1_error_half_width"])  # fmt: skip
        style = {"color": colour[name], "marker": MARKERS[place % len(MARKERS)], "label": LABELS[name]}
        interval_line(left, rows, "kept", "percent", **style)
        interval_line(right, rows, "kept", "file_ratio", **style | {"label": f"{LABELS[name]}: file"})
        interval_line(
            right,
            rows,
            "kept",
            "latency_ratio",
            **style | {"linestyle": ":", "label": f"{LABELS[name]}: time"},
        )
    whole = means[means["criterion"] == reference(frame)]["top1_error_mean"].iloc[0]
    left.axhline(100 * whole, color="0.45", linestyle="--", label=f"{reference(frame)}, not pruned")
    points = published(config.model, config.dataset)
    for place, point in enumerate(points[points["amount"] > 0].to_dict("records")):
        label = f"published: {point['source']}" + ("" if len(names) == 1 else f", {point['criterion']}")
        left.plot(
            1 - point["amount"], 100 * point["top1_error"], marker="*x+1"[place % 4], color="black",
            linestyle="none", markersize=6, label=label,
        )  # fmt: skip
    kept = means.loc[means["criterion"] == names[0], "amount"].rsub(1)
    right.plot(kept, kept, color="0.45", linestyle="--", label="4 bytes per weight kept, in theory")
    left.set(ylabel="top-1 error [%]")
    errors = 100 * means["top1_error_mean"]
    if errors.max() > 10 * max(errors.min(), 1e-9):
        left.set_yscale("log")
        log_ticks(left.yaxis)
        left.yaxis.set_major_formatter(lambda value, place: f"{value:g}")
    right.set(ylabel="fraction of the dense network's", ylim=(0, None))
    for axes in (left, right):
        _kept_axis(axes, kept, config.unit)
        axes.legend(loc="best")
    return figure


def _kept_axis(axes: "Axes", kept: "pd.Series", unit: str) -> None:
    """Share of units kept, from all to few; logarithmic where it spans more than a factor of five."""
    from analysis.figures import log_ticks

    axes.set_xlabel(f"{unit}s kept [%] →")
    if kept.max() > 5 * kept.min():
        axes.set_xscale("log")
        log_ticks(axes.xaxis)
    axes.xaxis.set_major_formatter(lambda value, place: f"{100 * value:.4g}")
    axes.invert_xaxis()


def start(config: Config) -> None:
    """Run, print the table, write the figure and the table beside the results."""
    from analysis.lab.publishing import publish

    frame = run(config)
    publish(
        folder_of(config), "pruning_curve", means=summary(frame), table=table(frame),
        lines=headline(frame, config), figure=plot(frame, config),
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    execute(Config, PRESETS, start, arguments)


if __name__ == "__main__":
    main()
