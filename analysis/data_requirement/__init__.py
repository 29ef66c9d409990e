"""How many bits a data set needs, whether that need levels off, and how a network compares."""

from collections.abc import Sequence

from analysis.data_requirement.config import Config
from analysis.data_requirement.report import headline, plot, start, table
from analysis.data_requirement.story import STORY
from analysis.data_requirement.trials import run
from analysis.lab.cli import execute

__all__ = ["STORY", "Config", "headline", "main", "plot", "run", "start", "table"]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    execute(Config, {"default": Config()}, start, arguments)
