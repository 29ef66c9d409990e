"""What the rows of the quantization experiment say: summary, table, sentences, figure."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

from analysis.lab.reporting.columns import axis_label
from analysis.lab.reporting.summaries import once_for_the_same_rows
from analysis.quantization_table.config import Config
from capacity.figures import styled
from capacity.tables import Table


@once_for_the_same_rows
def summary(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Mean and 95 % interval over seeds of each scheme, and the paired difference to the float network."""
    from analysis.lab.measurement.statistics import paired_difference, summarize

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


def table(frame: "pd.DataFrame", config: Config | None = None) -> Table:
    """The summary as a table."""
    from analysis.lab.reporting.columns import setting, table_of

    names = (
        "scheme", "top1_error", "top1_error_difference", "agreement_with_float", "state_bytes", "file_bytes",
        "onnx_bytes", "onnx_agreement", "speedup_1", "speedup_32", "onnx_speedup_1", "onnx_speedup_32",
    )  # fmt: skip
    caption = f"Integers scheme by scheme: {setting(frame, config)}"
    return table_of(summary(frame), names, against="float", caption=caption, label="tab:quantization")


def headline(frame: "pd.DataFrame", config: Config) -> list[str]:
    """What the run says, in a few sentences."""
    from analysis.lab.measurement.statistics import differs_from_itself, slower, timing_threads
    from analysis.lab.measurement.verdict import Verdict
    from analysis.lab.reporting.columns import setting

    how = frame.groupby("scheme", sort=False)["execution"].first()
    lines = [
        f"{setting(frame, config)}; speed-up over float eager in the same process, "
        f"CPU threads: {timing_threads(frame)}; first seed's timing",
        "executed: " + ", ".join(f"{name} {execution}" for name, execution in how.items()),
    ]
    lines += _refused(frame)
    means = summary(frame).set_index("scheme")
    worst = noise(frame).query("bits == '4'").nsmallest(3, "ratio_db_mean")
    lines.append(
        "least signal over 4-bit rounding noise: "
        + ", ".join(f"{row.layer} {row.ratio_db_mean:.1f} dB" for row in worst.itertuples())
        + "; quantize(..., keep=[...]) leaves layers in float"
    )
    for name, row in means.iterrows():
        if name != "float" and slower(row, quick=config.smoke):
            lines.append(f"{name}: smaller, but slower than float here")
    alone = frame.loc[frame["scheme"] == "float", ["speedup_1", "speedup_32"]]
    lines += filter(None, [differs_from_itself(alone, "float")])
    if config.smoke or frame.groupby("scheme")["speedup_1"].count().max() < 2:
        lines.append(f"speed-ups: {Verdict.QUICK_PASS if config.smoke else Verdict.ONE_SEED}")
    return lines


def _refused(frame: "pd.DataFrame") -> list[str]:
    """Which schemes have no ONNX file, and why."""
    if "onnx_refused" not in frame:
        return []
    reasons = frame.dropna(subset="onnx_refused").groupby("onnx_refused", sort=False)["scheme"].unique()
    return [f"no ONNX file of {', '.join(schemes)}: {reason}" for reason, schemes in reasons.items()]


@styled
def plot(frame: "pd.DataFrame", config: Config) -> "Figure":
    """Error, bytes of the file and speed-up of each scheme, a row each; mean and interval over seeds."""
    from matplotlib.ticker import MaxNLocator

    from analysis.lab.reporting import figures

    means = summary(frame).iloc[::-1].reset_index(drop=True)
    figure, (left, middle, right) = figures.new_figure(
        figures.PAGE_INCHES, 1.0 + 0.22 * len(means), ncols=3, sharey=True
    )
    error, size, torch, onnx = figures.COLOURS[3], figures.COLOURS[2], *figures.COLOURS[:2]
    rows, count = range(len(means)), frame["seed"].nunique()
    errors = 100 * means["top1_error_mean"]
    bars = figures.bounded_bars(errors, 100 * means["top1_error_half_width"], 0, 100)
    legend = f"mean, 95 % interval, {count} seeds" if count > 1 else "one seed"
    left.errorbar(errors, rows, xerr=bars, fmt="D", color=error, capsize=2, elinewidth=0.9, label=legend)
    if errors.max() > 5 * max(errors.min(), 1e-9):
        figures.log_axis(left, "x", percent=True)
    middle.barh(rows, means["file_bytes_mean"], color=size, height=0.6, label="as shipped")
    middle.xaxis.set_major_formatter(figures.short_number)
    middle.xaxis.set_major_locator(MaxNLocator(4))
    right.plot(means["speedup_32_mean"], rows, "o", color=torch, label="torch")
    if "onnx_speedup_32_mean" in means:
        right.plot(means["onnx_speedup_32_mean"], rows, "s", color=onnx, label="ONNX Runtime", markersize=3)
    right.axvline(1, color=figures.GREY, linestyle="--", label="float, eager")
    left.set(xlabel=axis_label("top1_error"))
    middle.set(xlabel=axis_label("file_bytes"))
    right.set(xlabel="speed-up over float, batch 32", xlim=(0, None))
    left.set_yticks(rows, means["scheme"])
    parts = [axes.get_legend_handles_labels() for axes in (left, middle, right)]
    handles = [handle for part, _ in parts for handle in part]
    labels = [label for _, part in parts for label in part]
    figure.legend(handles, labels, loc="outside upper center", ncols=5)
    return figure


def noise(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Signal-to-quantization-noise ratio of each layer at 8 and 4 bits in dB, over seeds."""
    from analysis.lab.measurement.statistics import summarize

    columns = [name for name in frame.columns if name.startswith("noise_db_")]
    rows = frame[frame["scheme"] == "float"].melt("seed", columns, value_name="ratio_db").dropna()
    parts = rows["variable"].str.extract(r"noise_db_(?P<bits>\d)_(?P<layer>.*)")
    return summarize(rows.assign(**parts), ["bits", "layer"], ["ratio_db"])


@styled
def plot_noise(frame: "pd.DataFrame") -> "Figure":
    """How far above its rounding noise each layer's output lies, in order of the layers."""
    from analysis.lab.reporting import figures

    means = noise(frame)
    layers = list(dict.fromkeys(means["layer"]))
    figure, axes = figures.new_figure(figures.PAGE_INCHES, 2.6 + 0.7 * (len(layers) > 8))
    count = frame["seed"].nunique()
    for bits, colour in figures.colours(["8", "4"]).items():
        rows = means[means["bits"] == bits]
        style = {"color": colour, "marker": figures.MARKERS[bits == "4"], "label": f"{bits} bits"}
        figures.interval_line(axes, rows.assign(place=range(len(rows))), "place", "ratio_db", **style)
    axes.set(ylabel="signal / rounding noise [dB]", xlabel="layer")
    turned = {"rotation": 60, "ha": "right"} if len(layers) > 8 else {}
    axes.set_xticks(range(len(layers)), layers, **turned)
    title = f"bars: 95 % interval over {count} seeds" if count > 1 else "one seed"
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2, title=title)
    return figure
