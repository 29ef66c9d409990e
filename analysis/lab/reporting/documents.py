"""A document of sections - sentences, tables, pictures, code - as Markdown, LaTeX or a notebook."""

import html
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.lab.reporting.latex import escape
from capacity.errors import InputError, missing

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Section:
    """A heading, its sentences, and where there is one a table, a picture (by file name), and code.

    `code` is run by notebooks; `literal` is shown there as it is, such as a command line.
    """

    title: str
    sentences: Sequence[str]
    table: "pd.DataFrame | None" = None
    picture: str = ""
    code: str = ""
    literal: str = ""


def to_markdown(title: str, sections: Sequence[Section]) -> str:
    """The document as Markdown; pictures are linked as PNG."""
    parts = [f"# {shown(title)}"]
    for section in sections:
        parts += [f"## {shown(section.title)}", *map(shown, section.sentences)]
        if section.table is not None:
            parts.append(shown(_markdown_table(section.table)))
        if section.picture:
            parts.append(f"![{shown(section.title)}]({section.picture}.png)")
    return "\n\n".join(parts) + "\n"


def to_latex(sections: Sequence[Section]) -> str:
    """The sections as LaTeX to be included in an article with booktabs and graphicx."""
    parts = []
    for section in sections:
        parts += [rf"\subsection*{{{escape(section.title)}}}", *(escape(line) for line in section.sentences)]
        if section.table is not None:
            cells = section.table.map(_cell)
            cells.columns = [escape(name) for name in cells.columns]
            formats = "".join("r" if _numeric(section.table[c]) else "l" for c in section.table.columns)
            body = cells.map(escape).to_latex(index=False, escape=False, column_format=formats)
            parts.append(rf"\begin{{center}}\small{chr(10)}{body}\end{{center}}")
        if section.picture:
            picture = rf"\includegraphics[width=\linewidth]{{{section.picture}.pdf}}"
            parts.append(rf"\begin{{center}}{picture}\end{{center}}")
    return "\n\n".join(parts) + "\n"


def to_notebook(title: str, sections: Sequence[Section]) -> str:
    """The document as a notebook (nbformat 4) that has not run yet: see `executed`."""
    try:
        import nbformat
        from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
    except ImportError as error:
        raise missing("notebook", "a notebook") from error

    cells = [new_markdown_cell(f"# {shown(title)}")]
    for section in sections:
        lines = [f"## {shown(section.title)}", *map(shown, section.sentences)]
        if section.literal:
            lines.append(fenced(section.literal))
        if section.table is not None and not section.code:
            lines.append(shown(_markdown_table(section.table)))
        cells.append(new_markdown_cell("\n\n".join(lines)))
        if section.code:
            cells.append(new_code_cell(section.code.strip()))
    for place, cell in enumerate(cells):
        cell["id"] = f"cell-{place}"  # the same document gives the same bytes
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    book = new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.validate(book)
    return str(nbformat.writes(book)) + "\n"


def executed(notebook: str, folder: Path, *, timeout: int = 600) -> str:
    """The notebook with the outputs of its code, run in this folder; nothing is imported from there.

    Raises InputError with the error of a cell that fails, or that takes more than `timeout` seconds.
    """
    try:
        import ipykernel  # noqa: F401
        import nbformat
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError, CellTimeoutError
    except ImportError as error:
        raise missing("notebook", "an executed notebook") from error

    book = nbformat.reads(notebook, as_version=4)
    client = NotebookClient(
        book, timeout=timeout, kernel_name="python3", record_timing=False,
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--InteractiveShellApp.ignore_cwd=True", "--log-level=ERROR"],
    )  # fmt: skip
    package_dir = str(Path(__file__).resolve().parents[3])  # where this package is, installed or not
    places = os.pathsep.join(filter(None, (package_dir, os.environ.get("PYTHONPATH"))))
    try:
        client.execute(env={**os.environ, "PYTHONPATH": places, "PYTHONSAFEPATH": "1"})
    except CellExecutionError as error:
        raise InputError(f"a cell of the notebook fails: {error.ename}: {error.evalue}") from error
    except CellTimeoutError as error:
        raise InputError(f"a cell of the notebook takes more than {timeout} s") from error
    return str(nbformat.writes(book)) + "\n"


def shown(text: str) -> str:
    """A text that Markdown shows as it is, but for emphasis: no HTML, picture or link in it takes effect.

    >>> shown("a < b & <script>"), shown("![x](http://x)")
    ('a &lt; b &amp; &lt;script&gt;', '!\\\\[x]\\\\(http://x)')
    """
    plain = html.escape(text, quote=False)
    return plain.replace("![", "!\\[").replace("](", "]\\(").replace("][", "]\\[")


def fenced(text: str) -> str:
    """A block of code in Markdown, which nothing in it can end.

    >>> print(fenced("echo `date`"))
    ```sh
    echo `date`
    ```
    """
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}sh\n{text}\n{fence}"


def _markdown_table(frame: "pd.DataFrame") -> str:
    rows = [[_cell(value) for value in row] for row in frame.itertuples(index=False)]
    lines = [[str(name) for name in frame.columns], ["---"] * len(frame.columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _numeric(column: Any) -> bool:
    from pandas.api.types import is_numeric_dtype

    return bool(is_numeric_dtype(column))
