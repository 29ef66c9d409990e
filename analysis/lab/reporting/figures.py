"""Figures of experiments: drawn in the house style, brought to a venue's width, written as PDF, PNG, PGF."""

import io
from functools import partial
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from capacity.errors import unknown
from capacity.figures import (
    COLOURS,
    COLUMN_INCHES,
    GREY,
    MARKERS,
    PAGE_INCHES,
    colours,
    log_ticks,
    marks,
    new_figure,
    positive_interval,
    short_number,
    spaced,
    styled,
    subs_for,
)
from capacity.latex import VENUES, words_in_latex
from compression.checkpoints import write_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

__all__ = [
    "COLOURS",
    "COLUMN_INCHES",
    "GREY",
    "MARKERS",
    "PAGE_INCHES",
    "VENUES",
    "bounded_bars",
    "capacity_axis",
    "colours",
    "file_lines",
    "fit_venue",
    "fit_width",
    "interval_line",
    "log_axis",
    "log_ticks",
    "marks",
    "new_figure",
    "save_draft",
    "save_figure",
    "short_number",
    "spaced",
    "styled",
]  # fmt: skip
UNDATED = {"pdf": {"CreationDate": None}, "png": {"Software": None}}  # what else would differ each time
OUTLINES = 3  # the type of font in a PDF that no library has to cut out
NARROW = 4.6  # inches: below, panels stand one above the other


def fit_venue(figure: "Figure", venue: str) -> None:
    """Bring a figure to a venue's column or text width, whichever it was drawn for; letters keep their size.

    Where the width is a column's, panels side by side are put one above the other, and legends above them.

    Raises InputError for a venue that VENUES does not hold.
    """
    if venue not in VENUES:
        raise unknown("venue", venue, VENUES)
    narrow = figure.get_size_inches()[0] <= 1.4 * COLUMN_INCHES
    fit_width(figure, VENUES[venue].column if narrow else VENUES[venue].text)


@styled
def fit_width(figure: "Figure", inches: float) -> None:
    """Bring a figure to this width: narrow ones get panels below one another, and legends above them."""
    height = figure.get_size_inches()[1]
    panels = figure.axes
    if inches < NARROW and len(panels) > 1:
        _stack(panels)
        height *= 0.85 * len(panels)
    figure.set_size_inches(inches, height)
    for legend in list(figure.legends):
        _fit_legend(figure, legend, inches)
    _fit_labels(figure)


def _fit_labels(figure: "Figure") -> None:
    """Break titles, and labels below and beside panels, that are longer than their panel."""
    figure.draw_without_rendering()
    for axes in figure.axes:
        panel = axes.get_window_extent()
        title, below, beside = axes.title, axes.xaxis.label, axes.yaxis.label
        for label, length, room in (
            (title, title.get_window_extent().width, panel.width),
            (below, below.get_window_extent().width, panel.width),
            (beside, beside.get_window_extent().height, panel.height),
        ):
            text = " ".join(label.get_text().split())
            if length > room and "$" not in text:
                label.set_text("\n".join(wrap(text, int(len(text) * room / length))))


def _stack(panels: "list[Axes]") -> None:
    from matplotlib.gridspec import GridSpec

    grid = GridSpec(len(panels), 1, figure=panels[0].figure)  # type: ignore[arg-type]
    label = panels[0].get_ylabel()
    for place, axes in enumerate(panels):
        shared = len(panels[0].get_shared_y_axes().get_siblings(panels[0])) > 1
        axes.set_subplotspec(grid[place])
        if shared:
            axes.tick_params(labelleft=True)
            axes.set_ylabel(axes.get_ylabel() or label)


def _fit_legend(figure: "Figure", legend: "Legend", inches: float) -> None:
    """The same legend above the panels, in as many columns as there is room for."""
    labels = [text.get_text() for text in legend.get_texts()]
    drawn: dict[str, Any] = dict(zip(labels, legend.legend_handles, strict=True))
    for axes in figure.axes:
        pairs = zip(*reversed(axes.get_legend_handles_labels()), strict=True)
        drawn |= {label: handle for label, handle in pairs if label in drawn}
    handles = list(drawn.values())
    title, letters = " ".join(legend.get_title().get_text().split()), legend.get_texts()[0].get_fontsize()
    legend.remove()
    for columns in range(min(4, len(labels)), 0, -1):
        made: Legend = figure.legend(
            handles, labels, loc="outside upper center", ncols=columns, title=title,
            fontsize=letters, columnspacing=1.2, handlelength=1.6,
        )  # fmt: skip
        if columns == 1 or made.get_window_extent().width <= inches * figure.dpi * 0.98:
            return
        made.remove()


@styled
def save_figure(
    figure: "Figure",
    folder: Path,
    name: str,
    *,
    endings: "Sequence[str]" = ("pdf", "png"),
    venue: str = "",
    pgf: bool = False,
) -> list[Path]:
    """Write NAME.pdf (fonts embedded) and NAME.png; the same figure gives the same bytes.

    With `venue` at its width. With `pgf` also NAME.pgf, for an article that sets the letters itself; that
    needs pdflatex.
    """
    if venue:
        fit_venue(figure, venue)
    paths = [_save(figure, folder / f"{name}.{ending}") for ending in endings]
    if pgf:
        paths.append(_save_pgf(figure, folder / f"{name}.pgf"))
    return paths


@styled
def save_draft(figure: "Figure", path: Path, venue: str) -> Path:
    """Write a PDF at a venue's width in half of the time: its letters are outlines, which journals refuse."""
    import matplotlib

    fit_venue(figure, venue)
    with matplotlib.rc_context({"pdf.fonttype": OUTLINES}):
        return _save(figure, path)


def _save(figure: "Figure", path: Path) -> Path:
    """Write a figure in the format that the path's ending names."""
    ending, drawn = path.suffix.removeprefix("."), io.BytesIO()  # matplotlib hides that a disk is full
    figure.savefig(drawn, format=ending, metadata=UNDATED[ending], dpi=300)
    write_atomically(path, partial(Path.write_bytes, data=drawn.getvalue()))
    return path


def file_lines(folder: Path, saved: "Sequence[Sequence[Path]]") -> str:
    """Where the results of a run and its figures lie: a line each, short enough for most terminals."""
    lines = [f"results: {folder / 'results.csv'}"]
    for first, *others in saved:
        lines.append(f"figure:  {', '.join([str(first), *(path.suffix for path in others)])}")
    return "\n".join(lines)


def _save_pgf(figure: "Figure", path: Path) -> Path:
    """The figure as PGF; its words are set by the article, special characters and Greek as they are."""
    import matplotlib
    from matplotlib.text import Text
    from matplotlib.ticker import FixedFormatter, FixedLocator

    figure.draw_without_rendering()
    shared = {id(axis.major): axis for axes in reversed(figure.axes) for axis in (axes.xaxis, axes.yaxis)}
    for axis in shared.values():
        words = [_in_pgf(label.get_text()) for label in axis.get_ticklabels()]
        axis.set_major_locator(FixedLocator([float(place) for place in axis.get_majorticklocs()]))
        axis.set_major_formatter(FixedFormatter(words))
    ticks = {id(t) for a in figure.axes for x in (a.xaxis, a.yaxis) for t in x.get_ticklabels(which="both")}
    for text in figure.findobj(Text):
        text.set_fontfamily("DejaVu Sans")  # no family of LaTeX: the article's own letters
        if id(text) not in ticks:
            text.set_text(_in_pgf(text.get_text()))
    with matplotlib.rc_context({"pgf.texsystem": "pdflatex", "pgf.rcfonts": False}):
        figure.savefig(path, backend="pgf")
    return path


def _in_pgf(text: str) -> str:
    """Words as LaTeX wants them, formulas left alone; % and ^ are escaped by the PGF backend itself."""
    parts = text.split("$")
    parts[::2] = [
        words_in_latex(part).replace(r"\%", "%").replace(r"\textasciicircum{}", "^") for part in parts[::2]
    ]
    return "$".join(parts)


def bounded_bars(mean: "pd.Series", half: "pd.Series", low: float, high: float) -> "list[pd.Series]":
    """Intervals as matplotlib wants them, cut where no value can be: below `low`, above `high`."""
    half = half.fillna(0)
    return [half.clip(upper=(mean - low).clip(lower=0)), half.clip(upper=(high - mean).clip(lower=0))]


def interval_line(
    axes: "Axes", frame: "pd.DataFrame", x: str, y: str, *, limits: tuple[float, float] | None = None,
    **style: Any,
) -> None:  # fmt: skip
    """Mean and 95 % interval over the repeats at each x: columns x, y_mean, y_half_width; within limits."""
    mean, half = frame[f"{y}_mean"], frame[f"{y}_half_width"]
    low, high = limits or (float("-inf"), float("inf"))
    bars = bounded_bars(mean, half, low, high)
    axes.errorbar(frame[x], mean, yerr=bars, capsize=2, elinewidth=0.8, **style)


def capacity_axis(axes: "Axes", bits: "pd.Series") -> None:
    """Capacity from large to small, labelled 5k, 1.5M; logarithmic where it spans more than a factor 3."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    if bits.max() > 3 * bits.min():
        log_axis(axes, "x")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(FuncFormatter(short_number))
    axes.invert_xaxis()


def log_axis(axes: "Axes", which: str, *, percent: bool = False) -> None:
    """A logarithmic axis with ticks from one end to the other, labelled in short or as plain numbers."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axes.set(**{f"{which}scale": "log"})
    log_ticks(axes, which, subs_for(*positive_interval(axes, which)))
    axis.set_major_formatter(spaced((lambda value, place: f"{value:g}") if percent else short_number))
