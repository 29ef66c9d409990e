"""Tables as plain text, as wide as the terminal: nothing is cut, and no number or name is wrapped."""

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap as wrapped_words
from typing import Any

from capacity.characters import LOOKALIKE

GAP = "  "
PROSE = 26  # characters that a column of sentences needs at least


def cell_len(text: str) -> int:
    """Places that a text takes in a terminal: two for wide letters."""
    from rich.cells import cell_len

    return cell_len(text)


@dataclass(frozen=True)
class Strip:
    """One column as text: header, unit, a cell a row, and a total where there is one."""

    title: str
    unit: str
    cells: tuple[str, ...]
    total: str = ""
    right: bool = False
    importance: int = 1
    prose: bool = False

    def head(self, level: int) -> list[str]:
        """The header in one line; with the unit below; with its words broken as narrow as the cells are."""
        unit = [f"[{self.unit}]"] if self.unit else []
        if level == 0:
            return [" ".join([self.title, *unit])]
        if level == 1:
            return [self.title, *unit]
        return [*split_title(self.title, [*self.cells, self.total]), *unit]

    def width(self, level: int) -> int:
        return max(map(cell_len, [*self.head(level), *self.cells, self.total]))

    def padded(self, text: str, width: int) -> str:
        space = " " * (width - cell_len(text))
        return space + text if self.right else text + space


def split_title(title: str, cells: Sequence[str]) -> list[str]:
    """A header in lines as narrow as its column's cells or longest word; '- control' and 'a /' are one."""
    bound = title.replace(" - ", " -\xa0").replace(" / ", "\xa0/ ")
    room = max(map(cell_len, [*cells, *bound.split(" "), "letter"]))
    return wrap(bound, room, break_long_words=False)


def wrap(text: str, size: int, **options: Any) -> list[str]:
    """A text in lines; a number stays beside its % and its interval.

    >>> wrap("an error of 12 % or so", 14)
    ['an error of', '12 % or so']
    """
    bound = text.replace(" %", "\xa0%").replace(" ± ", "\xa0±\xa0")
    return [line.replace("\xa0", " ") for line in wrapped_words(bound, size, **options)]


def terminal_width() -> int:
    """Columns of the terminal; COLUMNS where it is set, and 80 where output goes elsewhere."""
    return max(20, shutil.get_terminal_size((80, 24)).columns)


def printable(text: str) -> str:
    """The text with look-alikes for characters that standard output cannot show."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        return text.encode(encoding, LOOKALIKE).decode(encoding)
    except (LookupError, UnicodeError):
        return text


def laid_out(strips: Sequence[Strip], width: int | None) -> tuple[str, list[Strip]]:
    """The columns as a table at most so wide, and those that found no room; None leaves none out.

    First the headers are broken, then the least important columns go; where the names take more than half the
    width, each stands on a line of its own above the values instead.
    """
    plain = [strip for strip in strips if not strip.prose]
    prose = [strip for strip in strips if strip.prose]
    if width is None:
        return _table(plain, prose, 0, None), []
    fitting, level = _fitting(plain, width)
    roomy = len(fitting) == len(plain) or 2 * plain[0].width(level) <= width
    if roomy and _width(fitting, level) <= width:
        return _table(fitting, prose, level, width), [strip for strip in plain if strip not in fitting]
    fitting, level = _fitting(plain[1:], width - len(GAP), named=False)
    return _stacked(plain[0], fitting, prose, level, width), [s for s in plain[1:] if s not in fitting]


def _width(strips: Sequence[Strip], level: int) -> int:
    return sum(strip.width(level) for strip in strips) + len(GAP) * (len(strips) - 1)


def _fitting(strips: list[Strip], width: int, *, named: bool = True) -> tuple[list[Strip], int]:
    """The columns that fit, and how far headers are broken for it; the first stays where it is a name."""
    for level in range(3):
        if _width(strips, level) <= width:
            return strips, level
    fitting = list(strips)
    while len(fitting) > 1 and _width(fitting, 2) > width:
        rest = fitting[named:]
        least = min(strip.importance for strip in rest)
        fitting.remove([strip for strip in rest if strip.importance == least][-1])
    return fitting, next((level for level in range(3) if _width(fitting, level) <= width), 2)


def _table(plain: list[Strip], prose: list[Strip], level: int, width: int | None) -> str:
    widths = [strip.width(level) for strip in plain]
    used = _width(plain, level)
    room = [strip.width(0) for strip in prose]
    if width is not None:
        each = (width - used) // max(1, len(prose)) - len(GAP)
        room = [min(each, natural) for natural in room]
    beside = bool(prose) and (width is None or each >= PROSE)
    shown = plain + (prose if beside else [])
    widths += room if beside else []
    heads = [strip.head(level) if strip in plain else strip.head(0) for strip in shown]
    tall = max(map(len, heads))
    lines = [
        _line(shown, [[""] * (tall - len(head)) + head for head in heads], widths, place)
        for place in range(tall)
    ]
    rule = printable("─" * (sum(widths) + len(GAP) * (len(widths) - 1)))
    lines.append(rule)
    for row in range(len(plain[0].cells)):
        lines += _row(shown, [strip.cells[row] for strip in shown], widths)
        if not beside:
            lines += _below([(strip.title, strip.cells[row]) for strip in prose], width)
    if any(strip.total for strip in shown):
        lines += [rule, *_row(shown, [strip.total for strip in shown], widths)]
    return "\n".join(line.rstrip() for line in lines)


def _row(strips: Sequence[Strip], cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    """A row's lines: one, or as many as its sentences take."""
    broken = [
        wrap(cell, size) if strip.prose and cell else [cell]
        for strip, cell, size in zip(strips, cells, widths, strict=True)
    ]
    tall = max(map(len, broken))
    even = [lines + [""] * (tall - len(lines)) for lines in broken]
    return [_line(strips, even, widths, place) for place in range(tall)]


def _line(strips: Sequence[Strip], lines: Sequence[Sequence[str]], widths: Sequence[int], place: int) -> str:
    cells = zip(strips, lines, widths, strict=True)
    return GAP.join(strip.padded(texts[place], size) for strip, texts, size in cells)


def _below(sentences: Sequence[tuple[str, str]], width: int | None) -> list[str]:
    """Sentences under their row, each after the header of its column."""
    lines = []
    for title, text in sentences:
        if text:
            sentence, size = f"{title}: {text}", width or 10**6
            lines += wrap(sentence, size, initial_indent=GAP * 2, subsequent_indent=GAP * 3)
    return lines


def _stacked(names: Strip, values: list[Strip], prose: list[Strip], level: int, width: int) -> str:
    """Each name on a line of its own, its values on the next."""
    table = _table(values, [], level, width).split("\n") if values else []
    tall = len(table) - len(names.cells) - (2 if any(strip.total for strip in values) else 0)
    head, body, end = table[:tall], table[tall : tall + len(names.cells)], table[tall + len(names.cells) :]
    lines = [names.head(0)[0], *(GAP + line for line in head)]
    for row, name in enumerate(names.cells):
        lines += [name, *(GAP + line for line in body[row : row + 1])]
        lines += _below([(strip.title, strip.cells[row]) for strip in prose], width)
    return "\n".join(
        line.rstrip() for line in lines + ([names.total] if end else []) + [GAP + x for x in end]
    )


def broken(text: str, width: int | None = None) -> str:
    """Sentences with lines broken between words where a person reads them; as they are in a pipe."""
    if width is None and not (sys.stdout.isatty() or "COLUMNS" in os.environ):
        return text
    size = width or terminal_width()
    return "\n".join(
        "\n".join(wrap(line, size, break_long_words=False, break_on_hyphens=False)) if line.strip() else line
        for line in text.split("\n")
    )
