"""An executed notebook of a finished run: what was asked, done and found, with tables and figure anew."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from analysis.lab.cli import execute
from capacity.columns import counted
from capacity.errors import InputError

if TYPE_CHECKING:
    from analysis.lab.reporting.documents import Section
    from analysis.lab.runs.loading import Run


@dataclass(frozen=True)
class Config:
    """Write RUN/notebook.ipynb for any run folder, executed; where this package is, it executes again."""

    run: tyro.conf.Positional[str] = ""
    """The run folder."""
    output: str = ""
    """File to write, in a folder that exists; by default notebook.ipynb in the run folder."""


def notebook(run: str | Path, beside: str | Path | None = None) -> str:
    """The executed notebook of a run as JSON text, for a folder `beside` (by default the run's own)."""
    from analysis.lab.reporting.documents import executed, to_notebook
    from analysis.lab.runs.loading import finished

    folder = Path(run if beside is None else beside)
    recorded = finished(run)
    return executed(to_notebook(recorded.title.rstrip("."), sections(recorded, folder)), folder)


def sections(run: "Run", folder: Path) -> "list[Section]":
    """What the notebook says and does: question, what was done, what was found, what that does not show."""
    from analysis.lab.reporting.documents import Section
    from analysis.lab.runs.loading import opening_code

    made = "This command gives these settings; the next cell reads its results."
    story = run.story
    parts = [] if story is None else [Section("Question", [story.question])]
    parts += [
        Section("What was done", [*run.done(), made], literal=run.call, code=opening_code(run.path, folder)),
        Section("What was found", _points(run.headline())),
        Section(
            "Means and 95 % intervals",
            ["Computed anew from the results; `run.summary()` gives them as a DataFrame."],
            code="run.table()",
        ),
        Section("Figure", ["Drawn anew from the results."], code="figure = run.plot()\nfigure"),
        Section("Every measurement", ["A row each."], code="run.frame"),
    ]
    if story is not None:
        parts.append(Section("What this does not show", _points(story.caveats(run.config))))
    return [*parts, Section("Where it was made", [_machine(run.environment)])]


def _points(lines: Sequence[str]) -> list[str]:
    return ["\n".join(f"- {' '.join(line.split())}" for line in lines)]


def _machine(facts: dict[str, Any]) -> str:
    from analysis.lab.runs.provenance import lineage

    packages = facts.get("packages")
    known = packages.items() if isinstance(packages, dict) else ()
    versions = "".join(f", {name} {version}" for name, version in known if version)
    threads = facts.get("threads")
    count = counted(threads, "thread") if isinstance(threads, int) else f"{threads} threads"
    machine = f"on {facts.get('device')} with {count}"
    return f"Python {facts.get('python')}{versions}, {machine}; commit {lineage(facts.get('commit'))}."


def start(config: Config) -> None:
    """Write the notebook."""
    from compression.checkpoints import write_atomically

    if not config.run:
        raise InputError("name a run folder: python -m analysis.notebook runs/NAME")
    path = Path(config.output or Path(config.run) / "notebook.ipynb")
    text = notebook(config.run, path.parent)
    write_atomically(path, lambda beside: beside.write_text(text, encoding="utf-8"))
    print(f"notebook: {path}")


def main(arguments: Sequence[str] | None = None) -> None:
    execute(Config, {"default": Config()}, start, arguments)


if __name__ == "__main__":
    main()
