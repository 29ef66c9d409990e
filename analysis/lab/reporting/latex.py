"""DataFrames as LaTeX: booktabs, mean and interval in one cell, units in the header."""

from collections.abc import Mapping
from math import floor, log10
from typing import TYPE_CHECKING, Any

from capacity.report import escape_latex

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = {  # name -> header and the factor its numbers are shown with
    "capacity_bits": ("capacity [bit]", 1),
    "correct": ("correct points", 1),
    "top1_error": (r"top-1 error [\%]", 100),
    "points_per_bit": (r"$\rho$ [points/bit]", 1),
    "bits_per_bit": ("$G$ [bit/bit]", 1),
    "kappa": (r"$\kappa$", 1),
    "top1_error_difference": ("error $-$ control [points]", 100),
}


def to_booktabs(means: "pd.DataFrame", *, caption: str) -> str:
    """A summary (columns NAME_mean and NAME_half_width) as a table of mean ± half-width."""
    import pandas as pd

    cells: dict[str, Any] = {}
    keys = [c for c in means.columns if not c.endswith(("_mean", "_half_width"))]
    for key in keys:
        cells[escape(key)] = [escape(value) for value in means[key]]
    for column in means.columns:
        if column.endswith("_mean"):
            name = column.removesuffix("_mean")
            header, factor = COLUMNS.get(name, (escape(name), 1))
            pairs = zip(means[column] * factor, means[f"{name}_half_width"] * factor, strict=True)
            cells[header] = [mean_and_interval(mean, half) for mean, half in pairs]
    frame = pd.DataFrame(cells)
    formats = "l" * len(keys) + "r" * (len(frame.columns) - len(keys))
    return frame.to_latex(index=False, escape=False, column_format=formats, caption=escape(caption))


def mean_and_interval(mean: float, half_width: float) -> str:
    """A mean with as many decimals as two significant digits of its interval have; -- for NaN.

    >>> mean_and_interval(0.0203702, 0.000301), mean_and_interval(17216.0, 0.0)
    ('$0.02037 \\\\pm 0.00030$', '$17\\\\,216$')
    """
    if mean != mean:
        return "--"
    if not half_width > 1e-9 * abs(mean):  # one value only, or the same one in every repeat
        return f"${mean:,.0f}$".replace(",", r"\,") if abs(mean) >= 1000 else f"${mean:.4g}$"
    decimals = max(0, 1 - floor(log10(half_width)))
    return rf"${mean:,.{decimals}f} \pm {half_width:,.{decimals}f}$".replace(",", r"\,")


def with_interval(row: Mapping[Any, Any], name: str, style: str, factor: float = 1) -> str:
    """NAME_mean ± NAME_half_width of a summary's row as plain text; empty for NaN."""
    mean, half = row[f"{name}_mean"] * factor, row[f"{name}_half_width"] * factor
    if mean != mean:
        return ""
    if half != half:
        return f"{mean:{style}}"
    exact = half < 1e-9 * abs(mean)  # the same in every seed
    return f"{mean:{style}} ± " + ("0" if exact else f"{half:{style.lstrip('+')}}")


def escape(value: object) -> str:
    """Text that LaTeX prints as it is, ± included."""
    return escape_latex(value).replace("±", r"$\pm$")
