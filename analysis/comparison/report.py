"""What the rows of the comparison experiment say: summary, table, sentences, figure."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.lab.measurement.ranking import Ranking
from analysis.comparison.config import Config
from analysis.lab.reporting.columns import axis_label
from capacity.figures import styled
from capacity.tables import Table

SHOWN = 3  # pairs that cannot be told apart, up to which each is named


def summary(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Mean and 95 % interval over seeds of every figure, and the paired difference to the control's error."""
    from analysis.lab.measurement.deployment import METRICS
    from analysis.lab.measurement.statistics import paired_difference, summarize

    columns = [name for name in METRICS if name in frame.columns and frame[name].notna().any()]
    means = summarize(frame, ["technique"], columns)
    flags = frame.groupby("technique", sort=False)[["mask_only", "execution"]].first().reset_index()
    means = means.merge(flags, on="technique")
    against = paired_difference(
        frame, "top1_error", against="baseline", keys=["seed"], by=["technique"], column_name="technique"
    )
    return means.merge(against, on="technique", how="left")


def ranking(frame: "pd.DataFrame") -> "Ranking | None":
    """The techniques by error, from the test points that each got right; None for fewer than two of them."""
    import numpy as np

    from analysis.lab.measurement.deployment import unpacked
    from analysis.lab.measurement.ranking import rank

    if "right" not in frame.columns:  # results.csv leaves it out
        return None
    seeds = sorted(frame["seed"].unique())
    complete = [name for name, rows in frame.groupby("technique", sort=False) if len(rows) == len(seeds)]
    right = {}
    for name in complete:
        rows = frame[frame["technique"] == name].sort_values("seed")
        pairs = zip(rows["right"], rows["total"], strict=True)
        right[str(name)] = np.stack([unpacked(digits, int(total)) for digits, total in pairs])
    return rank(right) if len(right) > 1 else None


def table(frame: "pd.DataFrame", config: Config | None = None) -> Table:
    """The summary as a table: what it can do, what it costs to keep, what it costs to run."""
    from analysis.lab.measurement.deployment import METRICS
    from analysis.lab.reporting.columns import setting, table_of

    means = summary(frame)
    masked = means["mask_only"].map(lambda alone: " (mask only)" if alone else "")
    names = ("technique", METRICS[0], "top1_error_difference", *METRICS[1:])
    caption = f"Techniques from the same trained networks, measured one way: {setting(frame, config)}"
    return table_of(
        means.assign(technique=means["technique"] + masked), names, against="baseline", caption=caption,
        label="tab:comparison",
    )  # fmt: skip


def headline(frame: "pd.DataFrame", config: Config) -> list[str]:
    """What the run says: the setting, the ranking, who cannot be told apart, who is really faster."""
    from analysis.lab.measurement.statistics import differs_from_itself, slower, timing_threads
    from analysis.lab.reporting.columns import setting

    lines = [
        f"{setting(frame, config)}; times beside the baseline's in one process, "
        f"threads: {timing_threads(frame)}; a multiply-add is two FLOPs, of dense kernels, which multiply "
        f"zeros too"
    ]
    ranks = ranking(frame)
    if ranks is not None:
        places = [f"{name} [{ranks.ranks[name][0]}-{ranks.ranks[name][1]}]" for name in ranks.names]
        lines.append(
            "by error, with the ranks that are possible where pairs are told apart at 5 % (Holm): "
            + ", ".join(places)
        )
        doubts = ranks.doubts()
        if len(doubts) > SHOWN and not config.wide:
            lines.append(
                f"{len(doubts)} of {len(ranks.names) - 1} neighbours in this order cannot be told apart; "
                f"each pair and its interval with --wide"
            )
        else:
            lines += [str(pair) for pair in doubts]
    if config.processes > 1 or config.scheduler:
        lines.append("times were taken beside other cells; with --processes 1 they are cleaner")
    if "steady" in frame and not frame["steady"].all():
        rows = frame.loc[~frame["steady"].astype(bool), "technique"]
        lines.append(f"times of {', '.join(rows.unique())} are unsteady: take them again on a quiet machine")
    alone = frame.loc[frame["technique"] == "baseline", ["speedup_1", "speedup_32"]]
    lines += filter(None, [differs_from_itself(alone, "whole")])
    means = summary(frame).set_index("technique")
    for name, row in means.iterrows():
        if row["mask_only"]:
            lines.append(f"{name}: a mask only, which makes nothing smaller or faster as it stands")
        elif slower(row, quick=config.smoke) and name != "baseline":
            lines.append(f"{name}: not faster than the float baseline here ({row['execution']})")
    return lines


@styled
def plot(frame: "pd.DataFrame", config: Config) -> "Figure":
    """Error against bytes of the file and against speed-up, mean and interval, with both Pareto fronts."""
    from matplotlib.lines import Line2D

    from analysis.lab.reporting import figures

    means = summary(frame)
    names = list(means["technique"])
    colour = {name: figures.COLOURS[place % len(figures.COLOURS)] for place, name in enumerate(names)}
    mark = figures.marks(names)
    figure, panels = figures.new_figure(figures.PAGE_INCHES, 3.3, ncols=2, sharey=True)
    for axes, x in zip(panels, ("file_bytes", "speedup_32"), strict=True):
        rows = means[means[f"{x}_mean"].notna()]
        for name, row in rows.groupby("technique", sort=False):
            _draw_technique(axes, row, x, {"color": colour[str(name)], "marker": mark[str(name)]})
        _draw_front(axes, rows, x)
        figures.log_axis(axes, "x", percent=x == "speedup_32")
        axes.set_xlabel(axis_label(x) if x == "file_bytes" else "speed-up over the baseline, batch of 32")
    panels[0].set_ylabel(axis_label("top1_error"))
    low, high = panels[0].get_ylim()
    panels[0].set_ylim(max(0, low), min(100, high))
    handles = [Line2D([], [], color=colour[n], marker=mark[n], linestyle="none", markersize=5) for n in names]
    handles.append(Line2D([], [], color=figures.GREY, linewidth=0.9))
    count = frame["seed"].nunique()
    title = "bars: 95 % interval\nover seeds" if count > 1 else "one seed"
    figure.legend(handles, [*names, "Pareto front"], loc="outside right center", title=title)
    return figure


def _draw_technique(axes: "Axes", row: "pd.DataFrame", x: str, style: dict[str, Any]) -> None:
    """A technique's mean, and its intervals cut where no error or ratio can be."""
    from matplotlib.colors import to_rgba

    from analysis.lab.reporting.figures import bounded_bars

    error, across = 100 * row["top1_error_mean"], row[f"{x}_mean"]
    least = 0.5 * float(across.iloc[0])  # the axis is logarithmic
    axes.errorbar(
        across, error, ecolor=to_rgba(style["color"], 0.45), linestyle="none", capsize=2, elinewidth=0.7,
        markersize=5, xerr=bounded_bars(across, row[f"{x}_half_width"], least, math.inf),
        yerr=bounded_bars(error, 100 * row["top1_error_half_width"], 0, 100), **style,
    )  # fmt: skip


def _draw_front(axes: "Axes", rows: "pd.DataFrame", x: str) -> None:
    from analysis.lab.reporting.figures import GREY

    faster = x == "speedup_32"
    costs = rows[f"{x}_mean"] * (-1 if faster else 1)
    front = rows.iloc[pareto(costs.tolist(), rows["top1_error_mean"].tolist())].sort_values(f"{x}_mean")
    errors = 100 * front["top1_error_mean"]
    axes.step(
        front[f"{x}_mean"], errors, where="pre" if faster else "post", color=GREY, zorder=0, linewidth=0.9
    )


def pareto(costs: Sequence[float], errors: Sequence[float]) -> list[int]:
    """Places of the points that no other beats in cost and error at once.

    >>> pareto([1, 2, 3], [0.3, 0.1, 0.2])
    [0, 1]
    """
    pairs = list(zip(costs, errors, strict=True))
    return [
        place
        for place, (cost, error) in enumerate(pairs)
        if not any((c <= cost and e <= error) and (c < cost or e < error) for c, e in pairs)
    ]
