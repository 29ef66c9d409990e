"""Tables of pages and notebooks: means with their intervals in one cell, units in the "
"headings, all escaped."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import floor, log10
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS = 1_000
PROSE = 40  # characters from which a text may be broken into lines
UNITS = {"bits": "bit", "bytes": "bytes", "ms": "ms", "db": "dB", "nats": "nat"}
NAMES = {
    "points_per_bit": "ρ [points/bit]", "points_of_all_per_bit": "ρ of all points [points/bit]",
    "bits_per_bit": "G [bit/bit]", "kappa": "κ", "flops": "FLOPs", "correct": "correct points",
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """What a cell shows, and the number by which its column is sorted; text is sorted as text."""

    text: str
    number: float | None = None


@dataclass(frozen=True)
class HtmlTable:
    """A table that shows itself in notebooks, and whose headings a page makes buttons that sort it.

    Parameters
    ----------
    headings: of the columns, the first of which names the row
    rows: a cell for each heading
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def to_html(self, *, row_ids: str = "", caption: str = "table") -> str:
        """The table in a box in which it scrolls; rows get the ids ROW_IDS-0, ROW_IDS-1, ..."""
        kinds = [self._kind(place) for place in range(len(self.headings))]
        head = "".join(
            f'<th scope="col" class="{kind}">{escape(name)}</th>'
            for name, kind in zip(self.headings, kinds, strict=True)
        )
        body = []
        for place, row in enumerate(self.rows[:MOST_ROWS]):
            mark = f' id="{row_ids}-{place}"' if row_ids else ""
            pairs = zip(row, kinds, strict=True)
            cells = "".join(
                _element(cell, kind, first=not column) for column, (cell, kind) in enumerate(pairs)
            )
            body.append(f"<tr{mark}>{cells}</tr>")
        left_out = len(self.rows) - MOST_ROWS
        note = f"<p>{left_out:,} more rows are in results.csv.</p>" if left_out > 0 else ""
        table = f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody>"
        box = f'<div class="box" tabindex="0" role="region" aria-label="{escape(caption)}">'
        return f'{box}<table class="sortable">{table}</table></div>{note}'

    def _kind(self, place: int) -> str:
        cells = [row[place] for row in self.rows]
        if all(cell.number is not None or not cell.text for cell in cells):
            return "number"
        return "prose" if any(len(cell.text) > PROSE for cell in cells) else "text"

    def _repr_html_(self) -> str:
        return f"<style>.sortable .number, .sortable .text {{ white-space: nowrap }}</style>{self.to_html()}"


def html_table(frame: "pd.DataFrame") -> HtmlTable:
    """A DataFrame's rows; NAME_mean and NAME_half_width share a column."""
    names = [str(name) for name in frame.columns if not str(name).endswith("_half_width")]
    rows = []
    for row in frame.to_dict("records"):
        halves = [row.get(f"{name.removesuffix('_mean')}_half_width") for name in names]
        rows.append(
            [cell_of(row[name], half, _factor(name)) for name, half in zip(names, halves, strict=True)]
        )
    return HtmlTable([heading(name) for name in names], rows)


def heading(name: str) -> str:
    """A stored column's name in words, with its unit.

    >>> heading("top1_error_mean"), heading("latency_32_ms"), heading("top1_error_difference_mean")
    ('top-1 error [%]', 'latency 32 [ms]', 'top-1 error difference [points]')
    """
    name = name.removesuffix("_mean")
    words = NAMES.get(name, re.sub(r"\btop(\d)\b", r"top-\1", name.replace("_", " ")))
    head, _, last = words.rpartition(" ")
    if head and last in UNITS:
        return f"{head} [{UNITS[last]}]"
    if _factor(name) == 100:
        return f"{words} [points]" if "difference" in name or "minus" in name else f"{words} [%]"
    return words


def cell_of(value: Any, half: Any = None, factor: float = 1) -> Cell:
    """A value as a cell, with as many decimals as two significant digits of its interval have.

    >>> cell_of(0.0259, 0.00144, 100).text, cell_of(17216.0, 0.0).text, cell_of("masked").text
    ('2.59 ± 0.14', '17,216', 'masked')
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        text = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
        return Cell(" ".join(text.split()))
    if value != value:
        return Cell("")
    number = value * factor
    if not isinstance(half, float) or not half > 1e-9 * abs(value):
        whole = float(number).is_integer() and abs(number) < 1e15
        return Cell(f"{number:,.0f}" if whole or abs(number) >= 1000 else f"{number:.4g}", float(value))
    decimals = max(0, 1 - floor(log10(half * factor)))
    return Cell(f"{number:,.{decimals}f} ± {half * factor:,.{decimals}f}", float(value))


def _factor(name: str) -> float:
    return 100 if "error" in name or "agreement" in name else 1


def _element(cell: Cell, kind: str, *, first: bool) -> str:
    start, end = ('<th scope="row"', "</th>") if first else ("<td", "</td>")
    order = "" if cell.number is None else f' data-order="{cell.number!r}"'
    mean, sign, half = cell.text.partition(" ± ")
    text = escape(cell.text)
    if sign and cell.number is not None:
        text = f'{escape(mean)} <span class="half">±&nbsp;{escape(half)}</span>'
    return f'{start} class="{kind}"{order}>{text}{end}'
