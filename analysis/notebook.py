"""A notebook of a finished run: what it says, its tables and figure, and code that computes them again."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from analysis.lab.cli import execute
from capacity.errors import InputError


@dataclass(frozen=True)
class Config:
    """Write RUN/notebook.ipynb for any run folder; it executes from top to bottom where this package is."""

    run: tyro.conf.Positional[str] = ""
    """The run folder."""
    output: str = ""
    """File to write; by default notebook.ipynb in the run folder."""


def notebook(run: str | Path) -> str:
    """The notebook of a run as JSON text; it names the run folder by its whole path."""
    from analysis.lab.reporting.documents import Section, to_notebook
    from analysis.lab.runs.loading import finished, opening_code

    found = finished(run)
    facts = found.environment
    versions = ", ".join(f"{name} {version}" for name, version in facts["packages"].items() if version)
    made = (
        f"Made by `{found.call}` at commit {facts['commit'] or 'unknown'} with Python {facts['python']}, "
        f"{versions}, on {facts['device']} with {facts['threads']} threads."
    )
    sections = [
        Section("The run", [made], code=opening_code(run, run) + "run.settings"),
        Section("What it says", found.headline() or ["Each row below is one measurement."]),
        Section("Results, a row for each measurement", [], code="run.frame"),
        Section("Means and 95 % intervals", ["Computed anew from the results."], code="run.summary()"),
        Section("Figure", ["Drawn anew from the results."], code="figure = run.plot()\nfigure"),
    ]
    return to_notebook(found.title.rstrip("."), sections)


def start(config: Config) -> None:
    """Write the notebook."""
    from compression.checkpoints import write_whole

    if not config.run:
        raise InputError("name a run folder: python -m analysis.notebook runs/NAME")
    path = Path(config.output or Path(config.run) / "notebook.ipynb")
    text = notebook(config.run)
    write_whole(path, lambda beside: beside.write_text(text, encoding="utf-8"))
    print(f"notebook: {path}")


def main(arguments: Sequence[str] | None = None) -> None:
    execute(Config, {"default": Config()}, start, arguments)


if __name__ == "__main__":
    main()
