"""A page of runs: question, findings, figures, tables, settings, versions, how to repeat."""

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from analysis.lab.cli import descriptions
from analysis.lab.reporting.columns import table_of_all
from analysis.lab.reporting.html_tables import Cell, HtmlTable, html_table
from analysis.lab.runs.loading import Run, plain
from analysis.lab.settings import NOT_IDENTITY
from analysis.report.figures import for_phones, greys, inline_svg

if TYPE_CHECKING:
    import pandas as pd

MOST_TEXT = 300  # characters of a value that is shown
QUICK = "A quick pass: it shows that everything runs, and its figures mean little."
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src '{}'; base-uri 'none'; form-action 'none'"
ASSETS = ("page.css", "page.js")
COMMIT = re.compile(r"[0-9a-f]{7,40}")


def page(runs: Sequence[Run]) -> str:
    """One HTML document of all these runs; a policy in it forbids loading anything, and any code "
    "but its own."""
    style, script = (files("analysis.report").joinpath(name).read_text("utf-8") for name in ASSETS)
    articles = "\n".join(article(run, f"run{place}") for place, run in enumerate(runs, start=1))
    title = escape(runs[0].title.rstrip(".") if len(runs) == 1 else f"{len(runs)} runs")
    head = [
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY.format(_hash(script))}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title>",
        f"<style>{style}{_grey_rules(articles)}</style>",
    ]
    body = f'{_contents(runs)}<main>\n{articles}\n</main><div id="tip" role="status" hidden></div>'
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head>{"".join(head)}</head>\n'
        f"<body>{body}<script>{script}</script></body></html>\n"
    )


def _contents(runs: Sequence[Run]) -> str:
    if len(runs) == 1:
        return ""
    entries = "".join(
        f'<li><a href="#run{place}">{escape(run.title.rstrip("."))}</a> ({escape(_subject(run))})</li>'
        for place, run in enumerate(runs, start=1)
    )
    return f'<nav aria-label="runs"><ol>{entries}</ol></nav>'


def _grey_rules(text: str) -> str:
    light, dark = (
        ";".join(f"--grey-{name}:{pair[side]}" for name, pair in greys(text).items()) for side in (0, 1)
    )
    return f":root{{{light}}}@media (prefers-color-scheme: dark){{:root{{{dark}}}}}"


def _hash(script: str) -> str:
    return f"sha256-{b64encode(sha256(script.encode()).digest()).decode()}"


def article(run: Run, mark: str) -> str:
    """A run's part of the page; `mark` begins the ids in it."""
    story, means = run.story, run.summary()
    repeated = any(str(name).endswith("_mean") for name in means.columns)
    title, subject = escape(run.title.rstrip(".")), escape(_subject(run))
    parts = [f'<header><h1>{title}</h1><p class="subject">{subject}</p></header>']
    if story is not None:
        parts.append(f'<p class="question">{escape(story.question)}</p>')
    if getattr(run.config, "smoke", False):
        parts.append(f'<p class="quick">{QUICK}</p>')
    if lines := run.headline():
        parts.append(_section("What was found", _points(lines)))
    first, *others = run.tables().values()
    shown = html_table(first).to_html(row_ids=f"{mark}-row", caption="results")
    rows = means if len(first.rows) == len(means) else type(means)(first.rows)  # those of the table shown
    parts.append(_section("Figure", figures(run, rows, mark)))
    parts.append(_section("Means and 95 % intervals" if repeated else "Results", shown))
    for table in others:
        parts.append(_section(table.caption, html_table(table).to_html(caption=table.caption)))
    if story is not None:
        parts.append(_section("What was done", _points(run.done())))
        parts.append(_section("What this does not show", _points(story.caveats(run.config))))
    if repeated:
        every = html_table(table_of_all(run.frame)).to_html(caption="measurements")
        parts.append(_folded(f"Every measurement ({len(run.frame):,} rows)", every))
    parts.append(_section("How to repeat", repeat(run)))
    parts.append(_section("Settings", settings(run)))
    parts.append(_section("Versions and machine", environment(run.environment)))
    return f'<article id="{mark}">{"".join(parts)}</article>'


def figures(run: Run, rows: "pd.DataFrame", mark: str) -> str:
    """The run's figures, each for wide screens and for phones; marks lead to the rows that they show."""
    figures_ = []
    for place, name in enumerate(run.figures()):
        label = name.replace("_", " ")
        options = {"row_ids": f"{mark}-row", "label": label}
        wide = run.figures()[name]()
        versions = [("wide", inline_svg(wide, rows, prefix=f"{mark}-f{place}", **options))]
        narrow = run.figures()[name]()
        if for_phones(narrow):
            versions.append(("narrow", inline_svg(narrow, rows, prefix=f"{mark}-n{place}", **options)))
        if len(versions) == 1:
            versions = [("any", versions[0][1])]
        figures_ += [f'<figure class="{kind}">{svg}</figure>' for kind, svg in versions]
    hint = "Point at a mark, or tap it, for its values; its row in the table is marked too."
    return "".join(figures_) + f'<p class="hint">{hint}</p>'


def settings(run: Run) -> str:
    """Settings that differ from the command's defaults, then all others folded away; no places of "
    "a machine."""
    kind = type(run.config)
    default = kind()
    texts = {name: text for name, text in descriptions(kind).items() if name not in NOT_IDENTITY}
    changed = [name for name in texts if getattr(run.config, name) != getattr(default, name)]
    others = [name for name in texts if name not in changed]

    def table(names: Sequence[str], caption: str) -> str:
        rows = [
            [name, *(_text(plain(getattr(c, name))) for c in (run.config, default)), texts[name]]
            for name in names
        ]
        heads = ["setting", "here", "by default", "what it is"]
        return HtmlTable(heads, [list(map(Cell, row)) for row in rows]).to_html(caption=caption)

    shown = table(changed, "changed settings") if changed else "<p>All are as by default.</p>"
    unknown = [str(name) for name in run.settings if name not in descriptions(kind)]
    if unknown:
        shown += f"<p>Not known to this version: {escape(_text(', '.join(unknown)))}.</p>"
    return shown + _folded(f"All others ({len(others)})", table(others, "other settings"))


def environment(facts: Mapping[str, Any]) -> str:
    """Versions, machine and commit."""
    flat: dict[str, Any] = {}
    for name, value in facts.items():
        if name == "resumed":
            flat |= resumed(value)
            continue
        flat |= value if isinstance(value, dict) else {name: value}
    rows = [[Cell(_text(name)), Cell(_text(value))] for name, value in flat.items() if value is not None]
    return HtmlTable(["what", "version"], rows).to_html(caption="versions and machine")


def resumed(entries: Any) -> dict[str, str]:
    """What was another when a run was resumed, by how many steps were finished then."""
    changes = {}
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and isinstance(steps := entry.get("finished_before"), list):
            changes[f"after {len(steps)} steps"] = _text(entry.get("changes"))
    return changes


def repeat(run: Run) -> str:
    """The commands that give this run again, to be copied."""
    commit = str(run.environment.get("commit"))
    lines = [f"git checkout {commit}"] if COMMIT.fullmatch(commit) else []
    code = escape("\n".join([*lines, run.call]))
    sentence = "<p>In a clone of the project, with it installed:</p>"
    return f'{sentence}<pre class="box" tabindex="0"><code>{code}</code></pre>'


def _subject(run: Run) -> str:
    config = run.config
    parts = [getattr(config, name) for name in ("model", "dataset") if hasattr(config, name)]
    what = [_text(" on ".join(map(str, parts)))] if parts else []
    seeds = getattr(config, "seeds", None)
    if isinstance(seeds, int):
        what.append("one seed" if seeds == 1 else f"{seeds} seeds")
    if run.preset:
        what.append(f"preset {run.preset}")
    return " · ".join([*what, run.command])


def _text(value: Any) -> str:
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    if isinstance(value, bool):
        value = "yes" if value else "no"
    if isinstance(value, int | float):
        value = f"{value:,}" if isinstance(value, int) else f"{value:g}"
    text = "none" if value is None or value == "" else str(value)
    return text if len(text) <= MOST_TEXT else text[:MOST_TEXT] + "…"


def _points(lines: Sequence[str]) -> str:
    unbroken = (escape(line).replace(" %", "&nbsp;%") for line in lines)
    return "<ul>" + "".join(f"<li>{line}</li>" for line in unbroken) + "</ul>"


def _section(title: str, inner: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{inner}</section>"


def _folded(title: str, inner: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{inner}</details>"
