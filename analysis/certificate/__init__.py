"""The error on new data that each file of a compression_frontier run guarantees, beside the one it makes."""

from collections.abc import Sequence

from analysis.certificate.config import Config
from analysis.certificate.report import headline, plot, start, summary, table
from analysis.certificate.trials import certified
from analysis.lab.cli import execute

__all__ = ["Config", "certified", "headline", "main", "plot", "start", "summary", "table"]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    execute(Config, {"default": Config()}, start, arguments)
