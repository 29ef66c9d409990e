"""Headline, table and figure of what data need, and the files they are written to."""

import math
from typing import TYPE_CHECKING, Any

from analysis.data_requirement.config import Config
from analysis.data_requirement.trials import advice_for, data_of, frame_of, requirements
from analysis.lab.consoles import Say, printed
from capacity.figures import styled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from capacity.tables import Table


def headline(frame: "pd.DataFrame") -> list[str]:
    """What all rows need, as they are and shuffled."""
    lines = []
    for name, part in frame.groupby("labels", sort=False):
        last = part.iloc[part["rows"].argmax()]
        lines.append(
            f"{name}: {last['thresholds']:,.0f} changes of label along the feature sum in {last['rows']:,} "
            f"rows, an expected need of {last['expected_bits']:,} bits"
        )
    return lines


def table(frame: "pd.DataFrame") -> "Table":
    """The need of growing parts of the rows, with the labels as they are and shuffled."""
    from capacity._requirement import COLUMNS
    from capacity.registry import column
    from capacity.tables import Table

    rows: list[dict[Any, Any]] = frame.to_dict("records")
    return Table((column("labels"), *COLUMNS), rows)


@styled
def plot(frame: "pd.DataFrame") -> "Figure":
    """Label changes against rows, both logarithmic; memorizing is the diagonal."""
    from analysis.lab.reporting import figures

    figure, axes = figures.new_figure(figures.COLUMN_INCHES, 2.8)
    names = list(frame["labels"].unique())
    colour, mark = figures.colours(names), figures.marks(names)
    for place, name in enumerate(names):
        rows = frame[frame["labels"] == name]
        bars = figures.bounded_bars(rows["thresholds"], rows["thresholds_half_width"], 1, math.inf)
        axes.errorbar(
            rows["rows"], rows["thresholds"].clip(lower=1), yerr=bars, capsize=2, color=colour[name],
            marker=mark[name], linestyle=("-", "--")[place % 2], label=name,
        )  # fmt: skip
    least, most = frame["rows"].min(), frame["rows"].max()
    axes.plot([least, most], [least, most], ":", color=figures.GREY, label="a change at every row")
    axes.set(xlabel="rows", ylabel="label changes along the feature sum")
    figures.log_axis(axes, "x")
    figures.log_axis(axes, "y")
    title = "bars: 95 % interval over the parts drawn"
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2, title=title)
    return figure


def start(config: Config, say: Say = printed) -> None:
    """Write everything, and say it."""
    from analysis.lab.models import create
    from analysis.lab.reporting.figures import file_lines, save_figure
    from analysis.lab.runs.directory import open_run
    from capacity import measure
    from capacity.terminal import broken

    data = data_of(config)
    needs = requirements(config, data)
    frame = frame_of(needs)
    lines = [f"{name}: {need.table().to_text(wide=config.wide)}\n" for name, need in needs.items()]
    need = next(iter(needs.values()))
    if config.model != "none":
        model = create(config.model, input_size=data.shape, classes=len(data.classes))
        advice = advice_for(config, data, measure(model, data.input_size), need)
        lines.insert(0, f"{config.model}: {advice}\n")
    folder = open_run("data_requirement", config, name=config.dataset.partition(":")[0])
    folder.save_frame(frame)
    caption = f"Bits that the training rows of {config.dataset} need: {need.table().title}"
    folder.save_text(need.to_latex(caption=caption.replace("\n", "; "), venue=config.venue), "table.tex")
    figure = save_figure(plot(frame), folder.path, "data_requirement", venue=config.venue, pgf=config.pgf)
    say("\n".join([*map(broken, [*data.notes, *lines]), file_lines(folder.path, [figure])]))
