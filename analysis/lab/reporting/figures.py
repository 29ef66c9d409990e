"""One visual language for every figure: colour-blind safe, 8 pt, column widths, PDF and PNG."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from capacity.errors import unknown
from compression.checkpoints import write_whole

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

COLUMN_INCHES = 3.5
PAGE_INCHES = 7.16
VENUES = {  # width of a column and of the text in inches
    "ieee": (COLUMN_INCHES, PAGE_INCHES),
    "icml": (3.25, 6.75),
    "neurips": (5.5, 5.5),
    "acl": (3.03, 6.3),
}
MARKERS = ("o", "s", "^", "D", "v", "P")


def new_figure(width_inches: float, height_inches: float, **options: Any) -> "tuple[Figure, Any]":
    """A figure and its axes, for a function that is `styled`; options as for `Figure.subplots`."""
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    found = figure.subplots(**options)
    for axes in figure.axes:
        axes.tick_params(labelsize=rcParams["xtick.labelsize"])  # else looked up anew in each drawing
    return figure, found


def fit_venue(figure: "Figure", venue: str) -> None:
    """Bring a figure to a venue's column or text width, whichever it was drawn for; letters keep their size.

    Raises InputError for a venue that VENUES does not hold.
    """
    if venue not in VENUES:
        raise unknown("venue", venue, VENUES)
    width, height = figure.get_size_inches()
    figure.set_size_inches(VENUES[venue][0 if width <= COLUMN_INCHES else 1], height)


def save_figure(figure: "Figure", folder: Path, name: str, *, pgf: bool = False) -> list[Path]:
    """Write NAME.pdf (fonts embedded) and NAME.png; the same figure gives the same bytes.

    With `pgf` also NAME.pgf, for an article that sets the letters itself; that needs pdflatex.
    """
    from matplotlib import rc_context
    from matplotlib.style import context

    paths = []
    for ending, metadata in (("pdf", {"CreationDate": None}), ("png", {"Software": None})):
        path = folder / f"{name}.{ending}"

        def write(beside: Path, kind: str = ending, facts: dict[str, None] = metadata) -> None:
            with context(["default", {"pdf.fonttype": 42}]):
                figure.savefig(beside, format=kind, metadata=facts, dpi=300)

        write_whole(path, write)
        paths.append(path)
    if pgf:
        with rc_context({"pgf.texsystem": "pdflatex", "pgf.rcfonts": False}):
            figure.savefig(folder / f"{name}.pgf", backend="pgf")
        paths.append(folder / f"{name}.pgf")
    return paths


def colours(names: list[str]) -> dict[str, Any]:
    """A colour-blind safe colour for each name; the control is always grey."""
    import seaborn as sns

    others = [name for name in names if name != "control"]
    chosen = dict(zip(others, sns.color_palette("colorblind", len(others)), strict=True))
    return chosen | ({"control": (0.45, 0.45, 0.45)} if "control" in names else {})


def interval_line(axes: "Axes", frame: "pd.DataFrame", x: str, y: str, **style: Any) -> None:
    """Mean and 95 % interval over the repeats at each x: columns x, y_mean, y_half_width."""
    half = frame[f"{y}_half_width"].fillna(0)
    axes.errorbar(frame[x], frame[f"{y}_mean"], yerr=half, capsize=2, elinewidth=0.8, **style)


def capacity_axis(axes: "Axes", bits: "pd.Series") -> None:
    """Capacity from large to small, labelled 5k, 1.5M; logarithmic where it spans more than a factor 3."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    if bits.max() > 3 * bits.min():
        axes.set_xscale("log")
        log_ticks(axes.xaxis)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(short_number))
    axes.invert_xaxis()


def log_ticks(axis: "Axis", subs: tuple[int, ...] = (1, 2, 5)) -> None:
    """Ticks of a logarithmic axis at these multiples of the powers of ten, and none between."""
    from matplotlib.ticker import LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_minor_locator(NullLocator())


def short_number(value: float, place: int) -> str:
    """A tick label such as 5k or 1.5M; `place` is what matplotlib passes along."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
