"""Capacity of a network layer by layer: table, CSV, LaTeX, and a picture along its depth."""

from collections.abc import Sequence

from analysis.capacity_report.config import Config
from analysis.capacity_report.report import headline, plot, plot_usage, start, table
from analysis.capacity_report.story import STORY
from analysis.capacity_report.trials import frame_of, network_of, report_of, run
from analysis.lab.cli import execute

__all__ = [
    "STORY", "Config", "frame_of", "headline", "main", "network_of", "plot", "plot_usage", "report_of",
    "run", "start", "table",
]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    execute(Config, {"default": Config()}, start, arguments)
