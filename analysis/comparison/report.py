"""What the rows of the comparison experiment say: summary, table, sentences, figure."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.lab.measurement.ranking import Ranking
from analysis.comparison.config import Config
from analysis.lab.reporting.style import styled


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
    whole = [name for name, rows in frame.groupby("technique", sort=False) if len(rows) == len(seeds)]
    right = {}
    for name in whole:
        rows = frame[frame["technique"] == name].sort_values("seed")
        pairs = zip(rows["right"], rows["total"], strict=True)
        right[str(name)] = np.stack([unpacked(digits, int(total)) for digits, total in pairs])
    return rank(right) if len(right) > 1 else None


def table(frame: "pd.DataFrame") -> str:
    """The summary as text: what it can do and what it costs to keep, then what it costs to run."""
    from rich.table import Table

    from analysis.lab.measurement.deployment import METRICS
    from analysis.lab.reporting.latex import with_interval
    from capacity.report import render

    means, parts = summary(frame), []
    kept = {name: cell for name, cell in METRICS.items() if f"{name}_mean" in means.columns}
    cut = list(kept).index("flops")
    for names in (list(kept)[:cut], list(kept)[cut:]):
        shown = Table()
        shown.add_column("technique")
        for name in names:
            shown.add_column(kept[name][0], justify="right")
        for row in means.to_dict("records"):
            cells = [with_interval(row, name, kept[name][2], kept[name][1]) for name in names]
            shown.add_row(row["technique"] + " (mask only)" * row["mask_only"], *cells)
        parts.append(render(shown, width=190))
    return "\n".join(parts)


def headline(frame: "pd.DataFrame", config: Config) -> list[str]:
    """What the run says: the setting, the ranking, who cannot be told apart, who is really faster."""
    from analysis.lab.measurement.statistics import slower, timing_threads

    total, seeds = int(frame["total"].iloc[0]), frame["seed"].nunique()
    lines = [
        f"{config.model} on {config.dataset}, {total:,} test points, "
        f"{int(frame['classes'].iloc[0])} classes, {seeds} seeds, "
        f"convention {frame['convention'].iloc[0]!r}; ± is a 95 % interval of the mean over seeds; "
        f"times beside the baseline's in one process, {timing_threads(frame)} threads; "
        f"a multiply-add is two FLOPs, of dense kernels, which multiply zeros too"
    ]
    found = ranking(frame)
    if found is not None:
        places = [f"{name} [{found.ranks[name][0]}-{found.ranks[name][1]}]" for name in found.names]
        lines.append("by error, with the 95 % interval of the rank: " + ", ".join(places))
        lines += [str(pair) for pair in found.doubts()]
    if config.processes > 1 or config.scheduler:
        lines.append("times were taken beside other cells; with --processes 1 they are cleaner")
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
    from matplotlib.colors import to_rgba
    from matplotlib.lines import Line2D

    from analysis.lab.reporting.figures import PAGE_INCHES, colours, log_ticks, new_figure, short_number

    means = summary(frame)
    names = list(means["technique"])
    colour = dict(zip(names, colours([*names]).values(), strict=True))
    marks = dict(zip(names, "osD^v<>PXphd*8"[: len(names)], strict=True))
    figure, panels = new_figure(PAGE_INCHES, 3.3, ncols=2, sharey=True)
    axis_of = {"file_bytes": "file [bytes]", "speedup_32": "speed-up over the baseline, batch of 32"}
    for axes, (x, label) in zip(panels, axis_of.items(), strict=True):
        rows = means[means[f"{x}_mean"].notna()]
        for row in rows.to_dict("records"):
            half = {key: row[f"{key}_half_width"] for key in (x, "top1_error")}
            axes.errorbar(
                row[f"{x}_mean"], 100 * row["top1_error_mean"], color=colour[row["technique"]],
                ecolor=to_rgba(colour[row["technique"]], 0.45),
                marker=marks[row["technique"]], linestyle="none", capsize=2, elinewidth=0.7, markersize=5,
                xerr=half[x] if half[x] == half[x] and half[x] < row[f"{x}_mean"] else 0,
                yerr=100 * half["top1_error"] if half["top1_error"] == half["top1_error"] else 0,
            )  # fmt: skip
        costs = rows[f"{x}_mean"] * (-1 if x == "speedup_32" else 1)
        front = pareto(costs.tolist(), rows["top1_error_mean"].tolist())
        points = rows.iloc[front].sort_values(f"{x}_mean")
        side = "pre" if x == "speedup_32" else "post"
        errors = 100 * points["top1_error_mean"]
        axes.step(points[f"{x}_mean"], errors, where=side, color="0.6", zorder=0, linewidth=0.9)
        axes.set_xscale("log")
        log_ticks(axes.xaxis, subs=(1, 2, 5) if x == "speedup_32" else (1, 3))
        axes.xaxis.set_major_formatter(short_number)
        axes.set_xlabel(label)
    panels[0].set_ylabel("top-1 error [%]")
    handles = [
        Line2D([], [], color=colour[n], marker=marks[n], linestyle="none", markersize=5) for n in names
    ]
    figure.legend(handles, names, loc="outside right center", title="grey: Pareto front", title_fontsize=7)
    return figure


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
