"""What the rows of the pruning experiment say: summary, table, sentences, figure."""

import math
from typing import TYPE_CHECKING, Any

from analysis.lab.criteria import LABELS as CRITERION_LABELS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

from analysis.lab.reporting.columns import axis_label
from analysis.lab.reporting.summaries import once_for_the_same_rows
from analysis.pruning_curve.config import Config
from capacity.columns import counted
from capacity.figures import styled
from capacity.tables import Table

LABELS = CRITERION_LABELS | {
    f"{name} + teacher": f"{label}, dense teacher" for name, label in CRITERION_LABELS.items()
}


@once_for_the_same_rows
def summary(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Mean and 95 % interval over seeds of each amount, and the paired difference to the reference."""
    from analysis.lab.measurement.statistics import paired_difference, summarize

    frame = frame.assign(
        file_ratio=frame["file_bytes"] / frame["dense_file_bytes"],
        theoretical_ratio=frame["theoretical_bytes"] / frame["dense_file_bytes"],
        latency_ratio=frame["latency_ms"] / frame["dense_latency_ms"],
    )
    columns = [
        "top1_error", "top5_error", "density", "live_parameters", "capacity_bits", "points_per_bit",
        "file_bytes", "file_ratio", "theoretical_ratio", "latency_ratio",
    ]  # fmt: skip
    by = ["criterion", "amount"]
    against = paired_difference(frame, "top1_error", against=reference(frame), keys=["seed"], by=by)
    return summarize(frame, by, columns).merge(against, on=by, how="left")


def reference(frame: "pd.DataFrame") -> str:
    """What errors are compared with: the control that was trained as long, or the dense network."""
    return "control" if "control" in set(frame["criterion"]) else "dense"


def table(frame: "pd.DataFrame", config: Config | None = None) -> Table:
    """The summary as a table."""
    from analysis.lab.reporting.columns import setting, table_of

    names = (
        "criterion", "amount", "top1_error", "top1_error_difference", "live_parameters", "points_per_bit",
        "file_bytes", "file_ratio", "theoretical_ratio", "latency_ratio", "top5_error",
    )  # fmt: skip
    caption = f"Pruned by each criterion and amount: {setting(frame, config)}"
    return table_of(
        summary(frame), names, against=reference(frame), caption=caption, label="tab:pruning-curve"
    )


def equal_accuracy(frame: "pd.DataFrame", tolerance: float) -> "pd.DataFrame":
    """For each criterion the largest amount shown to err at most `tolerance` more than the reference."""
    from analysis.lab.measurement.verdict import Estimate, difference

    means = summary(frame)
    gaps = zip(means["top1_error_difference_mean"], means["top1_error_difference_half_width"], strict=True)
    equal = means[[difference(Estimate(*gap), margin=tolerance).not_worse for gap in gaps]]
    names = [name for name in means["criterion"].unique() if name not in ("dense", "control")]
    largest = equal.groupby("criterion")["amount"].max()
    return largest.reindex(names).rename("amount").rename_axis("criterion").reset_index()


def under_teacher(frame: "pd.DataFrame", *, quick: bool = False) -> list[str]:
    """What the dense teacher was worth, paired over seeds, at each amount."""
    from analysis.lab.measurement.statistics import paired_difference
    from analysis.lab.measurement.verdict import Estimate, difference
    from analysis.lab.reporting.columns import points

    lines = []
    for name in [
        name for name in frame["criterion"].unique() if f"{name} + teacher" in set(frame["criterion"])
    ]:
        pair = frame[frame["criterion"].isin([name, f"{name} + teacher"])]
        keys, by = ["seed", "amount"], ["criterion", "amount"]
        for row in paired_difference(pair, "top1_error", against=name, keys=keys, by=by).to_dict("records"):
            gap, half = row["top1_error_difference_mean"], row["top1_error_difference_half_width"]
            verdict = difference(Estimate(gap, half), quick=quick)
            lines.append(
                f"{name} at {100 * row['amount']:.4g} % pruned, retrained under the dense teacher: "
                f"{points(gap, half)} points against plain retraining: {verdict}"
            )
    return lines


def headline(frame: "pd.DataFrame", config: Config) -> list[str]:
    """What the run says, in a few sentences."""
    from analysis.lab.literature import published
    from analysis.lab.measurement.verdict import Estimate, Verdict, compare
    from analysis.lab.reporting.columns import setting

    retrained = {
        "gradual": f"pruned gradually over {counted(config.epochs, 'epoch')}",
        "rewind": f"rewound to epoch {config.snapshot_epoch} after each amount",
    }.get(config.schedule, f"{config.schedule}, retrained for {counted(config.retrain_epochs, 'epoch')}")
    lines = [setting(frame, config, f"{config.unit}s pruned {config.scope}ly, {retrained}")]
    for row in equal_accuracy(frame, config.tolerance).to_dict("records"):
        points = f"{100 * config.tolerance:g} points of {reference(frame)}"
        none = math.isnan(row["amount"])
        shown = "no amount shown to be" if none else f"up to {100 * row['amount']:.4g} % pruned"
        if config.smoke:
            shown = str(Verdict.QUICK_PASS) + " on what is"
        lines.append(f"{row['criterion']}: {shown} within {points}")
    lines += under_teacher(frame, quick=config.smoke)
    means = summary(frame).set_index(["criterion", "amount"])
    for point in published(config.model, config.dataset).to_dict("records"):
        if (point["criterion"], point["amount"]) in means.index and point["unit"] == config.unit:
            row = means.loc[(point["criterion"], point["amount"])]
            ours = row["top1_error_mean"]
            measured = Estimate(float(ours), float(row["top1_error_half_width"]))
            verdict = compare(measured, Estimate(point["top1_error"], 0.0), margin=0, quick=config.smoke)
            lines.append(
                f"{point['source']}: {100 * point['top1_error']:.2f} % "
                f"at {100 * point['amount']:.4g} % pruned; ours {100 * ours:.2f} %: {verdict}"
            )
    if bool(frame["mask_only"].any()):
        lines.append("mask only: nothing became smaller or faster, see the bytes of the file and the time")
    return lines


@styled
def plot(frame: "pd.DataFrame", config: Config) -> "Figure":
    """Error against the amount pruned, published points beside it; bytes and time, measured, below."""
    from analysis.lab.reporting import figures

    means = summary(frame)
    names = [name for name in means["criterion"].unique() if name not in ("dense", "control")]
    colour, mark = figures.colours(names), figures.marks(names)
    figure, (left, right) = figures.new_figure(figures.PAGE_INCHES, 3.1, ncols=2)
    for name in names:
        rows = means[means["criterion"] == name]
        rows = rows.assign(remaining=1 - rows["amount"], percent_mean=100 * rows["top1_error_mean"],
                           percent_half_width=100 * rows["top1_error_half_width"])  # fmt: skip
        style = {"color": colour[name], "marker": mark[name], "label": LABELS[name]}
        figures.interval_line(left, rows, "remaining", "percent", limits=(0, 100), **style)
        ratio = style | {"label": None}
        figures.interval_line(right, rows, "remaining", "file_ratio", limits=(0, math.inf), **ratio)
        time = ratio | {"linestyle": ":", "fillstyle": "none"}
        figures.interval_line(right, rows, "remaining", "latency_ratio", limits=(0, math.inf), **time)
    unpruned = means[means["criterion"] == reference(frame)]["top1_error_mean"].iloc[0]
    left.axhline(100 * unpruned, color=figures.GREY, linestyle="--", label=f"{reference(frame)}, not pruned")
    _draw_published(left, config, len(names))
    densities = means.loc[means["criterion"] == names[0], "amount"].rsub(1)
    theory = {"color": "black", "linestyle": "-.", "linewidth": 0.9}
    right.plot(densities, densities, label="4 bytes a weight, in theory", **theory)
    left.set(ylabel=axis_label("top1_error"))
    errors = 100 * means["top1_error_mean"]
    if errors.max() > 10 * max(errors.min(), 1e-9):
        figures.log_axis(left, "y", percent=True)
    else:
        left.set_ylim(max(0, left.get_ylim()[0]), min(100, left.get_ylim()[1]))
    right.set(ylabel="fraction of the dense network's", ylim=(0, None))
    count = frame["seed"].nunique()
    for axes in (left, right):
        _density_axis(axes, densities, config.unit)
    title = f"bars: 95 % interval over {count} seeds" if count > 1 else "one seed"
    figure.legend(*_explained(left, right), loc="outside upper center", ncols=3, title=title)
    return figure


def _explained(left: "Axes", right: "Axes") -> tuple[list[Any], list[str]]:
    """What the marks of both panels mean: colours by criterion, and filled or hollow for bytes and time."""
    from matplotlib.lines import Line2D

    from analysis.lab.reporting.figures import GREY

    handles, labels = left.get_legend_handles_labels()
    theory, theoretical = right.get_legend_handles_labels()
    measured = [
        Line2D([], [], color=GREY, marker="o", linestyle="-"),
        Line2D([], [], color=GREY, marker="o", linestyle=":", fillstyle="none"),
    ]
    return [*handles, *measured, *theory], [*labels, "bytes of the file", "time", *theoretical]


def _draw_published(axes: "Axes", config: Config, criteria: int) -> None:
    from analysis.lab.literature import published

    points = published(config.model, config.dataset)
    groups = points[points["amount"] > 0].groupby(["source", "criterion"], sort=False)
    for place, ((source, criterion), rows) in enumerate(groups):
        label = f"published: {source}" + ("" if criteria == 1 else f", {criterion}")
        axes.plot(
            1 - rows["amount"], 100 * rows["top1_error"], marker="*x+1"[place % 4], color="black",
            linestyle="none", markersize=6, label=label,
        )  # fmt: skip


def _density_axis(axes: "Axes", densities: "pd.Series", unit: str) -> None:
    """Share of units kept, from all to few; logarithmic where it spans more than a factor of five."""
    from analysis.lab.reporting.figures import log_axis, spaced

    axes.set_xlabel(f"{unit}s kept [%] →")
    if densities.max() > 5 * densities.min():
        log_axis(axes, "x")
    axes.xaxis.set_major_formatter(spaced(lambda value, place: f"{100 * value:.4g}"))
    axes.invert_xaxis()
