"""What the rows of the squeezing experiment say: summary, table, sentences, figure."""

from typing import TYPE_CHECKING

from analysis.capacity_curve.config import Config
from analysis.lab.criteria import LABELS
from analysis.lab.reporting.style import styled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def summary(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Mean and 95 % interval over seeds of each step, and the paired difference to the control."""
    from analysis.lab.measurement.statistics import paired_difference, summarize

    columns = ["capacity_bits", "correct", "top1_error", "points_per_bit", "bits_per_bit", "kappa"]
    means = summarize(frame, ["criterion", "step"], columns)
    against = paired_difference(frame, "top1_error", against="control")
    return means.merge(against, on=["criterion", "step"], how="left")


def table(frame: "pd.DataFrame") -> str:
    """The summary as text."""
    from rich.table import Table

    from analysis.lab.reporting.latex import with_interval
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


def headline(frame: "pd.DataFrame", config: Config | None = None) -> list[str]:
    """What the run says, in a sentence per criterion."""
    from analysis.lab.reporting.latex import with_interval

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


@styled
def plot(frame: "pd.DataFrame", config: Config | None = None) -> "Figure":
    """Correct points and rho against capacity, mean and interval over seeds, control beside them."""
    from analysis.lab.reporting.figures import (
        MARKERS,
        PAGE_INCHES,
        capacity_axis,
        colours,
        interval_line,
        new_figure,
    )

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
