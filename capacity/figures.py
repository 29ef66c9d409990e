"""One visual language for every figure: colour-blind safe, 8 pt; matplotlib's own settings stay."""

from collections.abc import Callable, Sequence
from functools import wraps
from io import BytesIO
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import Formatter

P = ParamSpec("P")
T = TypeVar("T")
COLUMN_INCHES = 3.5
PAGE_INCHES = 7.16
GREY = "#737373"  # the control, references and theory; of no series
COLOURS = (  # Wong's and Tol's sets, told apart by colour-blind eyes, without grey
    "#0173B2", "#DE8F05", "#029E73", "#D55E00", "#CC78BC", "#56B4E9", "#882255", "#332288", "#B8A800",
    "#117733", "#FB8FB8", "#661100", "#44AA99", "#000000",
)  # fmt: skip
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*", "d", "8")
STYLE: dict[Any, Any] = {
    "font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "legend.fontsize": 7,
    "legend.title_fontsize": 7,
    "xtick.labelsize": 7, "ytick.labelsize": 7, "axes.linewidth": 0.6, "axes.edgecolor": "0.6",
    "axes.grid": True, "axes.axisbelow": True, "grid.linewidth": 0.4, "grid.color": "0.87",
    "xtick.major.size": 2.5, "ytick.major.size": 2.5, "xtick.color": "0.2", "ytick.color": "0.2",
    "xtick.major.width": 0.6, "ytick.major.width": 0.6, "lines.linewidth": 1.2, "lines.markersize": 3.5,
    "font.family": ["sans-serif"], "font.sans-serif": ["Arial", "Liberation Sans", "DejaVu Sans"],
    "pdf.fonttype": 42, "savefig.dpi": 300, "figure.dpi": 150, "axes.unicode_minus": False,
    "mathtext.fontset": "dejavusans",
}  # fmt: skip


def styled(draw: Callable[P, T]) -> Callable[P, T]:
    """A function that draws in the house style, whatever the caller has set, and leaves that as it was."""

    @wraps(draw)
    def drawn(*args: P.args, **options: P.kwargs) -> T:
        from matplotlib.figure import Figure
        from matplotlib.style import context

        with context(["default", STYLE]):
            result = draw(*args, **options)
            if isinstance(result, Figure):
                result.draw_without_rendering()  # ticks take their looks when they are first drawn
            return result

    return drawn


def new_figure(width_inches: float, height_inches: float, **options: Any) -> "tuple[Figure, Any]":
    """A figure and its axes; options as for `plt.subplots`. Neither backend nor pyplot take part."""
    from matplotlib.figure import Figure

    class Drawing(Figure):
        """A figure that a notebook shows, whatever backend it has."""

        def _repr_png_(self) -> bytes:
            picture = BytesIO()
            self.savefig(picture, format="png", dpi=150)
            return picture.getvalue()

    figure = Drawing(figsize=(width_inches, height_inches), layout="constrained")
    return figure, figure.subplots(**options)


def axes_of(ax: "Axes | None", width_inches: float, height_inches: float) -> "tuple[Figure, Axes]":
    """The axes given and their figure, or new ones."""
    if ax is None:
        return new_figure(width_inches, height_inches)
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure, ax


def colours(names: Sequence[str]) -> dict[str, Any]:
    """A colour for each name, distinct for as many as there are; the control is always grey."""
    others = [name for name in names if name != "control"]
    chosen = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(others)}
    return chosen | ({"control": GREY} if "control" in names else {})


def marks(names: Sequence[str]) -> dict[str, str]:
    """A mark for each name; beyond those there are, another goes with the same colour."""
    count = len(MARKERS)
    return {name: MARKERS[(place + place // count) % count] for place, name in enumerate(names)}


def log_ticks(axes: "Axes", which: str, subs: tuple[int, ...] = (1, 2, 5)) -> None:
    """Ticks of a logarithmic axis at these multiples of the powers of ten, from one end to the other."""
    from math import floor, log10

    from matplotlib.ticker import FixedLocator, NullLocator

    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = positive_interval(axes, which)
    powers = range(floor(log10(low)) - 1, floor(log10(high)) + 2)
    ticks = [sub * 10.0**power for power in powers for sub in subs]
    first = max(tick for tick in ticks if tick <= low)
    last = min(tick for tick in [*ticks, 10 * max(ticks)] if tick >= high)
    axis.set_major_locator(FixedLocator([tick for tick in ticks if first <= tick <= last]))
    axis.set_minor_locator(NullLocator())
    margin = (last / first) ** 0.02
    axes.set(**{f"{which}lim": (first / margin, last * margin)})


def positive_interval(axes: "Axes", which: str) -> tuple[float, float]:
    """From the smallest positive value drawn along an axis, bars start at 0, to the largest.

    Panels that share the axis count with it.
    """
    shared = axes.get_shared_x_axes() if which == "x" else axes.get_shared_y_axes()
    drawn = [panel.xaxis if which == "x" else panel.yaxis for panel in shared.get_siblings(axes)]
    lows, highs = zip(*(sorted(axis.get_data_interval()) for axis in drawn), strict=True)
    low = min(lows)
    return (low if low > 0 else min(axis.get_minpos() for axis in drawn)), max(highs)


def subs_for(low: float, high: float) -> tuple[int, ...]:
    """Multiples of powers of ten that give an axis about three to eight ticks."""
    if high / low < 4:
        return (1, 2, 3, 4, 5, 6, 7, 8, 9)
    if high / low < 200:
        return (1, 2, 5)
    return (1, 3) if high / low < 3_000 else (1,)


def spaced(write: Callable[[float, int], str]) -> "Formatter":
    """A formatter without the labels of ticks that would touch others; both ends stay, then round ones.

    `write` makes a label of a tick's value and place; the ticks themselves stay.
    """
    from matplotlib.ticker import FuncFormatter

    class Spaced(FuncFormatter):
        """Labels are chosen whenever the axis is drawn, for the size that it then has."""

        def format_ticks(self, values: Sequence[float]) -> list[str]:
            labels = super().format_ticks(values)  # type: ignore[arg-type]
            clear = _apart(self.axis, list(values), labels)
            return [label if place in clear else "" for place, label in enumerate(labels)]

    return Spaced(write)


def _apart(axis: Any, values: Sequence[float], labels: Sequence[str]) -> set[int]:
    """Places of the labels that can be written without one touching another."""
    low, high = sorted(axis.get_view_interval())
    inside = [place for place, value in enumerate(values) if low <= value <= high and labels[place]]
    across = axis.axis_name == "x"
    letters = axis.get_major_ticks(1)[0].label1.get_fontsize() * axis.axes.figure.dpi / 72
    frame = axis.axes.get_xaxis_transform() if across else axis.axes.get_yaxis_transform()
    points = {place: frame.transform((values[place],) * 2)[int(not across)] for place in inside}
    room = {place: letters * (0.58 * len(labels[place]) + 0.4 if across else 1.1) for place in inside}
    ends = {min(inside, key=points.__getitem__), max(inside, key=points.__getitem__)} if inside else set()
    clear: list[int] = []
    for place in sorted(inside, key=lambda place: (place not in ends, _roundness(labels[place]), place)):
        if all(abs(points[place] - points[k]) >= (room[place] + room[k]) / 2 for k in clear):
            clear.append(place)
    return set(clear)


def _roundness(label: str) -> int:
    """0 for a power of ten, 1 for five and two of them, 2 for others."""
    digits = [letter for letter in label if letter.isdigit()]
    leading = "".join(digits).strip("0")
    return 0 if leading == "1" else 1 if leading in ("2", "5") else 2


def short_number(value: float, place: int = 0) -> str:
    """A tick label such as 5k or 1.5M; `place` is what matplotlib passes along."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
