"""What the rows of the squeezing experiment say: summary, table, sentences, figure."""

import math
from typing import TYPE_CHECKING

from analysis.capacity_curve.config import Config
from analysis.lab.criteria import LABELS
from analysis.lab.reporting.summaries import once_for_the_same_rows
from capacity.columns import percent
from capacity.figures import styled
from capacity.tables import Table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@once_for_the_same_rows
def summary(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Mean and 95 % interval over seeds of each step, and the paired difference to the control."""
    from analysis.lab.measurement.statistics import paired_difference, summarize

    columns = ["capacity_bits", "correct", "top1_error", "points_per_bit", "bits_per_bit", "kappa"]
    means = summarize(frame, ["criterion", "step"], columns)
    against = paired_difference(frame, "top1_error", against="control")
    return means.merge(against, on=["criterion", "step"], how="left")


def table(frame: "pd.DataFrame", config: Config | None = None) -> Table:
    """The summary as a table."""
    from analysis.lab.reporting.columns import setting, table_of

    names = (
        "criterion", "step", "capacity_bits", "correct", "top1_error", "top1_error_difference",
        "points_per_bit", "bits_per_bit", "kappa",
    )  # fmt: skip
    caption = f"Squeezed step by step, beside a control: {setting(frame, config)}"
    return table_of(summary(frame), names, against="control", caption=caption, label="tab:capacity-curve")


def headline(frame: "pd.DataFrame", config: Config | None = None) -> list[str]:
    """What the run says, in a sentence per criterion."""
    from analysis.lab.reporting.columns import setting, with_interval

    means = summary(frame).set_index(["criterion", "step"])
    lines = [setting(frame, config)]
    last = int(frame["step"].max())
    for name in frame["criterion"].unique():
        if name == "control" or last == 0:
            continue
        first, end = means.loc[(name, 0)], means.loc[(name, last)]
        gap = with_interval(end.to_dict(), "top1_error_difference")
        left = end["capacity_bits_mean"] / first["capacity_bits_mean"]
        gain = end["points_per_bit_mean"] / first["points_per_bit_mean"]
        lines.append(
            f"{name}: after {last} squeezes {percent(left, 1)} of the capacity is left, top-1 error is "
            f"{gap} points "
            f"from the control's, and every bit carries {gain:.2f} times the points it did"
        )
    return lines


@styled
def plot(frame: "pd.DataFrame", config: Config | None = None) -> "Figure":
    """Correct points and rho against capacity, mean and interval over seeds, control beside them."""
    from analysis.lab.reporting import figures

    means, total = summary(frame), int(frame["total"].iloc[0])
    names = list(frame["criterion"].unique())
    colour, mark = figures.colours(names), figures.marks(names)
    figure, (left, right) = figures.new_figure(figures.PAGE_INCHES, 2.6 + 0.15 * (len(names) > 3), ncols=2)
    squeezed = means[means["criterion"] == names[0]].set_index("step")["capacity_bits_mean"]
    for place, name in enumerate(names):
        rows = means[means["criterion"] == name]
        if name == "control":  # it keeps its capacity; drawn at the capacity of its squeezed twin
            bits, start = rows["step"].map(squeezed), rows["capacity_bits_mean"].iloc[0]
            label = f"control: trained as long, not squeezed (stays at {start:,.0f} bit)"
            style = {"linestyle": "--", "marker": "x", "label": label}
        else:
            bits = rows["capacity_bits_mean"]
            style = {"marker": mark[name], "label": f"squeezed by {LABELS[name]}"}
        bits = bits * 1.012 ** ((len(names) - 1) / 2 - place)  # a bit aside, so that intervals do not overlap
        rows = rows.assign(bits=bits)
        for axes, y, limits in ((left, "correct", (0, total)), (right, "points_per_bit", (0, math.inf))):
            figures.interval_line(axes, rows, "bits", y, limits=limits, color=colour[name], **style)
    left.set(ylabel=f"correct test points (of {total:,})")
    right.set(ylabel=r"$\rho = N/C$ [points/bit]", ylim=(0, None))
    for axes in (left, right):
        axes.set_xlabel(f"capacity [bit], convention “{frame['convention'].iloc[0]}” →")
        figures.capacity_axis(axes, squeezed)
    handles, labels = left.get_legend_handles_labels()
    count = frame["seed"].nunique()
    title = f"bars: 95 % interval of the mean over {count} seeds" if count > 1 else "one seed"
    figure.legend(handles, labels, loc="outside upper center", ncols=min(3, len(names)), title=title)
    return figure
