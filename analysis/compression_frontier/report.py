"""What the rows of the compression experiment say: summary, table, sentences, figure."""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.lab.literature import Record
    from analysis.lab.measurement.verdict import Judgement

from analysis.compression_frontier.config import LABELS, Config
from analysis.lab.reporting.columns import axis_label
from analysis.lab.reporting.summaries import once_for_the_same_rows
from capacity.figures import styled
from capacity.tables import Table


@once_for_the_same_rows
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


def table(frame: "pd.DataFrame", config: Config | None = None) -> Table:
    """The summary as a table."""
    from analysis.lab.reporting.columns import setting, table_of

    names = (
        "method", "density", "top1_error", "top1_error_difference", "file_bytes", "compression_ratio",
        "entropy_bytes", "book_bytes", "bias_bytes", "nonzero_parameters", "points_of_all_per_bit",
    )  # fmt: skip
    caption = f"Error against bytes of the whole file: {setting(frame, config)}"
    return table_of(summary(frame), names, against="dense", caption=caption, label="tab:compression-frontier")


def headline(frame: "pd.DataFrame", config: Config) -> list[str]:
    """What the run says, in a few sentences: each published record, and ours beside it."""
    from analysis.lab.literature import compression_records
    from analysis.lab.reporting.columns import setting

    dense = int(frame["dense_bytes"].iloc[0])
    lines = [
        setting(frame, config, f"{dense:,} bytes in single precision")
        + "; bytes are those of the file, header, code books and biases included, and the error is that "
        "of the network read back from it"
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
    published = f"{record.source}: {record.compression_ratio:g}x at {100 * error:.2f} %"
    within = means[means["top1_error_mean"] <= error + 1e-12]
    if len(within):
        best = within.nlargest(1, "compression_ratio_mean").iloc[0]
    else:
        best = means.nsmallest(1, "top1_error_mean").iloc[0]
    ours = f"{best['compression_ratio_mean']:.0f}x at {100 * best['top1_error_mean']:.2f} %"
    verdict = _judged(best, record, quick)
    return f"{published}; ours {ours} ({best['method']}, {100 * best['density']:g} % kept): {verdict}"


@styled
def plot(frame: "pd.DataFrame", config: Config) -> "Figure":
    """Error against bytes of the file, with intervals of both, and the published records."""
    from analysis.lab.literature import compression_records
    from analysis.lab.reporting import figures

    means = summary(frame)
    figure, axes = figures.new_figure(figures.COLUMN_INCHES, 3.4)
    names = [name for name in LABELS if name in set(means["method"])]
    colour, mark = figures.colours(names), figures.marks(names)
    least = 0.05 * float(means["file_bytes_mean"].min())  # the axis is logarithmic
    for name in names:
        rows = means[means["method"] == name].sort_values("file_bytes_mean")
        errors, bytes_of = 100 * rows["top1_error_mean"], rows["file_bytes_mean"]
        axes.errorbar(
            bytes_of, errors,
            xerr=figures.bounded_bars(bytes_of, rows["file_bytes_half_width"], least, math.inf),
            yerr=figures.bounded_bars(errors, 100 * rows["top1_error_half_width"], 0, 100),
            color=colour[name], marker=mark[name], capsize=2, elinewidth=0.8, label=LABELS[name],
        )  # fmt: skip
    dense = float(frame["dense_bytes"].iloc[0])
    for place, record in enumerate(compression_records(config.model, config.dataset)):
        axes.plot(
            dense / record.compression_ratio, 100 * record.top1_error, marker="*x+1234|"[place % 8],
            color="black", linestyle="none", markersize=6, label=f"published: {record.source}",
        )  # fmt: skip
    figures.log_axis(axes, "x")
    axes.set(xlabel=axis_label("file_bytes"), ylabel=axis_label("top1_error"))
    count = frame["seed"].nunique()
    title = f"bars: 95 % intervals over {count} seeds" if count > 1 else "one seed"
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, fontsize=6, title=title)
    return figure
