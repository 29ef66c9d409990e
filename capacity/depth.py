"""The picture of a report along a network's depth: parameters, bits entering, and what each layer stores."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from capacity.figures import COLOURS, PAGE_INCHES, axes_of, log_ticks, short_number, spaced, styled, subs_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHORT = 4  # letters of names that need no slant
NAMED = 12  # layers, up to which their names fit below


@styled
def plot_depth(rows: Sequence[Mapping[Any, Any]], *, title: str = "", ax: "Axes | None" = None) -> "Figure":
    """Bars for what each layer stores, marks for its parameters and the bits that enter it.

    rows: mappings with the fields of LayerCapacity, in order of execution; ax: where to draw, by default in
    a figure of its own
    """
    from matplotlib.ticker import MaxNLocator

    shown = [row for row in rows if row["kind"] != "normalization" and row["output_bits"] > 0]
    figure, axes = axes_of(ax, PAGE_INCHES, 2.7)
    depth = range(1, len(shown) + 1)
    stored = [max(int(row["capacity_bits"]), 1) for row in shown]
    parameters = [max(int(row["parameters"]), 1) for row in shown]
    caps = [float("nan") if _none(row["input_bits"]) else float(row["input_bits"]) for row in shown]
    free = [place for place, row in zip(depth, shown, strict=True) if _none(row["input_bits"])]
    axes.bar(depth, stored, color=COLOURS[2], alpha=0.55, label="stored (capacity)", zorder=1)
    axes.plot(depth, parameters, "_", color=COLOURS[0], markersize=6, label="parameters")
    axes.plot(depth, caps, "v", color=COLOURS[1], markersize=3, label="bits entering (the cap)")
    if free:
        bits = [stored[place - 1] for place in free]
        axes.plot(free, bits, "*", color="black", markersize=5, label="sees raw data: no cap")
    axes.set(yscale="log", xlabel="layer, in order of execution", ylabel="bits", title=title)
    if shown:
        every = [*stored, *parameters, *(cap for cap in caps if cap == cap)]
        log_ticks(axes, "y", subs_for(min(every), max(every)))
    axes.set_xlim(0.2, len(shown) + 0.8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, prune="lower"))
    axes.yaxis.set_major_formatter(spaced(short_number))
    if len(shown) <= NAMED:
        names = [str(row["name"]) for row in shown]
        slanted: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}
        axes.set_xticks(depth, names, **(slanted if max(map(len, names), default=0) > SHORT else {}))
        axes.set_xlabel("")
    if ax is None:
        figure.legend(loc="outside upper center", ncols=4)
    else:
        axes.legend(loc="best")
    return figure


def _none(value: Any) -> bool:
    return value is None or type(value).__name__ == "NAType" or value != value
