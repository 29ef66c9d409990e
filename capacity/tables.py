"""A table of results, and how it shows itself: text, DataFrame, LaTeX, HTML, Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape as escape_html
from typing import TYPE_CHECKING, Any

from capacity.columns import KEY, Column
from capacity.terminal import Strip, broken, laid_out, printable, terminal_width

if TYPE_CHECKING:
    import pandas as pd

LONGEST_INTEGER = 2**63


@dataclass(frozen=True)
class Table:
    """Rows by the names of their columns, a title above and notes below.

    `columns` are those shown; one without any value is left out. `rows` may hold more, which `to_frame`
    gives. `more` says where columns are that found no room. `caption` and `label` are LaTeX's; without a
    caption the title is taken.
    """

    columns: Sequence[Column]
    rows: Sequence[Mapping[Any, Any]]
    title: str = ""
    notes: Sequence[str] = ()
    total: Mapping[Any, Any] | None = None
    caption: str = ""
    label: str = ""
    more: str = "in .to_frame()"

    @property
    def shown(self) -> list[Column]:
        """The columns that have a value in some row, or name the rows."""
        return [c for c in self.columns if c.importance >= KEY or any(map(c.cell, self.rows))]

    def text(self, width: int | None = None, *, wide: bool = False) -> str:
        """The table as plain text, by default as wide as the terminal; `wide` leaves no column out."""
        width = None if wide else width or terminal_width()
        columns = self.shown
        strips = [self._strip(column) for column in columns]
        table, dropped = laid_out(strips, width)
        if not dropped:
            return table
        names = [c.heading for c, strip in zip(columns, strips, strict=True) if strip in dropped]
        count = f"{len(names)} more column" + "s" * (len(names) > 1)
        return table + "\n" + broken(printable(f"{count} {self.more}: {'; '.join(names)}"), width)

    def total_cell(self, column: Column) -> str:
        """The total of a column, empty where it has none."""
        return column.cell(self.total) if self.total is not None and column.name in self.total else ""

    def _strip(self, column: Column) -> Strip:
        cells = tuple(printable(column.cell(row)) for row in self.rows)
        total = printable(self.total_cell(column))
        right = column.numeric and not column.prose
        return Strip(
            printable(column.title), column.unit, cells, total, right, column.importance, column.prose
        )

    def to_frame(self) -> "pd.DataFrame":
        """A row per row. Integers stay integers: beside empty cells, and where sums do not fit 64 bits."""
        import pandas as pd

        names = list(self.rows[0]) if self.rows else [column.name for column in self.columns]
        frame = pd.DataFrame(list(self.rows), columns=names)
        counts = {column.name for column in self.columns if column.style == ","}
        for name in names:
            values = [row[name] for row in self.rows]
            if all(map(_is_integer, values)) and (
                name in counts or any(value is not None for value in values)
            ):
                wide = sum(abs(value) for value in values if value is not None) >= LONGEST_INTEGER
                kind = "object" if wide else "Int64" if None in values else "int64"
                frame[name] = pd.Series(values, dtype=kind)
        return frame

    def to_latex(
        self, *, caption: str | None = None, label: str | None = None, venue: str = "article"
    ) -> str:
        """A booktabs table at a venue's width, ready to be included; what it needs is named at its top.

        Raises InputError for a venue that `capacity.latex.VENUES` does not hold.
        """
        from capacity.latex_tables import Cells, Text, to_latex

        count = len(self.rows)
        cells = [Cells(c, (*map(c.cell, self.rows), self.total_cell(c)), count) for c in self.shown]
        if caption is None:
            caption = self.caption or self.title.replace("\n", "; ")
        return to_latex(Text(cells, count, self.total is not None, caption, label or self.label), venue)

    def to_html(self) -> str:
        """The table as HTML, sentences above and below."""
        columns = self.shown
        rows = [_html_row("td", columns, [column.cell(row) for column in columns]) for row in self.rows]
        foot = ""
        if self.total is not None:
            foot = f"<tfoot>{_html_row('th', columns, list(map(self.total_cell, columns)))}</tfoot>"
        head = _html_row("th", columns, [column.sign_heading for column in columns])
        above = "".join(f"<p>{escape_html(line)}</p>" for line in self.title.split("\n") if line)
        below = "".join(f"<p>{escape_html(line)}</p>" for line in self.notes)
        body = f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody>{foot}</table>"
        return f'<div class="deepcapacity">{above}{body}{below}</div>'

    def to_markdown(self) -> str:
        """The table as Markdown."""
        columns = self.shown
        lines = [[column.heading for column in columns], ["---:" if c.numeric else "---" for c in columns]]
        lines += [[column.cell(row) for column in columns] for row in self.rows]
        return "\n".join(
            "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
        )

    def to_text(self, *, wide: bool = False) -> str:
        """Title, table and notes as plain text."""
        title = printable(broken(self.title))
        notes = [printable(broken(note)) for note in self.notes]
        return "\n".join([*([title] if title else []), self.text(wide=wide), *notes])

    def __str__(self) -> str:
        return self.to_text()


class Tabular:
    """A result that shows itself by its `table()`: printed, as a DataFrame, in LaTeX, in a notebook."""

    def table(self) -> Table:
        """Title, columns, rows and notes."""
        raise NotImplementedError

    def to_frame(self) -> "pd.DataFrame":
        """The rows of the table with all that is known of each."""
        return self.table().to_frame()

    def to_latex(
        self, *, caption: str | None = None, label: str | None = None, venue: str = "article"
    ) -> str:
        """A booktabs table at a venue's width; the caption is the title unless one is given."""
        return self.table().to_latex(caption=caption, label=label, venue=venue)

    def _repr_html_(self) -> str:
        return self.table().to_html()

    def __str__(self) -> str:
        return str(self.table())


class Statement:
    """A result that says in a sentence or a few what it is; a paragraph for each line in a notebook."""

    def _repr_html_(self) -> str:
        return "".join(f"<p>{escape_html(line)}</p>" for line in str(self).split("\n"))


def _is_integer(value: Any) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool))


def _html_row(tag: str, columns: Sequence[Column], cells: Sequence[str]) -> str:
    shown = (
        f'<{tag} style="text-align: {"right" if column.numeric else "left"}">{escape_html(cell)}</{tag}>'
        for column, cell in zip(columns, cells, strict=True)
    )
    return f"<tr>{''.join(shown)}</tr>"
