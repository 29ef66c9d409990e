"""Does the theory hold? Random labels memorized against points, beside Cover's curve and the capacity."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from analysis.lab.cli import execute
from analysis.lab.reporting.story import Story, counted, listed
from analysis.lab.settings import OutputSettings
from capacity.errors import InputError
from capacity.figures import styled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from capacity import Memorization
    from capacity.tables import Table


@dataclass(frozen=True)
class Config(OutputSettings):
    """Train perceptrons and small networks on random labels of random points."""

    networks: tuple[str, ...] = ("3-1", "6-1", "11-1", "2-2-1", "4-3-1", "3-3-3-1")
    """Widths from inputs to the one output; two numbers make a perceptron without bias (K weights)."""
    ratios: tuple[float, ...] = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 2.75, 3.0)
    """Numbers of points N as multiples of the capacity."""
    trials: int = 200
    """Random labelings for each perceptron and N."""
    network_trials: int = 40
    """Random labelings for each deeper network and N."""
    restarts: int = 3
    """Further starts for labelings that were not memorized."""
    seed: int = 0
    """Seed of points, labels and initial weights."""
    output: str = ""
    """Run folder; by default runs/memorization_curve-HASH, resumed if it exists."""
    smoke: bool = False
    """A quick pass: two small networks, few labelings."""
    fresh: bool = False
    """Start over, whatever the run folder holds."""


def _steps(c: Config) -> list[str]:
    again = f", and up to {counted(c.restarts, 'time')} again from other weights where a labeling was missed"
    return [
        f"Networks of widths {listed(c.networks)} were given random labels for random points, N of them for "
        f"each bit of their capacity from {min(c.ratios):g} to {max(c.ratios):g}.",
        f"Of perceptrons {counted(c.trials, 'labeling')} each were decided exactly by linear programming; "
        f"deeper networks were trained on {c.network_trials:,}{again if c.restarts else ''}.",
    ]


STORY = Story(
    "Does a network memorize as many random labels as its computed capacity says, and no more than "
    "twice that?",
    _steps,
    [
        "A labeling that training misses may still be within the network's reach: the marks of deeper "
        "networks are lower bounds.",
        "Networks of a few units are no proof for large ones.",
    ],
)


def widths_of(name: str) -> list[int]:
    """The widths in a name such as 4-3-1.

    >>> widths_of("4-3-1")
    [4, 3, 1]
    """
    parts = name.split("-")
    if len(parts) < 2 or not all(part.isdigit() and int(part) for part in parts) or parts[-1] != "1":
        raise InputError(
            f"a network is written as widths that end in one output, such as 4-3-1; found {name!r}"
        )
    return [int(part) for part in parts]


def builder(widths: Sequence[int]) -> "Callable[[], Any]":
    """A function that makes the network with fresh weights."""
    from torch import nn

    def build() -> nn.Module:
        if len(widths) == 2:
            return nn.Linear(widths[0], 1, bias=False)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.Tanh()]
        return nn.Sequential(*layers[:-1])

    return build


def experiments(config: Config) -> "list[Memorization]":
    """One finished experiment for each network; finished ones are read from the run folder."""
    from analysis.lab.runs.directory import open_run
    from analysis.lab.runs.progress import progress
    from capacity import Memorization, MemorizationPoint, measure, memorization
    from compression.checkpoints import load_json, save_json

    config = _smoke(config) if config.smoke else config
    planned = [(name, widths_of(name)) for name in config.networks]
    folder = open_run("memorization_curve", config, name="networks")
    done_before = sum((folder.path / f"network-{name}.json").exists() for name, _ in planned)
    if done_before:
        print(f"resumed from {folder.path}, {done_before} of {len(planned)} steps")
    results = []
    with progress(len(planned), "memorizing") as on_progress:
        for name, widths in planned:
            on_progress(doing=f"network {name}")
            path = folder.path / f"network-{name}.json"
            if path.exists():
                facts = load_json(path)
                curve = tuple(MemorizationPoint(**point) for point in facts.pop("curve"))
                results.append(Memorization(curve=curve, **facts))
            else:
                capacity_bits = measure(builder(widths)(), (widths[0],)).capacity_bits
                points = sorted({max(1, round(ratio * capacity_bits)) for ratio in config.ratios})
                trials = config.trials if len(widths) == 2 else config.network_trials
                done = memorization(
                    builder(widths), widths[0], points,
                    trials=trials, restarts=config.restarts, seed=config.seed,
                )  # fmt: skip
                save_json(path, asdict(done))
                results.append(done)
            on_progress(1)
    return results


def run(config: Config) -> "pd.DataFrame":
    """A row per network and number of points."""
    return frame_of(experiments(config))


def frame_of(results: "Sequence[Memorization]") -> "pd.DataFrame":
    """The rows of all experiments."""
    import pandas as pd

    return pd.concat([done.to_frame() for done in results], ignore_index=True)


def _smoke(config: Config) -> Config:
    return replace(
        config, networks=("3-1", "2-2-1"), trials=20, network_trials=4, restarts=0, ratios=(0.5, 1.0, 2.0)
    )


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
    config = replace(_smoke(config) if config.smoke else config, fresh=False)
    folder = open_run("memorization_curve", config, name="networks")
    folder.save_frame(frame)
    folder.save_text("\n".join(done.to_latex(venue=config.venue) for done in results), "table.tex")
    figure = save_figure(plot(frame), folder.path, "memorization_curve", venue=config.venue, pgf=config.pgf)
    print("\n".join([*map(broken, headline(frame)), ""]))
    for done in results:
        print(f"{done.table().to_text(wide=config.wide)}\n")
    print(file_lines(folder.path, [figure]))


def main(arguments: Sequence[str] | None = None) -> None:
    execute(Config, {"default": Config()}, start, arguments)


if __name__ == "__main__":
    main()
