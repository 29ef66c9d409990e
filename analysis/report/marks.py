"""The points of a figure: where they stand, what they show, and which row of a table they are drawn from."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

ASIDE = 0.03  # points are drawn so much aside at most, so that intervals do not hide one another
NUMBER = re.compile(r"[-−+]?[\d.,]+(·10[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)?[kMBGT]?|")  # as ticks are written, or left empty
NO_MARKERS = ("None", "none", "", " ", None)


@dataclass(frozen=True)
class Mark:
    """A point of a figure.

    Parameters
    ----------
    left, top: where it stands, as fractions of the figure's width and height
    series: its name in the legend; empty where it has none
    across, along: what the axes say of it, as "file [bytes]: 5k"
    row: place of the row whose values it shows; None where there is no such row, or more than one
    """

    left: float
    top: float
    series: str
    across: str
    along: str
    row: int | None = None


def marks_of(figure: "Figure", rows: "pd.DataFrame") -> list[Mark]:
    """The points of a figure that has been drawn, and the rows they show; points that coincide are one."""
    names = _legend_names(figure)
    naming = {axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) if _names(axis)}
    marks: dict[tuple[float, float], Mark] = {}
    for axes in figure.axes:
        for series, x, y, key in _points(axes):
            left, top = figure.transFigure.inverted().transform(axes.transData.transform((x, y)))
            if not (0 <= left <= 1 and 0 <= top <= 1):
                continue
            name = names.get(key, "") if series.startswith("_") else series
            across, along = _reading(axes.xaxis, x), _reading(axes.yaxis, y)
            numbers = [value for axis, value in ((axes.yaxis, y), (axes.xaxis, x)) if axis not in naming]
            row = matching_row(rows, numbers, f"{name} {across} {along}")
            mark, place = Mark(left, 1 - top, name, across, along, row), (round(left, 3), round(top, 3))
            marks[place] = _together(marks[place], mark) if place in marks else mark
    return list(marks.values())


def _together(one: Mark, other: Mark) -> Mark:
    """Two points at one place: both names, and the row if they show the same."""
    names = list(dict.fromkeys(name for mark in (one, other) for name in mark.series.split(" / ") if name))
    return replace(one, series=" / ".join(names), row=one.row if one.row == other.row else None)


def matching_row(rows: "pd.DataFrame", numbers: Sequence[float], text: str) -> int | None:
    """The place of the one row that a point shows; None where none does, or several might.

    numbers: what the point's axes measure, the more telling first; empty where both name things. One of
    them is looked for exactly, as stored or in percent; the other too, or as its complement, and a bit
    aside; then the row's own words in `text`.
    """
    every = list(range(len(rows)))
    by_number = [
        [place for place in every if _holds(rows, place, (number, number / 100), 1e-9)] for number in numbers
    ]
    places = next(filter(None, by_number), [] if by_number else every)
    for other in numbers:
        wanted = (other, other / 100, 1 - other)
        places = [place for place in places if _holds(rows, place, wanted, ASIDE)] or places
    if len(places) > 1:
        words = {
            place: [str(value) for value in rows.iloc[place] if isinstance(value, str)] for place in places
        }
        places = [place for place in places if any(word and word in text for word in words[place])]
    return places[0] if len(places) == 1 else None


def _holds(rows: "pd.DataFrame", place: int, wanted: Sequence[float], tolerance: float) -> bool:
    numbers = [value for value in rows.iloc[place] if isinstance(value, int | float)]
    return any(abs(value - want) <= tolerance * abs(want) for value in numbers for want in wanted if want)


def _names(axis: "Axis") -> bool:
    """Whether an axis names things instead of measuring them."""
    from matplotlib.category import StrCategoryFormatter
    from matplotlib.ticker import FixedFormatter, FixedLocator

    if isinstance(axis.get_major_formatter(), FixedFormatter | StrCategoryFormatter):
        return True
    words = (label.get_text() for label in axis.get_ticklabels())
    placed = isinstance(axis.get_major_locator(), FixedLocator)
    return placed and not all(map(NUMBER.fullmatch, words))


def _points(axes: "Axes") -> Iterator[tuple[str, float, float, Any]]:
    """Series, x, y and look of each point drawn in these axes: markers and the ends of bars."""
    from matplotlib.container import BarContainer, ErrorbarContainer

    caps, names = set(), {}
    for container in axes.containers:
        if isinstance(container, ErrorbarContainer):
            line, cap_lines, _ = container.lines
            caps |= set(cap_lines)
            names[line] = str(container.get_label())
        if isinstance(container, BarContainer):
            yield from _bar_ends(container)
    for line in axes.lines:
        if line.get_marker() in NO_MARKERS or line in caps or line.get_transform() != axes.transData:
            continue
        label = names.get(line, str(line.get_label()))
        for x, y in np.asarray(line.get_xydata(), dtype=float):
            yield label, float(x), float(y), _look(line)
    for scatter in axes.collections:
        if type(scatter).__name__ == "PathCollection":
            for x, y in np.asarray(scatter.get_offsets(), dtype=float):
                yield str(scatter.get_label()), float(x), float(y), None


def _bar_ends(container: Any) -> Iterator[tuple[str, float, float, Any]]:
    for bar in container.patches:
        x, y, width, height = bar.get_x(), bar.get_y(), bar.get_width(), bar.get_height()
        across = container.orientation == "horizontal"
        end = (x + width, y + height / 2) if across else (x + width / 2, y + height)
        yield str(container.get_label()), float(end[0]), float(end[1]), None


def _look(line: "Line2D") -> Any:
    from matplotlib.colors import to_hex

    return to_hex(line.get_color()), str(line.get_marker())


def _legend_names(figure: "Figure") -> dict[Any, str]:
    """Names in the legends by colour and marker, for points that carry no name themselves."""
    from matplotlib.lines import Line2D

    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes)]
    return {
        _look(handle): text.get_text()
        for legend in legends
        if legend is not None
        for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=False)
        if isinstance(handle, Line2D)
    }


def _reading(axis: "Axis", value: float) -> str:
    """What an axis says of a value: its label, and the value as its ticks are written."""
    from matplotlib.ticker import FuncFormatter

    from analysis.lab.reporting.figures import short_number

    label = axis.get_label_text().replace("→", "").strip()
    formatter: Any = axis.get_major_formatter()
    text = f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(formatter, FuncFormatter) and formatter.func is not short_number:
        text = str(formatter(value, 0))
    elif _names(axis):
        ticks = zip(axis.get_majorticklocs(), axis.get_ticklabels(), strict=False)
        text = next((str(tick.get_text()) for at, tick in ticks if abs(at - value) <= 0.5), text)
    return f"{label}: {text}" if label else text
