"""DataFrames as LaTeX: booktabs, mean and interval in one cell, units in the header."""

from typing import TYPE_CHECKING

from analysis.lab.reporting.columns import table_of
from capacity.columns import with_interval
from capacity.latex import number_in_latex
from capacity.latex import words_in_latex as escape

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["escape", "mean_and_interval", "to_booktabs"]


def to_booktabs(means: "pd.DataFrame", *, caption: str, venue: str = "article") -> str:
    """A summary (columns NAME_mean and NAME_half_width) as a table of mean ± half-width."""
    names = [c.removesuffix("_mean") for c in means.columns if not c.endswith("_half_width")]
    return table_of(means, names, caption=caption).to_latex(venue=venue)


def mean_and_interval(mean: float, half_width: float) -> str:
    """A mean with as many decimals as two significant digits of its interval have; -- for NaN.

    >>> mean_and_interval(0.0203702, 0.000301), mean_and_interval(17216.0, 0.0)
    ('$0.02037 \\\\pm 0.00030$', '$17\\\\,216$')
    """
    return "--" if mean != mean else number_in_latex(with_interval(mean, half_width, ""))
