"""DataFrames as LaTeX: booktabs, mean and interval in one cell, units in the header."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

UNITS = {
    "capacity_bits": "capacity [bit]",
    "correct": "correct points",
    "top1_error": "top-1 error",
    "points_per_bit": r"$\rho$ [points/bit]",
    "bits_per_bit": "$G$ [bit/bit]",
    "kappa": r"$\kappa$",
    "top1_error_difference": "error $-$ control",
}


def to_booktabs(means: "pd.DataFrame", *, caption: str) -> str:
    """A summary (columns NAME_mean and NAME_half_width) as a table of mean ± half-width."""
    import pandas as pd

    cells: dict[str, Any] = {}
    for column in means.columns:
        if column.endswith("_mean"):
            name = column.removesuffix("_mean")
            pairs = zip(means[column], means[f"{name}_half_width"], strict=True)
            cells[UNITS.get(name, escape(name))] = [_cell(mean, half) for mean, half in pairs]
        elif not column.endswith("_half_width"):
            cells[escape(column)] = [escape(value) for value in means[column]]
    frame = pd.DataFrame(cells)
    left = "l" * sum(not c.endswith(("_mean", "_half_width")) for c in means.columns)
    formats = left + "r" * (len(frame.columns) - len(left))
    return frame.to_latex(index=False, escape=False, column_format=formats, caption=escape(caption))


def _cell(mean: float, half: float) -> str:
    if mean != mean:
        return "--"
    text = _number(mean)
    return rf"${text} \pm {_number(half)}$" if half == half and half else f"${text}$"


def _number(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", r"\,")
    return f"{value:.4g}"


def escape(value: object) -> str:
    """Text that LaTeX prints as it is."""
    text = str(value).replace("±", r"$\pm$")
    for character in "&%#_{}":
        text = text.replace(character, "\\" + character)
    return text.replace(r"$\\pm$", r"$\pm$")
