"""The house style of figures, for the figure alone: nothing else in the process is drawn otherwise."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

P = ParamSpec("P")


@contextmanager
def house_style() -> Iterator[None]:
    """Colour-blind safe, 8 pt, thin rules; matplotlib's settings are as before when it ends."""
    import seaborn as sns
    from matplotlib.style import context

    small = {"font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "legend.fontsize": 7}
    ticks = {"xtick.labelsize": 7, "ytick.labelsize": 7, "axes.linewidth": 0.6, "grid.linewidth": 0.4}
    lines = {"lines.linewidth": 1.2, "lines.markersize": 3.5}
    with context("default"):
        sns.set_theme(
            style="whitegrid", palette="colorblind", color_codes=False, rc=small | ticks | lines
        )  # colour codes such as "b" would change for good
        yield


def styled(plot: "Callable[P, Figure]") -> "Callable[P, Figure]":
    """A function that draws in the house style, and leaves backend and settings of the caller alone."""

    @wraps(plot)
    def drawn(*args: P.args, **options: P.kwargs) -> "Figure":
        with house_style():
            figure = plot(*args, **options)
            figure.draw_without_rendering()  # ticks take their looks when they are first drawn
        return figure

    return drawn
