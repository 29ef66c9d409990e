"""Headline, table and pictures of a network's capacity, and the files they are written to."""

from typing import TYPE_CHECKING, Any

from analysis.capacity_report.config import Config
from analysis.capacity_report.trials import frame_of, network_of, report_of
from analysis.lab.reporting.story import counted
from capacity.columns import number, percent
from capacity.errors import InputError
from capacity.figures import styled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from capacity.tables import Table


def headline(frame: "pd.DataFrame", config: Config) -> list[str]:
    """The total, how many layers what enters them limits, and which layer holds most."""
    total, parameters = (sum(int(value) for value in frame[name]) for name in ("capacity_bits", "parameters"))
    capped = (frame["capacity_bits"] == frame["input_bits"]) & (frame["capacity_bits"] < frame["parameters"])
    largest = frame.iloc[frame["capacity_bits"].astype(float).argmax()]
    return [
        f"{config.model} has a capacity of {total:,} bits in {parameters:,} parameters, convention "
        f"{config.convention!r}, scope {config.scope}",
        f"{int(capped.sum())} of {counted(len(frame), 'layer')} can store less than their parameters, "
        f"because fewer bits enter them",
        f"layer {largest['name']} holds most: {int(largest['capacity_bits']):,} bits, "
        f"{percent(int(largest['capacity_bits']) / max(total, 1))} of all",
    ]


def table(frame: "pd.DataFrame", config: Config) -> "Table":
    """The layers."""
    from capacity.report import COLUMNS
    from capacity.tables import Table

    rows: list[dict[Any, Any]] = frame.to_dict("records")
    return Table(COLUMNS, rows, caption=headline(frame, config)[0])


@styled
def plot(frame: "pd.DataFrame", *, title: str = "") -> "Figure":
    """Along the depth of the network: parameters, bits entering, and what each layer stores."""
    from capacity.depth import plot_depth

    rows: list[dict[Any, Any]] = frame.to_dict("records")
    return plot_depth(rows, title=title)


@styled
def plot_usage(frame: "pd.DataFrame", *, title: str) -> "Figure":
    """rho of each layer, and of the network, as bars."""
    from analysis.lab.reporting import figures

    height = min(9.0, 1.1 + 0.15 * len(frame))
    figure, axes = figures.new_figure(figures.COLUMN_INCHES, height)
    network = frame["name"] == "network"
    for rows, colour, label in ((frame[~network], figures.COLOURS[0], "layer, by its own bits"),
                                (frame[network], figures.COLOURS[1], "network")):  # fmt: skip
        axes.barh(rows["name"], rows["points_per_bit"], color=colour, label=label)
    axes.invert_yaxis()
    figures.log_axis(axes, "x")
    axes.set(xlabel=r"generalization ratio $\rho$ [points/bit]", title=title)
    axes.xaxis.set_major_formatter(lambda value, place: number(value, "g"))
    axes.margins(y=0.01)
    axes.tick_params(axis="y", labelsize=7 if len(frame) <= 40 else 5.5)
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def start(config: Config) -> None:
    """Print and write everything."""
    from math import log2

    from analysis.lab.reporting.figures import file_lines, save_figure
    from analysis.lab.runs.directory import open_run
    from capacity import bounds, generalization
    from capacity.terminal import broken, printable

    if (config.correct is None) != (config.total is None):
        raise InputError("correct and total belong together: how many of how many points were right")
    model = network_of(config)
    report = report_of(config, model)
    proven = bounds(model, config.input_size, convention=config.convention)
    used = None
    if config.correct is not None and config.total is not None:
        label_bits = log2(config.classes) if config.label_bits is None else config.label_bits
        used = generalization(
            report, correct=config.correct, total=config.total, label_bits=label_bits,
            split=config.split, classes=config.classes,
        )  # fmt: skip
    folder = open_run("capacity_report", config, name=config.model.replace(":", "."))
    frame = frame_of(report)
    folder.save_frame(frame)
    caption = f"{config.model}, input {report.input_size}: {report.title}"
    folder.save_text(report.to_latex(caption=caption, venue=config.venue), "table.tex")
    folder.save_frame(proven.to_frame(), "bounds.csv")
    folder.save_text(proven.to_latex(venue=config.venue), "bounds.tex")
    shown: Any = {"venue": config.venue, "pgf": config.pgf}
    title = f"{config.model}: {report.capacity_bits:,} bits, convention “{config.convention}”"
    figures = [save_figure(plot(frame, title=title), folder.path, "capacity_report", **shown)]
    if used is not None:
        folder.save_frame(used.to_frame(), "generalization.csv")
        name = f"N = {used.correct:,} of {used.total:,}, {config.split}, “{config.convention}”"
        usage = plot_usage(used.to_frame(), title=name)
        figures.append(save_figure(usage, folder.path, "generalization", **shown))
    print("\n".join(printable(broken(line)) for line in headline(frame, config)) + "\n")
    print(report.table().to_text(wide=config.wide), proven.table().to_text(wide=config.wide), sep="\n\n")
    if used is not None:
        print(f"\n{used.table().to_text(wide=config.wide)}")
    print(f"\n{file_lines(folder.path, figures)}")
