"""What the rows of the compression experiment say: summary, table, sentences, figure."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.lab.literature import Record
    from analysis.lab.measurement.verdict import Judgement

from analysis.compression_frontier.config import LABELS, Config
from analysis.lab.reporting.style import styled


def summary(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Mean and 95 % interval over seeds of each method and density."""
    from analysis.lab.measurement.statistics import paired_difference, summarize

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

    from analysis.lab.reporting.latex import with_interval
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
    from analysis.lab.literature import compression_records

    seeds, total = frame["seed"].nunique(), int(frame["total"].iloc[0])
    dense = int(frame["dense_bytes"].iloc[0])
    lines = [
        f"{config.model} on {config.dataset}, {dense:,} bytes in single precision, {total:,} test points, "
        f"{seeds} seeds; ± is a 95 % interval of the mean; bytes are those of the file, header, code books "
        f"and biases included, and the error is that of the network read back from it"
    ]
    means = summary(frame)
    for record in compression_records(config.model, config.dataset):
        lines.append(_beside(record, means, config.smoke))
    return lines


def _judged(row: "pd.Series", record: "Record", quick: bool) -> "Judgement":
    """Our file beside a record, by size and by error together."""
    from analysis.lab.measurement.verdict import Estimate, compare, together

    size, error = (
        Estimate(float(row[f"{name}_mean"]), float(row[f"{name}_half_width"]))
        for name in ("compression_ratio", "top1_error")
    )
    ratio = Estimate(record.compression_ratio, 0.0)
    return together(
        compare(size, ratio, margin=0, lower_is_better=False, quick=quick),
        compare(error, Estimate(record.top1_error, 0.0), margin=0, quick=quick),
    )


def _beside(record: "Record", means: "pd.DataFrame", quick: bool) -> str:
    """A record, and our smallest file that errs no more, or else the one that errs least."""
    error = record.top1_error
    told = f"{record.source}: {record.compression_ratio:g}x at {100 * error:.2f} %"
    within = means[means["top1_error_mean"] <= error + 1e-12]
    if len(within):
        best = within.nlargest(1, "compression_ratio_mean").iloc[0]
    else:
        best = means.nsmallest(1, "top1_error_mean").iloc[0]
    ours = f"{best['compression_ratio_mean']:.0f}x at {100 * best['top1_error_mean']:.2f} %"
    verdict = _judged(best, record, quick)
    return f"{told}; ours {ours} ({best['method']}, {100 * best['density']:g} % kept): {verdict}"


@styled
def plot(frame: "pd.DataFrame", config: Config) -> "Figure":
    """Error against bytes of the file, with intervals of both, and the published records."""
    from analysis.lab.literature import compression_records
    from analysis.lab.reporting.figures import COLUMN_INCHES, MARKERS, colours, new_figure

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

    from analysis.lab.reporting.figures import log_ticks, short_number

    axes.set_xscale("log")
    log_ticks(axes.xaxis, subs=(1, 3))
    axes.xaxis.set_major_formatter(FuncFormatter(short_number))
    axes.set_xlabel("file [bytes]")
