"""Five student reports put to the test line by line: published, recomputed, verdict; the article's input."""

from collections.abc import Sequence

from analysis.lab.cli import execute
from analysis.reproduce.config import Config
from analysis.reproduce.report import frame_of, headline, reproduce, run, start, table

__all__ = ["Config", "frame_of", "headline", "main", "reproduce", "run", "start", "table"]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    execute(Config, {"default": Config()}, start, arguments)
