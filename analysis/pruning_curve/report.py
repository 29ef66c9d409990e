"""What the rows of the pruning experiment say: summary, table, sentences, figure."""

import math
from typing import TYPE_CHECKING

from analysis.lab.criteria import LABELS as CRITERION_LABELS
from analysis.lab.reporting.style import styled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

from analysis.pruning_curve.config import Config

LABELS = CRITERION_LABELS | {
    f"{name} + teacher": f"{label}, dense teacher" for name, label in CRITERION_LABELS.items()
}


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


def table(frame: "pd.DataFrame") -> str:
    """The summary as text."""
    from rich.table import Table

    from analysis.lab.reporting.latex import with_interval
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
    """For each criterion the largest amount shown to err at most `tolerance` more than the reference."""
    from analysis.lab.measurement.verdict import Estimate, difference

    means = summary(frame)
    gaps = zip(means["top1_error_difference_mean"], means["top1_error_difference_half_width"], strict=True)
    kept = means[[difference(Estimate(*gap), margin=tolerance).not_worse for gap in gaps]]
    names = [name for name in means["criterion"].unique() if name not in ("dense", "control")]
    largest = kept.groupby("criterion")["amount"].max()
    return largest.reindex(names).rename("amount").rename_axis("criterion").reset_index()


def under_teacher(frame: "pd.DataFrame", *, quick: bool = False) -> list[str]:
    """What the dense teacher was worth, paired over seeds, at each amount."""
    from analysis.lab.measurement.statistics import paired_difference
    from analysis.lab.measurement.verdict import Estimate, difference

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
                f"{100 * gap:+.2f} ± {100 * half:.2f} points against plain retraining: {verdict}"
            )
    return lines


def headline(frame: "pd.DataFrame", config: Config) -> list[str]:
    """What the run says, in a few sentences."""
    from analysis.lab.literature import published
    from analysis.lab.measurement.verdict import Estimate, Verdict, compare

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
        none = math.isnan(row["amount"])
        found = "no amount shown to be" if none else f"up to {100 * row['amount']:.4g} % pruned"
        if config.smoke:
            found = str(Verdict.QUICK_PASS) + " on what is"
        lines.append(f"{row['criterion']}: {found} within {points}")
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
    from analysis.lab.reporting.figures import (
        MARKERS,
        PAGE_INCHES,
        colours,
        interval_line,
        log_ticks,
        new_figure,
    )

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
        style |= {"linestyle": ":", "label": f"{LABELS[name]}: time"}
        interval_line(right, rows, "kept", "latency_ratio", **style)
    whole = means[means["criterion"] == reference(frame)]["top1_error_mean"].iloc[0]
    left.axhline(100 * whole, color="0.45", linestyle="--", label=f"{reference(frame)}, not pruned")
    _plot_published(left, config, several=len(names) > 1)
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


def _plot_published(axes: "Axes", config: Config, *, several: bool) -> None:
    """What others published of this network and data; with `several` criteria, each point names its own."""
    from analysis.lab.literature import published

    points = published(config.model, config.dataset)
    for place, point in enumerate(points[points["amount"] > 0].to_dict("records")):
        label = f"published: {point['source']}" + (f", {point['criterion']}" if several else "")
        axes.plot(
            1 - point["amount"], 100 * point["top1_error"], marker="*x+1"[place % 4], color="black",
            linestyle="none", markersize=6, label=label,
        )  # fmt: skip


def _kept_axis(axes: "Axes", kept: "pd.Series", unit: str) -> None:
    """Share of units kept, from all to few; logarithmic where it spans more than a factor of five."""
    from analysis.lab.reporting.figures import log_ticks

    axes.set_xlabel(f"{unit}s kept [%] →")
    if kept.max() > 5 * kept.min():
        axes.set_xscale("log")
        log_ticks(axes.xaxis)
    axes.xaxis.set_major_formatter(lambda value, place: f"{100 * value:.4g}")
    axes.invert_xaxis()
