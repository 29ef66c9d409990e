"""Friedland's ten questions about an experiment, answered by measurement from a run of capacity_curve."""

from collections.abc import Sequence

from analysis.lab.cli import execute
from analysis.questionnaire.config import Config
from analysis.questionnaire.report import start

__all__ = ["Config", "main", "start"]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    execute(Config, {"default": Config()}, start, arguments)
