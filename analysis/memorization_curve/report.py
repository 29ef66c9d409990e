"""Headline, table and figure of the memorizing experiment, and the files they are written to."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from analysis.lab.reporting.story import counted
from analysis.memorization_curve.config import Config, smoke
from analysis.memorization_curve.trials import experiments, frame_of
from capacity.figures import styled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from capacity.tables import Table


def table(frame: "pd.DataFrame") -> "Table":
    """A row per network and number of points; Cover's value and what is separable where that was decided."""
    from capacity._memorization import ALL
    from capacity.columns import KEY, Column
    from capacity.tables import Table

    rows: list[dict[Any, Any]] = frame.to_dict("records")
    return Table((Column("name", "network", importance=KEY), *ALL), rows)


@styled
def plot(frame: "pd.DataFrame") -> "Figure":
    """Share of labelings memorized against N / C: perceptrons with Cover's curve, deeper networks beside."""
    from matplotlib.lines import Line2D

    from analysis.lab.reporting import figures

    figure, panels = figures.new_figure(figures.PAGE_INCHES, 3.0, ncols=2, sharey=True)
    names = list(frame["name"].unique())
    colour, mark = figures.colours(names), figures.marks(names)
    exact = frame["decided"].notna()
    titles = ("perceptrons", "deeper networks")
    for axes, rows, title in zip(panels, (frame[exact], frame[~exact]), titles, strict=True):
        for place, (name, part) in enumerate(rows.groupby("name", sort=False)):
            style = {"color": colour[str(name)], "marker": mark[str(name)]}
            _draw_network(axes, part.assign(aside=1 + 0.008 * (place - 1)), style)
        for ratio, word in ((1, "C"), (2, "2C")):
            axes.axvline(ratio, color="0.5", linewidth=0.8, linestyle=":")
            axes.text(ratio, 1.06, word, ha="center", fontsize=7)
        axes.axhline(0.5, color="0.5", linewidth=0.8, linestyle=":")
        axes.set(xlabel="points N per bit of capacity", ylim=(-0.03, 1.13))
        axes.set_title(title)
    handles, labels = [
        [*one, *other]
        for one, other in zip(*(axes.get_legend_handles_labels() for axes in panels), strict=True)
    ]
    handles += [
        Line2D([], [], color=figures.GREY, marker="o", linestyle="none"),
        Line2D([], [], color=figures.GREY, marker="x", linestyle="none", markersize=3),
        Line2D([], [], color=figures.GREY, linewidth=0.8),
    ]
    labels += ["marks: separable, or best of all starts", "crosses: one start", "thin lines: Cover's value"]
    figure.legend(handles, labels, loc="outside upper center", ncols=3, title="bars: 95 % interval")
    panels[0].set_ylabel("share of random labelings memorized")
    return figure


def _draw_network(axes: "Axes", part: "pd.DataFrame", style: dict[str, Any]) -> None:
    x, y = part["points"] / part["capacity_bits"] * part["aside"], part["possible_share"]
    line = "none" if part["cover"].notna().all() else "-"
    label = f"{part['name'].iloc[0]} (C = {part['capacity_bits'].iloc[0]} bit)"
    bars = [y - part["low"], part["high"] - y]
    axes.errorbar(x, y, yerr=bars, linestyle=line, capsize=2, label=label, **style)
    if line == "none":
        axes.plot(x, part["cover"], "-", color=style["color"], linewidth=0.8)
    once = part["memorized"] / part["trials"]
    axes.plot(x, once, "x", color=style["color"], markersize=3, alpha=0.8)


def headline(frame: "pd.DataFrame") -> list[str]:
    """How often Cover's value is met, and up to where each network memorized every labeling it was given."""
    exact = frame[frame["decided"].notna()]
    inside = (exact["low"] <= exact["cover"]) & (exact["cover"] <= exact["high"])
    lines = [
        f"Cover's value lies in the 95 % interval at {int(inside.sum())} of {counted(len(exact), 'point')} "
        f"of perceptrons"
    ]
    for name, rows in frame.groupby("name", sort=False):
        bits, missed = int(rows["capacity_bits"].iloc[0]), rows[rows["possible_share"] < 1]["points"]
        below = rows[rows["points"] < missed.min()] if len(missed) else rows
        most = int(below["points"].max()) if len(below) else 0
        reached = f"every labeling was memorized up to N = {most} ({most / bits:.2f} C)"
        limit = reached if most else "labelings were missed at every N"
        lines.append(f"{name}, capacity C = {bits} bits: {limit}")
    return lines


def start(config: Config) -> None:
    """Print and write everything."""
    from compression.storage import holding

    with holding():
        _write(config)


def _write(config: Config) -> None:
    from analysis.lab.reporting.figures import file_lines, save_figure
    from analysis.lab.runs.directory import open_run
    from capacity.terminal import broken

    results = experiments(config)
    frame = frame_of(results)
    config = replace(smoke(config) if config.smoke else config, fresh=False)
    folder = open_run("memorization_curve", config, name="networks")
    folder.save_frame(frame)
    folder.save_text("\n".join(done.to_latex(venue=config.venue) for done in results), "table.tex")
    figure = save_figure(plot(frame), folder.path, "memorization_curve", venue=config.venue, pgf=config.pgf)
    print("\n".join([*map(broken, headline(frame)), ""]))
    for done in results:
        print(f"{done.table().to_text(wide=config.wide)}\n")
    print(file_lines(folder.path, [figure]))
