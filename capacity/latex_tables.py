"""Tables in LaTeX: booktabs, at the width of a venue's column or page, so that no box is overfull."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

from capacity.columns import KEY, Column
from capacity.errors import unknown
from capacity.latex import POINTS, VENUES, em, number_in_latex, words_in_latex
from capacity.terminal import split_title

SPREAD = ("ieee-two",)  # venues whose tables go across both columns
LINES = 46  # of one float: what a page holds
SHARE = 0.45  # of the width, that a name may take before it is broken
SENTENCES = 0.2  # of the width, that a column of sentences needs at least
ARROWS = {"lower": r" $\downarrow$", "higher": r" $\uparrow$", "": ""}


@dataclass(frozen=True)
class Letters:
    """A size of letters: its name in LaTeX, its em and the gap beside a column in points."""

    name: str
    em: float
    gap: float


SIZES = (Letters("small", 9.3, 6), Letters("footnotesize", 8.6, 4), Letters("scriptsize", 8, 3))


@dataclass(frozen=True)
class Cells:
    """One column: its cells as text, a total among them; `room` in points where they must be broken."""

    column: Column
    texts: tuple[str, ...]
    rows: int
    room: float = 0

    def heads(self, broken: bool) -> list[str]:
        """The lines of the header: one, or its words broken as narrow as the cells are, and the unit."""
        unit = [f"[{self.column.unit}]"] if self.column.unit else []
        if not broken:
            return [" ".join([self.column.title, *unit])]
        return [*split_title(self.column.title, self.texts), *unit]

    def width(self, letters: Letters, broken: bool) -> float:
        """What the widest cell takes in points, and the arrow in the header."""
        signs = 0.15 if self.column.numeric else 0
        cells = max((em(text) + signs * text.count("±") for text in self.texts), default=0)
        arrow = 0.95 if self.column.better else 0
        return letters.em * max([cells, *(em(line) + arrow for line in self.heads(broken))])

    def head(self, broken: bool) -> str:
        """The header in LaTeX."""
        column, arrow = self.column, ARROWS[self.column.better]
        lines = [re.sub("(^| )- ", r"\1$-$ ", words_in_latex(line)) for line in self.heads(broken)]
        if column.symbol:
            against = f" $-$ {words_in_latex(column.against)}" if column.against else ""
            unit = [f"[{words_in_latex(column.unit)}]"] if column.unit else []
            lines = (
                [column.symbol + against, *unit] if broken else [" ".join([column.symbol + against, *unit])]
            )
        if len(lines) < 2 or self.room:
            return " ".join(lines) + arrow
        lines[-1] += arrow
        stack = r" \\ {}".join(lines)  # {}: a bracket after \\ would be its option
        return rf"\shortstack[{'lr'[column.numeric]}]{{{stack}}}"

    def cell(self, place: int) -> str:
        """A cell in LaTeX."""
        text = self.texts[place]
        if not text:
            return "--" if self.column.numeric and place < self.rows else ""
        if self.column.numeric:
            return number_in_latex(text)
        tex = words_in_latex(text)
        return re.sub(r"(?<=[./\-])(?=\w)|(?<=\\_)", r"\\allowbreak{}", tex) if self.room else tex


@dataclass(frozen=True)
class Layout:
    """How a table is set: its letters, the columns side by side, the sentences below each row."""

    letters: Letters
    broken: bool
    beside: tuple[Cells, ...]
    below: tuple[Cells, ...]
    dropped: tuple[Column, ...]
    width: float

    def row(self, place: int) -> str:
        """A row in LaTeX."""
        cells_in_row = " & ".join(cells.cell(place) for cells in self.beside)
        lines = ["{}" * cells_in_row.startswith("[") + cells_in_row + r" \\"]
        room = f"@{{}}p{{{self.width - 2:.1f}pt}}@{{}}"
        for cells in self.below:
            if cells.texts[place]:
                sentence = rf"\emph{{{words_in_latex(cells.column.title)}:}} {cells.cell(place)}"
                lines.append(rf"\multicolumn{{{len(self.beside)}}}{{{room}}}{{{sentence}}} \\")
        return "\n".join(lines)

    def lines(self, place: int) -> int:
        """Lines that a row takes."""
        tall = [ceil(self.letters.em * em(c.texts[place]) / c.room) for c in self.beside if c.room]
        sentences = [c.column.title + c.texts[place] for c in self.below if c.texts[place]]
        return max([1, *tall]) + sum(ceil(self.letters.em * em(text) / self.width) for text in sentences)

    def kinds(self) -> str:
        """The kinds of the columns, as tabular wants them."""
        sentence = r">{{\raggedright\arraybackslash}}p{{{:.1f}pt}}"
        kinds = [sentence.format(c.room) if c.room else "lr"[c.column.numeric] for c in self.beside]
        return "@{}" + "".join(kinds) + "@{}"


@dataclass(frozen=True)
class Text:
    """What a table is made of: its columns, how many rows they have, a total below, caption and label."""

    columns: Sequence[Cells]
    rows: int
    total: bool
    caption: str
    label: str


def to_latex(table: Text, venue: str) -> str:
    """The table as floats for a venue, each with its caption; see `Table.to_latex`."""
    if venue not in VENUES:
        raise unknown("venue", venue, VENUES)
    column, text = VENUES[venue].column, VENUES[venue].text
    layout = _fitting(table, column * POINTS - 1, SIZES[:2]) if column < text else None
    star = layout is None and (column < text or venue in SPREAD)
    layout = layout or _fitting(table, text * POINTS - 1, SIZES) or _narrowed(table, text * POINTS - 1)
    return _floats(table, layout, "table*" if star else "table", venue)


def _parted(table: Text) -> tuple[list[Cells], list[Cells]]:
    """The columns, and those of sentences."""
    prose = [cells for cells in table.columns if cells.column.prose]
    return [cells for cells in table.columns if not cells.column.prose], prose


def _bound(cells: Cells, letters: Letters, broken: bool, width: float) -> Cells:
    long = not cells.column.numeric and cells.width(letters, broken) > SHARE * width
    return replace(cells, room=SHARE * width) if long else cells


def _taken(cells: Sequence[Cells], letters: Letters, broken: bool) -> float:
    return sum(c.room or c.width(letters, broken) for c in cells) + 2 * letters.gap * (len(cells) - 1)


def _fitting(table: Text, width: float, sizes: Sequence[Letters]) -> Layout | None:
    """All columns in the largest of these letters that they fit in; None if they do not."""
    plain, prose = _parted(table)
    for letters in sizes:
        for broken in (False, True):
            bound = [_bound(cells, letters, broken, width) for cells in plain]
            if _taken(bound, letters, broken) <= width:
                return _with_sentences(Layout(letters, broken, tuple(bound), tuple(prose), (), width))
    return None


def _narrowed(table: Text, width: float) -> Layout:
    """The most important columns in the smallest letters."""
    plain, prose = _parted(table)
    letters, dropped = SIZES[-1], []
    bounds = [_bound(cells, letters, True, width) for cells in plain]
    while len(bounds) > 1 and _taken(bounds, letters, True) > width:
        rest = [cells for cells in bounds[1:] if cells.column.importance < KEY] or bounds[1:]
        least = min(cells.column.importance for cells in rest)
        dropped.append([cells for cells in rest if cells.column.importance == least][-1])
        bounds.remove(dropped[-1])
    left_out = tuple(cells.column for cells in reversed(dropped))
    return _with_sentences(Layout(letters, True, tuple(bounds), tuple(prose), left_out, width))


def _with_sentences(layout: Layout) -> Layout:
    """Sentences beside the other columns where there is room."""
    rest = layout.width - _taken(layout.beside, layout.letters, layout.broken)
    each = rest / max(1, len(layout.below)) - 2 * layout.letters.gap
    if not layout.below or each < SENTENCES * layout.width:
        return layout
    sentences = tuple(replace(cells, room=each) for cells in layout.below)
    return replace(layout, beside=layout.beside + sentences, below=())


def _floats(table: Text, layout: Layout, environment: str, venue: str) -> str:
    """The table in as many floats as it takes pages."""
    parts: list[list[int]] = [[]]
    lines = 0
    for place in range(table.rows):
        if lines + layout.lines(place) > LINES and parts[-1]:
            parts.append([])
            lines = 0
        parts[-1].append(place)
        lines += layout.lines(place)
    needs = "array, booktabs" if any(cells.room for cells in layout.beside) else "booktabs"
    top = [rf"% needs \usepackage{{{needs}}}; made for the width of venue {venue}"]
    if layout.dropped:
        names = ", ".join(column.heading for column in layout.dropped)
        top.append(f"% no room at this width for: {names}")
    floats = [
        _float(table, layout, environment, rows, (place, len(parts))) for place, rows in enumerate(parts)
    ]
    return "\n".join([*top, *floats])


def _float(table: Text, layout: Layout, environment: str, rows: Sequence[int], part: tuple[int, int]) -> str:
    place, count = part
    caption = words_in_latex(table.caption) + (f" (part {place + 1} of {count})" if count > 1 else "")
    label = table.label + (f"-{place + 1}" if place else "")
    total = table.total and place + 1 == count
    lines = [
        rf"\begin{{{environment}}}[t]",
        rf"\centering\{layout.letters.name}\setlength{{\tabcolsep}}{{{layout.letters.gap:g}pt}}",
        *([rf"\caption{{{caption}}}\vspace{{3pt}}"] if caption else []),
        *([rf"\label{{{label}}}"] if table.label else []),
        rf"\begin{{tabular}}{{{layout.kinds()}}}",
        r"\toprule",
        " & ".join(cells.head(layout.broken) for cells in layout.beside) + r" \\",
        r"\midrule",
        *map(layout.row, rows),
        *([r"\midrule", layout.row(table.rows)] if total else []),
        r"\bottomrule",
        r"\end{tabular}",
        rf"\end{{{environment}}}",
        "",
    ]
    return "\n".join(lines)
