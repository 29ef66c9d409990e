"""What a column of results is called, and how its values are written: the same in every table and figure."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import floor, log10
from typing import Any, Literal

from capacity.latex import in_signs

KEY = 100  # importance of what names a row: never dropped
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
SMALLEST = 1e-4  # numbers below are written with a power of ten


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Parameters
    ----------
    name: of the stored values; means over repeats are stored as NAME_mean and NAME_half_width
    header: in words; `symbol` stands for them in LaTeX and HTML, as TeX
    unit: as printed in brackets; `factor` brings stored values to it
    style: of a number without an interval, as for `format`; empty for text
    better: which direction is better, where one is
    against: what a difference is taken against; it is named in the header
    importance: columns of the least go first where a table is too wide; KEY names a row and stays
    prose: sentences, which may be broken between words
    value: computes it from a row where it is not stored
    missing: what stands where there is no value
    """

    name: str
    header: str
    unit: str = ""
    symbol: str = ""
    factor: float = 1
    style: str = ""
    better: Literal["", "lower", "higher"] = ""
    against: str = ""
    importance: int = 1
    prose: bool = False
    missing: str = ""
    value: Callable[[Mapping[Any, Any]], Any] | None = None

    @property
    def title(self) -> str:
        """The header in words, with what a difference is taken against."""
        return f"{self.header} - {self.against}" if self.against else self.header

    @property
    def heading(self) -> str:
        """Title and unit.

        >>> Column("top1_error", "error", "points", against="control").heading
        'error - control [points]'
        """
        return f"{self.title} [{self.unit}]" if self.unit else self.title

    @property
    def sign_heading(self) -> str:
        """The heading with its symbol as letters and signs, for HTML.

        >>> Column("points_per_bit", "rho", "points/bit", r"$\\rho$").sign_heading
        'ρ [points/bit]'
        """
        return self.heading.replace(self.header, in_signs(self.symbol), 1) if self.symbol else self.heading

    @property
    def numeric(self) -> bool:
        return bool(self.style)

    def number(self, row: Mapping[Any, Any]) -> float | None:
        """What the column is sorted by: the value or the mean of a row; None where it has no number."""
        value = row.get(self.name, row.get(f"{self.name}_mean"))
        if value is None and self.value is not None:
            value = self.value(row)
        plain = isinstance(value, int | float) and not isinstance(value, bool) and not is_missing(value)
        return float(value) if plain else None

    def cell(self, row: Mapping[Any, Any]) -> str:
        """The value of a row as text, with the half-width of its 95 % interval where it has one.

        >>> Column("error", "error", "%", factor=100, style=".2f").cell(
        ...     {"error_mean": 0.0259, "error_half_width": 0.0014})
        '2.59 ± 0.14'
        """
        value: Any
        half = math.nan
        if self.value is not None:
            value = self.value(row)
        elif self.name in row or f"{self.name}_mean" not in row:
            value = row.get(self.name)
        else:
            value, half = row[f"{self.name}_mean"], row.get(f"{self.name}_half_width", math.nan)
        if is_missing(value):
            return self.missing
        if not self.numeric or isinstance(value, bool):
            return words(value)
        if isinstance(value, str):
            return value
        if isinstance(value, int) and self.factor == 1 and self.style == ",":
            return f"{value:,}"  # however large
        return with_interval(value * self.factor, half * self.factor, self.style)


def is_missing(value: Any) -> bool:
    """Whether there is no value: None, NaN, or an empty text."""
    if value is None or (isinstance(value, str) and not value):
        return True
    return type(value).__name__ == "NAType" or (isinstance(value, float) and math.isnan(value))


def words(value: Any) -> str:
    """A value that is no number as text, in one line."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value))
    return " ".join(str(value).split())


def with_interval(mean: float, half_width: float, style: str) -> str:
    """A mean with as many decimals as two significant digits of its interval have, and that interval.

    Without an interval (NaN: a single repeat; nothing: the same in every repeat) as `style` says.

    >>> with_interval(0.0203702, 0.000301, ".3g"), with_interval(17216.0, 0.0, ",.0f")
    ('0.02037 ± 0.00030', '17,216')
    """
    if not half_width > 1e-9 * abs(mean) or math.isinf(half_width):
        return number(mean, style)
    sign = "+" if style.startswith("+") else ""
    decimals = max(0, 1 - floor(log10(half_width)))
    if decimals > 6 and abs(mean) < SMALLEST:
        power = floor(log10(max(abs(mean), half_width)))
        digits = decimals + power
        scaled = f"{mean / 10.0**power:{sign}.{digits}f} ± {half_width / 10.0**power:.{digits}f}"
        return f"({scaled})·10{str(power).translate(SUPERSCRIPT)}"
    return f"{mean:{sign},.{decimals}f} ± {half_width:,.{decimals}f}"


def number(value: float, style: str = "") -> str:
    """A number, written out or with a power of ten but never as 1e-05; without a style with four digits.

    >>> number(0.00009237, ".3g"), number(102772992.0), number(0.00012, ".3g")
    ('9.24·10⁻⁵', '102,772,992', '0.00012')
    """
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if style == ",":
        style = ",.0f" if value == int(value) else ""
    text = format(value, style or (",.0f" if abs(value) >= 1000 else ".4g"))
    if text.startswith("-") and not text.strip("-0."):
        text = format(0.0, style or ".4g")  # no minus before nothing
    digits, exponent, power = text.partition("e")
    if not exponent:
        return text
    places = int(power)
    if places >= 0:
        return f"{value:,.0f}"
    if abs(value) >= SMALLEST:
        return f"{value:.{len(digits.lstrip('+-').replace('.', '')) - 1 - places}f}"
    return f"{digits}·10{str(places).translate(SUPERSCRIPT)}"


def percent(share: float, decimals: int = 0, *, sign: bool = False) -> str:
    """A share in percent, as every sentence writes it.

    >>> percent(0.4884, 1), percent(0.01, 2, sign=True)
    ('48.8 %', '+1.00 %')
    """
    return f"{100 * share:{'+' if sign else ''},.{decimals}f} %"


def counted(number: int, noun: str) -> str:
    """A number and its noun.

    >>> counted(1, "network"), counted(1200, "epoch")
    ('1 network', '1,200 epochs')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def seeds(count: int) -> str:
    """How many repeats, in words.

    >>> seeds(1), seeds(3)
    ('1 seed', '3 seeds')
    """
    return counted(count, "seed")
