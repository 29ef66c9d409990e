"""One HTML page of finished runs that loads nothing: what was asked, found and set, and how to repeat it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from analysis.lab.cli import execute
from analysis.report.config import Config

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Config", "main", "start", "write_pages"]


def write_pages(config: Config) -> "list[Path]":
    """Write the page of each run into its folder, or one page of all of them; where they are."""
    from functools import partial
    from pathlib import Path

    from analysis.lab.runs.loading import finished
    from analysis.report.page import page
    from capacity.errors import InputError
    from compression.checkpoints import write_atomically

    if not config.runs:
        raise InputError("name a run folder: python -m analysis.report runs/NAME")
    runs = [finished(run) for run in config.runs]
    pages = {run.path / "report.html": [run] for run in runs}
    if config.output:
        pages = {Path(config.output): runs}
    for path, note in pages.items():
        write_atomically(path, partial(Path.write_text, data=page(note), encoding="utf-8"))
    return list(pages)


def start(config: Config) -> None:
    """Write the pages, and say where they are."""
    for path in write_pages(config):
        print(f"page: {path}")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    execute(Config, {"default": Config()}, start, arguments)
