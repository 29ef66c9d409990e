"""What integers cost and save: error, bytes, ONNX, and latency beside the float network, scheme by scheme."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from analysis.lab.commands import at_least_one, execute
from capacity.errors import unknown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.lab.records import RunFolder

Name = Literal[
    "dynamic", "static", "weight-only-8", "weight-only-4", "grouped-4", "aware-8", "aware-4", "uncalibrated"
]  # fmt: skip
ALL: tuple[Name, ...] = (
    "dynamic", "static", "weight-only-8", "weight-only-4", "grouped-4", "aware-8", "aware-4", "uncalibrated",
)  # fmt: skip


@dataclass(frozen=True)
class Config:
    """Train a network, quantize it in each scheme, and measure error, bytes and latency."""

    dataset: str = "digits"
    """digits, mnist, fashion-mnist, kmnist, cifar10, cifar100, flowers102 or imagefolder:PATH."""
    data: str = "data"
    """Folder where torchvision's data sets lie, or are downloaded to."""
    model: str = "mlp"
    """mlp, lenet300, lenet5, resnet20, vgg16bn and the others that README names, torchvision:NAME or
    package.module:factory."""
    schemes: tuple[Name, ...] = ALL
    """dynamic, static, weight-only-8 and -4 bits, grouped-4 (weights only, a scale per group), aware-8 and -4
    (trained with rounding), and uncalibrated: static without calibration data, which `quantize` refuses, to
    show what it costs."""
    group_size: int = 32
    """Weights of an output that share a scale in grouped-4, at most."""
    calibration: int = 1_000
    """Training samples that calibrate the ranges of activations."""
    compile: bool = True
    """Time integer kernels compiled by Inductor; without, or without a C++ compiler, the plain graph."""
    onnx: bool = True
    """Export each network to ONNX and run it in ONNX Runtime too, where the extra [onnx] is installed."""
    repeats: int = 30
    """Timed passes of each network; the median counts."""
    seeds: int = 3
    """How many trials, each with its own initial weights and order of the data."""
    epochs: int = 30
    """Epochs of training."""
    retrain_epochs: int = 5
    """Epochs of quantization-aware training, at a tenth of the learning rate."""
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
    convention: Literal["previous", "running", "uncapped"] = "previous"
    """How a layer's capacity is capped by what feeds it."""
    pretrained: bool = False
    """Start from ImageNet weights where the network has them."""
    image_size: int = 224
    """Side in pixels to which pictures of differing sizes are brought."""
    limit: int | None = None
    """Use only this many training and test samples."""
    output: str = ""
    """Run folder; by default runs/quantization_table-DATASET-MODEL-HASH, resumed if it exists."""
    smoke: bool = False
    """A quick pass through everything: few samples, one seed, one epoch, nothing compiled."""
    preset: Literal["default", "lenet5", "resnet20", "report-b", "report-c", "report-e"] = "default"
    """lenet5: on MNIST; resnet20: on CIFAR-10; report-b, -c, -e: those reports' networks at full size."""


PRESETS = {
    "default": Config(),
    "lenet5": Config(preset="lenet5", dataset="mnist", model="lenet5", epochs=8, retrain_epochs=2, shift=1),
    "resnet20": Config(
        preset="resnet20",
        dataset="cifar10",
        model="resnet20",
        seeds=2,
        epochs=12,
        retrain_epochs=2,
        learning_rate=0.1,
        augment=True,
        mixed_precision="bf16",
    ),
    "report-b": Config(
        preset="report-b", dataset="cifar100", model="vgg16bn", epochs=200, retrain_epochs=10, augment=True
    ),
    "report-c": Config(
        preset="report-c", dataset="cifar100", model="googlenet", epochs=200, retrain_epochs=10, augment=True
    ),
    "report-e": Config(
        preset="report-e", dataset="cifar10", model="resnet18", epochs=100, retrain_epochs=10, augment=True
    ),
}


def run(config: Config) -> "pd.DataFrame":
    """A row per seed for the float network and for each scheme; resumes from the run folder."""
    from analysis.lab.publishing import all_trials
    from analysis.lab.roundings import Roundings

    _check(config)
    config = _smoke(config) if config.smoke else config
    experiment = Roundings(config)
    return all_trials(experiment, folder_of(config), config.seeds)


def folder_of(config: Config) -> "RunFolder":
    """The run folder of these settings."""
    from analysis.lab.records import trial_folder

    return trial_folder("quantization_table", _smoke(config) if config.smoke else config)


def _check(config: Config) -> None:
    at_least_one(
        config,
        "seeds",
        "epochs",
        "retrain_epochs",
        "batch_size",
        "image_size",
        "calibration",
        "repeats",
        "group_size",
    )
    if not config.schemes:
        raise unknown("scheme", "", ALL)


def _smoke(config: Config) -> Config:
    small = min(config.limit or 256, 256)
    return replace(config, seeds=1, epochs=1, retrain_epochs=1, limit=small, repeats=2, compile=False)


def summary(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Mean and 95 % interval over seeds of each scheme, and the paired difference to the float network."""
    from analysis.lab.statistics import paired_difference, summarize

    measured = (
        "top1_error",
        "top5_error",
        "agreement_with_float",
        "state_bytes",
        "file_bytes",
        "onnx_bytes",
        "onnx_agreement",
    )
    times = [name for name in frame.columns if "latency" in name or "speedup" in name]
    columns = [name for name in (*measured, *times) if name in frame.columns]
    means = summarize(frame, ["scheme"], columns)
    against = paired_difference(
        frame, "top1_error", against="float", keys=["seed"], by=["scheme"], column_name="scheme"
    )
    return means.merge(against, on="scheme", how="left")


def table(frame: "pd.DataFrame") -> str:
    """The summary as text."""
    from rich.table import Table

    from analysis.tables import with_interval
    from capacity.report import render

    shown = Table()
    columns = {
        "top-1 error [%]": ("top1_error", ".2f", 100),
        "- float [points]": ("top1_error_difference", "+.2f", 100),
        "same as float [%]": ("agreement_with_float", ".2f", 100),
        "bytes": ("state_bytes", ",.0f", 1),
        "file [bytes]": ("file_bytes", ",.0f", 1),
        "ONNX [bytes]": ("onnx_bytes", ",.0f", 1),
        "ONNX Runtime agrees [%]": ("onnx_agreement", ".2f", 100),
        "speed-up, batch 1": ("speedup_1", ".2f", 1),
        "batch 32": ("speedup_32", ".2f", 1),
        "ONNX, batch 1": ("onnx_speedup_1", ".2f", 1),
        "ONNX, batch 32": ("onnx_speedup_32", ".2f", 1),
    }
    shown.add_column("scheme")
    means = summary(frame)
    kept = {head: cell for head, cell in columns.items() if f"{cell[0]}_mean" in means.columns}
    for head in kept:
        shown.add_column(head, justify="right")
    for row in means.to_dict("records"):
        cells = [with_interval(row, name, style, factor) for name, style, factor in kept.values()]
        shown.add_row(row["scheme"], *cells)
    return render(shown, width=200)


def headline(frame: "pd.DataFrame", config: Config) -> list[str]:
    """What the run says, in a few sentences."""
    from analysis.lab.statistics import timing_threads

    seeds, total = frame["seed"].nunique(), int(frame["total"].iloc[0])
    how = frame.groupby("scheme", sort=False)["execution"].first()
    lines = [
        f"{config.model} on {config.dataset}, {total:,} test points, {seeds} seeds; speed-up over float "
        f"eager in the same process, {timing_threads(frame)} CPU threads; "
        f"first seed's timing; ± is a 95 % interval of the mean over seeds",
        "executed: " + ", ".join(f"{name} {execution}" for name, execution in how.items()),
    ]
    means = summary(frame).set_index("scheme")
    worst = noise(frame).query("bits == '4'").nsmallest(3, "ratio_db_mean")
    lines.append(
        "least signal over 4-bit rounding noise: "
        + ", ".join(f"{row.layer} {row.ratio_db_mean:.1f} dB" for row in worst.itertuples())
        + "; quantize(..., keep=[...]) leaves layers in float"
    )
    for name, row in means.iterrows():
        if name != "float" and row["speedup_1_mean"] < 1 and row["speedup_32_mean"] < 1:
            lines.append(f"{name}: smaller, but slower than float here")
    return lines


def plot(frame: "pd.DataFrame", config: Config) -> "Figure":
    """Error, bytes of the file and speed-up of each scheme, a row each; mean and interval over seeds."""
    from matplotlib.ticker import MaxNLocator

    from analysis.figures import PAGE_INCHES, colours, log_ticks, new_figure, short_number

    means = summary(frame).iloc[::-1].reset_index(drop=True)
    figure, (left, middle, right) = new_figure(PAGE_INCHES, 0.8 + 0.22 * len(means), ncols=3, sharey=True)
    one, two, three = colours(["torch", "onnx", "file"]).values()
    rows = range(len(means))
    half = 100 * means["top1_error_half_width"].fillna(0)
    left.errorbar(
        100 * means["top1_error_mean"], rows, xerr=half, fmt="o", color=one, capsize=2, elinewidth=0.9
    )
    errors = 100 * means["top1_error_mean"]
    if errors.max() > 5 * max(errors.min(), 1e-9):
        left.set_xscale("log")
        log_ticks(left.xaxis)
        left.xaxis.set_major_formatter(lambda value, place: f"{value:g}")
    middle.barh(rows, means["file_bytes_mean"], color=three, height=0.6)
    middle.xaxis.set_major_formatter(short_number)
    middle.xaxis.set_major_locator(MaxNLocator(4))
    right.plot(means["speedup_32_mean"], rows, "o", color=one, label="torch")
    if "onnx_speedup_32_mean" in means:
        right.plot(means["onnx_speedup_32_mean"], rows, "s", color=two, label="ONNX Runtime", markersize=3)
    right.axvline(1, color="0.45", linestyle="--")
    right.legend(loc="best")
    left.set(xlabel="top-1 error [%]")
    middle.set(xlabel="file [bytes]")
    right.set(xlabel="speed-up over float, batch 32", xlim=(0, None))
    left.set_yticks(rows, means["scheme"])
    return figure


def noise(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Signal-to-quantization-noise ratio of each layer at 8 and 4 bits in dB, over seeds."""
    from analysis.lab.statistics import summarize

    columns = [name for name in frame.columns if name.startswith("noise_db_")]
    rows = frame[frame["scheme"] == "float"].melt("seed", columns, value_name="ratio_db").dropna()
    parts = rows["variable"].str.extract(r"noise_db_(?P<bits>\d)_(?P<layer>.*)")
    return summarize(rows.assign(**parts), ["bits", "layer"], ["ratio_db"])


def plot_noise(frame: "pd.DataFrame") -> "Figure":
    """How far above its rounding noise each layer's output lies, in order of the layers."""
    from analysis.figures import MARKERS, PAGE_INCHES, colours, interval_line, new_figure

    means = noise(frame)
    layers = list(dict.fromkeys(means["layer"]))
    figure, axes = new_figure(PAGE_INCHES, 2.6)
    for place, (bits, colour) in enumerate(colours(["8", "4"]).items()):
        rows = means[means["bits"] == bits]
        style = {"color": colour, "marker": MARKERS[place], "label": f"{bits} bits"}
        interval_line(axes, rows.assign(place=range(len(rows))), "place", "ratio_db", **style)
    axes.set(ylabel="signal / rounding noise [dB]", xlabel="layer")
    turned = {"rotation": 60, "ha": "right"} if len(layers) > 8 else {}
    axes.set_xticks(range(len(layers)), layers, **turned)
    axes.legend(loc="best")
    return figure


def start(config: Config) -> None:
    """Run, print the table, write the figures and the table beside the results."""
    from analysis.figures import save_figure
    from analysis.lab.publishing import publish

    frame = run(config)
    pdf, png = save_figure(plot_noise(frame), folder_of(config).path, "signal_to_noise")
    publish(
        folder_of(config), "quantization_table", means=summary(frame), table=table(frame),
        lines=headline(frame, config), figure=plot(frame, config),
    )  # fmt: skip
    print(f"figure:  {pdf}, {png.name}")


def main(arguments: Sequence[str] | None = None) -> None:
    execute(Config, PRESETS, start, arguments)


if __name__ == "__main__":
    main()
