"""What the rows of the quantization experiment say: summary, table, sentences, figure."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

from analysis.lab.reporting.style import styled
from analysis.quantization_table.config import Config


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


def table(frame: "pd.DataFrame") -> str:
    """The summary as text."""
    from rich.table import Table

    from analysis.lab.reporting.latex import with_interval
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
    from analysis.lab.measurement.statistics import slower, timing_threads
    from analysis.lab.measurement.verdict import Verdict

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
        if name != "float" and slower(row, quick=config.smoke):
            lines.append(f"{name}: smaller, but slower than float here")
    if config.smoke or frame.groupby("scheme")["speedup_1"].count().max() < 2:
        lines.append(f"speed-ups: {Verdict.QUICK_PASS if config.smoke else Verdict.ONE_SEED}")
    return lines


@styled
def plot(frame: "pd.DataFrame", config: Config) -> "Figure":
    """Error, bytes of the file and speed-up of each scheme, a row each; mean and interval over seeds."""
    from matplotlib.ticker import MaxNLocator

    from analysis.lab.reporting.figures import PAGE_INCHES, colours, log_ticks, new_figure, short_number

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
    from analysis.lab.measurement.statistics import summarize

    columns = [name for name in frame.columns if name.startswith("noise_db_")]
    rows = frame[frame["scheme"] == "float"].melt("seed", columns, value_name="ratio_db").dropna()
    parts = rows["variable"].str.extract(r"noise_db_(?P<bits>\d)_(?P<layer>.*)")
    return summarize(rows.assign(**parts), ["bits", "layer"], ["ratio_db"])


@styled
def plot_noise(frame: "pd.DataFrame") -> "Figure":
    """How far above its rounding noise each layer's output lies, in order of the layers."""
    from analysis.lab.reporting.figures import MARKERS, PAGE_INCHES, colours, interval_line, new_figure

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
