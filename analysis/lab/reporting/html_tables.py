"""Tables of pages and notebooks: means and intervals in one cell, units in the headings, all escaped."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from capacity.tables import Table

MOST_ROWS = 1_000
PROSE = 40  # characters from which a text may be broken into lines


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
        numbers = [cell.number is not None for cell in cells if cell.text]
        if 2 * sum(numbers) >= len(numbers):  # a word may stand where there is no number
            return "number"
        return "prose" if any(len(cell.text) > PROSE for cell in cells) else "text"

    def _repr_html_(self) -> str:
        return f"<style>.sortable .number, .sortable .text {{ white-space: nowrap }}</style>{self.to_html()}"


def html_table(table: "Table") -> HtmlTable:
    """A table's shown columns, sorted by their numbers."""
    columns = table.shown
    rows = [[Cell(column.cell(row), column.number(row)) for column in columns] for row in table.rows]
    return HtmlTable([column.sign_heading for column in columns], rows)


def _element(cell: Cell, kind: str, *, first: bool) -> str:
    start, end = ('<th scope="row"', "</th>") if first else ("<td", "</td>")
    order = "" if cell.number is None else f' data-order="{cell.number!r}"'
    mean, sign, half = cell.text.partition(" ± ")
    text = escape(cell.text)
    if sign and cell.number is not None:
        text = f'{escape(mean)} <span class="half">±&nbsp;{escape(half)}</span>'
    return f'{start} class="{kind}"{order}>{text}{end}'
