"""Tables, captions and axes of experiments, all of whose columns are called as the registry calls them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from capacity.columns import seeds
from capacity.columns import with_interval as written
from capacity.registry import COLUMNS, column
from capacity.tables import Table

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "COLUMNS", "axis_label", "column", "points", "setting", "spread", "table_of", "table_of_all",
    "with_interval",
]  # fmt: skip
MORE = "with --wide and in results.csv"


def table_of(
    means: "pd.DataFrame", names: Sequence[str], *, against: str = "", caption: str = "", label: str = "",
    more: str = MORE,
) -> Table:  # fmt: skip
    """A table of a summary: NAME_mean and NAME_half_width of each column, and those that name the rows."""
    rows: list[dict[Any, Any]] = means.to_dict("records")
    columns = [column(name, against=against) for name in names]
    return Table(columns, rows, caption=caption, label=label, more=more)


def table_of_all(frame: "pd.DataFrame") -> Table:
    """A table of all that is stored, or of all means and intervals."""
    names = [str(name).removesuffix("_mean") for name in frame if not str(name).endswith("_half_width")]
    return table_of(frame, names)


def with_interval(row: Mapping[Any, Any], name: str) -> str:
    """NAME_mean ± NAME_half_width of a summary's row, as its column writes it; empty for NaN.

    >>> with_interval({"top1_error_mean": 0.0259, "top1_error_half_width": 0.0014}, "top1_error")
    '2.59 ± 0.14'
    """
    return column(name).cell(row)


def points(mean: float, half_width: float) -> str:
    """A difference of errors, given as fractions, in points with its interval.

    >>> points(-0.0028, 0.005)
    '-0.28 ± 0.50'
    """
    return written(100 * mean, 100 * half_width, "+.2f")


def axis_label(name: str) -> str:
    """What an axis of a figure says: header and unit."""
    return column(name).heading


def setting(frame: "pd.DataFrame", config: Any = None, *more: str) -> str:
    """What rows were measured on, in a sentence: network, data, split, seeds, convention, what ± is."""
    count = int(frame["seed"].nunique())
    parts = [f"{config.model} on {config.dataset}"] if config is not None else []
    parts += [*more, f"{int(frame['total'].iloc[0]):,} test points"]
    if "classes" in frame:
        parts.append(f"{int(frame['classes'].iloc[0])} classes")
    parts.append(seeds(count))
    if "convention" in frame:
        parts.append(f"convention {frame['convention'].iloc[0]!r}")
    return f"{', '.join(parts)}; {spread(count)}"


def spread(count: int) -> str:
    """What ± is in a table of this many seeds.

    >>> spread(1)
    'one seed has no interval'
    """
    return "± is a 95 % interval of the mean over seeds" if count > 1 else "one seed has no interval"
