"""Accuracy and generalization ratio of a network as it is squeezed, beside a control that is not."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from analysis.lab.commands import at_least_one, execute
from capacity.errors import InputError, unknown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.lab.records import RunFolder

CRITERIA = ("l1", "l2", "reservoir", "random")
LABELS = {"l1": "L1", "l2": "L2", "reservoir": "reservoir sampling", "random": "random choice"}


@dataclass(frozen=True)
class Config:
    """Train, test, measure the capacity, squeeze, retrain; again, for several criteria and seeds."""

    dataset: str = "digits"
    """digits, mnist, fashion-mnist, kmnist, cifar10, cifar100, flowers102 or imagefolder:PATH."""
    data: str = "data"
    """Folder where torchvision's data sets lie, or are downloaded to."""
    model: str = "mlp"
    """mlp, lenet300, lenet5, vgg16, vgg16bn, googlenet, resnet18 and the others that README names,
    torchvision:NAME or package.module:factory."""
    criterion: tuple[Literal["l1", "l2", "reservoir", "random"], ...] = ("l1",)
    """What to squeeze by; several are drawn together."""
    center: Literal["mean", "zero"] = "mean"
    """What L1 and L2 measure a weight's deviation from: the layer's mean, or zero."""
    amount: int | float = 0.3
    """How much to squeeze each time: an int counts units, a float is the fraction of those still alive."""
    unit: Literal["neuron", "weight"] = "neuron"
    """Squeeze whole neurons or single weights."""
    scope: Literal["layer", "global"] = "layer"
    """Whether the amount holds for each layer or for all of them together."""
    layers: tuple[str, ...] = ()
    """Layers to squeeze; by default all dense and convolutional ones but the last."""
    iterations: int = 6
    """How often to squeeze."""
    seeds: int = 3
    """How many trials, each with its own initial weights and order of the data."""
    epochs: int = 30
    """Epochs of training before the first squeeze."""
    retrain_epochs: int = 10
    """Epochs of training after each squeeze."""
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
    compile: bool = False
    """Train through torch.compile, which pays off for large networks."""
    patience: int | None = None
    """Stop a training after this many epochs without a better validation error."""
    neuron_dropout: int = 0
    """Neurons of the first squeezed layer that each training batch silences at random."""
    augment: bool = False
    """Random crops and flips of the training pictures."""
    shift: int = 0
    """Random shifts of the training pictures by up to so many pixels; for digits, which must not flip."""
    convention: Literal["previous", "running", "uncapped"] = "previous"
    """How a layer's capacity is capped by what feeds it."""
    pretrained: bool = False
    """Start from ImageNet weights where the network has them."""
    cache_features: bool = False
    """Compute the frozen part of the network once and keep its output on disk."""
    image_size: int = 224
    """Side in pixels to which pictures of differing sizes are brought."""
    limit: int | None = None
    """Use only this many training and test samples."""
    output: str = ""
    """Run folder; by default runs/capacity_curve-DATASET-MODEL-HASH, resumed if it exists."""
    smoke: bool = False
    """A quick pass through everything: few samples, two squeezes, one seed, one epoch."""
    preset: Literal["default", "paper"] = "default"
    """paper: report A at full size (VGG16 head on MNIST, six squeezes of 100 neurons)."""


PRESETS = {
    "default": Config(),
    "paper": Config(
        dataset="mnist", model="vgg16", amount=100, layers=("classifier.0",), neuron_dropout=100,
        epochs=10, retrain_epochs=10, learning_rate=0.01, pretrained=True, cache_features=True,
        preset="paper",
    ),
}  # fmt: skip


def run(config: Config) -> "pd.DataFrame":
    """A row per seed, criterion (and the control) and step; resumes from the run folder."""
    from analysis.lab.publishing import all_trials
    from analysis.lab.trials import Trials

    _check(config)
    config = _smoke(config) if config.smoke else config
    experiment = Trials(config)
    return all_trials(experiment, folder_of(config), config.seeds)


def folder_of(config: Config) -> "RunFolder":
    """The run folder of these settings."""
    from analysis.lab.records import trial_folder

    return trial_folder("capacity_curve", _smoke(config) if config.smoke else config)


def _check(config: Config) -> None:
    at_least_one(config, "seeds", "epochs", "retrain_epochs", "batch_size", "image_size")
    if config.iterations < 0 or config.neuron_dropout < 0:
        raise InputError("iterations and neuron_dropout must not be negative")
    if not config.criterion:
        raise unknown("criterion", "", CRITERIA)


def _smoke(config: Config) -> Config:
    small = min(config.limit or 256, 256)
    return replace(
        config, seeds=1, epochs=1, retrain_epochs=1, iterations=min(config.iterations, 2), limit=small
    )


def summary(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Mean and 95 % interval over seeds of each step, and the paired difference to the control."""
    from analysis.lab.statistics import paired_difference, summarize

    columns = ["capacity_bits", "correct", "top1_error", "points_per_bit", "bits_per_bit", "kappa"]
    means = summarize(frame, ["criterion", "step"], columns)
    against = paired_difference(frame, "top1_error", against="control")
    return means.merge(against, on=["criterion", "step"], how="left")


def table(frame: "pd.DataFrame") -> str:
    """The summary as text."""
    from rich.table import Table

    from analysis.tables import with_interval
    from capacity.report import render

    shown = Table()
    for column in (
        "criterion",
        "step",
        "capacity [bit]",
        "correct",
        "top-1 error [%]",
        "rho [points/bit]",
        "G [bit/bit]",
        "kappa",
        "error - control [points]",
    ):
        shown.add_column(column, justify="left" if column == "criterion" else "right")
    for row in summary(frame).to_dict("records"):
        shown.add_row(
            row["criterion"], str(row["step"]),
            with_interval(row, "capacity_bits", ",.0f"), with_interval(row, "correct", ",.1f"),
            with_interval(row, "top1_error", ".2f", 100), with_interval(row, "points_per_bit", ".3g"),
            with_interval(row, "bits_per_bit", ".3g"), with_interval(row, "kappa", ".4f"),
            with_interval(row, "top1_error_difference", "+.2f", 100),
        )  # fmt: skip
    return render(shown, width=150)


def headline(frame: "pd.DataFrame") -> list[str]:
    """What the run says, in a sentence per criterion."""
    from analysis.tables import with_interval

    means = summary(frame).set_index(["criterion", "step"])
    total, classes = int(frame["total"].iloc[0]), int(frame["classes"].iloc[0])
    lines = [
        f"N out of {total:,} test points, {classes} classes, {frame['seed'].nunique()} seeds, "
        f"convention {frame['convention'].iloc[0]!r}; ± is a 95 % interval of the mean over seeds"
    ]
    last = int(frame["step"].max())
    for name in frame["criterion"].unique():
        if name == "control" or last == 0:
            continue
        first, end = means.loc[(name, 0)], means.loc[(name, last)]
        gap = with_interval(end.to_dict(), "top1_error_difference", "+.2f", 100)
        left = end["capacity_bits_mean"] / first["capacity_bits_mean"]
        gain = end["points_per_bit_mean"] / first["points_per_bit_mean"]
        lines.append(
            f"{name}: after {last} squeezes {left:.1%} of the capacity is left, top-1 error is {gap} points "
            f"from the control's, and every bit carries {gain:.2f} times the points it did"
        )
    return lines


def plot(frame: "pd.DataFrame") -> "Figure":
    """Correct points and rho against capacity, mean and interval over seeds, control beside them."""
    from analysis.figures import MARKERS, PAGE_INCHES, capacity_axis, colours, interval_line, new_figure

    means = summary(frame)
    names = list(frame["criterion"].unique())
    colour = colours(names)
    figure, (left, right) = new_figure(PAGE_INCHES, 2.6 + 0.15 * (len(names) > 3), ncols=2)
    squeezed = means[means["criterion"] == names[0]].set_index("step")["capacity_bits_mean"]
    for place, name in enumerate(names):
        rows = means[means["criterion"] == name]
        if name == "control":  # it keeps its capacity; drawn at the capacity of its squeezed twin
            bits = rows["step"].map(squeezed)
            kept = rows["capacity_bits_mean"].iloc[0]
            label = f"control: trained as long, not squeezed (stays at {kept:,.0f} bit)"
            style = {"linestyle": "--", "marker": "x", "label": label}
        else:
            bits = rows["capacity_bits_mean"]
            style = {"marker": MARKERS[place % len(MARKERS)], "label": f"squeezed by {LABELS[name]}"}
        bits = bits * 1.012 ** ((len(names) - 1) / 2 - place)  # a bit aside, so that intervals do not overlap
        interval_line(left, rows.assign(bits=bits), "bits", "correct", color=colour[name], **style)
        interval_line(right, rows.assign(bits=bits), "bits", "points_per_bit", color=colour[name], **style)
    left.set(ylabel=f"correct test points (of {int(frame['total'].iloc[0]):,})")
    right.set(ylabel="ρ = N/C [points/bit]", ylim=(0, None))
    for axes in (left, right):
        axes.set_xlabel(f"capacity [bit], convention “{frame['convention'].iloc[0]}” →")
        capacity_axis(axes, squeezed)
    handles, labels = left.get_legend_handles_labels()
    seeds = frame["seed"].nunique()
    title = f"mean and 95 % interval over {seeds} seeds" if seeds > 1 else "one seed"
    figure.legend(
        handles, labels, loc="outside upper center", ncols=min(3, len(names)), title=title, title_fontsize=7
    )
    return figure


def start(config: Config) -> None:
    """Run, print the table, write the figure and the table beside the results."""
    from analysis.lab.publishing import publish

    frame = run(config)
    publish(
        folder_of(config), "capacity_curve", means=summary(frame), table=table(frame),
        lines=headline(frame), figure=plot(frame),
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    execute(Config, PRESETS, start, arguments)


if __name__ == "__main__":
    main()
