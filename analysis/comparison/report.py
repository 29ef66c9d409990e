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
from analysis.lab.reporting.columns import axis_label, column
from analysis.lab.reporting.summaries import once_for_the_same_rows
from capacity.figures import styled
from capacity.tables import Table

SHOWN = 3  # pairs that cannot be told apart, up to which each is named


@once_for_the_same_rows
def summary(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Mean and 95 % interval over seeds of every figure, and the paired difference to the control's error."""
    from analysis.lab.measurement.deployment import METRICS
    from analysis.lab.measurement.statistics import summarize

    columns = [name for name in METRICS if name in frame.columns and frame[name].notna().any()]
    means = summarize(frame, ["technique"], columns)
    flags = frame.groupby("technique", sort=False)[["mask_only", "execution"]].first().reset_index()
    means = means.merge(flags, on="technique")
    for name in ("perplexity", "top1_error"):
        if name in columns:
            means = means.merge(_difference(frame, name, "baseline"), on="technique", how="left")
    return means


def _difference(frame: "pd.DataFrame", column: str, against: str) -> "pd.DataFrame":
    """A technique's mean difference to another of the same seeds, NAME_difference_mean and its interval."""
    from analysis.lab.measurement.statistics import paired_difference

    return paired_difference(
        frame, column, against=against, keys=["seed"], by=["technique"], column_name="technique"
    )


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
    first = ("perplexity", "perplexity_difference", "top1_error", "top1_error_difference")
    names = ("technique", *first, *(name for name in METRICS if name not in first))
    names = tuple(name for name in names if name == "technique" or f"{name}_mean" in means)
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
    lines += claims(frame, quick=config.smoke)
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


CLAIMED = (("wanda", "magnitude"), ("feedback-pruned", "wanda"))  # of language models: less perplexity


def claims(frame: "pd.DataFrame", *, quick: bool = False) -> list[str]:
    """What others found of language models, that each of a pair has less perplexity than its second, judged.

    Reference: Frantar and Alistarh 2023, arXiv:2301.00774; Sun et al. 2024, arXiv:2306.11695.
    """
    from analysis.lab.measurement.verdict import Estimate, difference
    from capacity.columns import with_interval

    lines = []
    for first, second in CLAIMED:
        if "perplexity" in frame and {first, second} <= set(frame["technique"]):
            row: Any = _difference(frame, "perplexity", second).set_index("technique").loc[first]
            gap = Estimate(*(float(row[f"perplexity_difference_{part}"]) for part in ("mean", "half_width")))
            verdict = difference(gap, margin=0.0, quick=quick)
            written = with_interval(gap.mean, gap.half_width, "+.3f")
            lines.append(f"perplexity of {first} beside {second}: {verdict} ({written})")
    return lines


@styled
def plot(frame: "pd.DataFrame", config: Config) -> "Figure":
    """Error (of language models perplexity) against bytes and speed-up, with both Pareto fronts."""
    from matplotlib.lines import Line2D

    from analysis.lab.reporting import figures

    means = summary(frame)
    y = "perplexity" if "perplexity_mean" in means else "top1_error"
    names = list(means["technique"])
    colour = {name: figures.COLOURS[place % len(figures.COLOURS)] for place, name in enumerate(names)}
    mark = figures.marks(names)
    figure, panels = figures.new_figure(figures.PAGE_INCHES, 3.3, ncols=2, sharey=True)
    for axes, x in zip(panels, ("file_bytes", "speedup_32"), strict=True):
        rows = means[means[f"{x}_mean"].notna()]
        for name, row in rows.groupby("technique", sort=False):
            _draw_technique(axes, row, (x, y), {"color": colour[str(name)], "marker": mark[str(name)]})
        _draw_front(axes, rows, (x, y))
        figures.log_axis(axes, "x", percent=x == "speedup_32")
        axes.set_xlabel(axis_label(x) if x == "file_bytes" else "speed-up over the baseline, batch of 32")
    panels[0].set_ylabel(axis_label(y))
    low, high = panels[0].get_ylim()
    panels[0].set_ylim(max(0, low), min(_most(y), high))
    handles = [Line2D([], [], color=colour[n], marker=mark[n], linestyle="none", markersize=5) for n in names]
    handles.append(Line2D([], [], color=figures.GREY, linewidth=0.9))
    count = frame["seed"].nunique()
    title = "bars: 95 % interval\nover seeds" if count > 1 else "one seed"
    figure.legend(handles, [*names, "Pareto front"], loc="outside right center", title=title)
    return figure


def _most(y: str) -> float:
    """What can be at most, as an axis shows it."""
    return 100 if y == "top1_error" else math.inf


def _draw_technique(
    axes: "Axes", row: "pd.DataFrame", columns: tuple[str, str], style: dict[str, Any]
) -> None:
    """A technique's mean, and its intervals cut where no error or ratio can be."""
    from matplotlib.colors import to_rgba

    from analysis.lab.reporting.figures import bounded_bars

    x, y = columns
    factor = column(y).factor
    error, across = factor * row[f"{y}_mean"], row[f"{x}_mean"]
    least = 0.5 * float(across.iloc[0])  # the axis is logarithmic
    axes.errorbar(
        across, error, ecolor=to_rgba(style["color"], 0.45), linestyle="none", capsize=2, elinewidth=0.7,
        markersize=5, xerr=bounded_bars(across, row[f"{x}_half_width"], least, math.inf),
        yerr=bounded_bars(error, factor * row[f"{y}_half_width"], 0, _most(y)), **style,
    )  # fmt: skip


def _draw_front(axes: "Axes", rows: "pd.DataFrame", columns: tuple[str, str]) -> None:
    from analysis.lab.reporting.figures import GREY

    x, y = columns
    faster = x == "speedup_32"
    costs = rows[f"{x}_mean"] * (-1 if faster else 1)
    front = rows.iloc[pareto(costs.tolist(), rows[f"{y}_mean"].tolist())].sort_values(f"{x}_mean")
    errors = column(y).factor * front[f"{y}_mean"]
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
