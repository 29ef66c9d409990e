"""Does the theory hold? Random labels memorized against points, beside Cover's curve and the capacity."""

from collections.abc import Sequence

from analysis.lab.cli import execute
from analysis.memorization_curve.config import Config
from analysis.memorization_curve.report import headline, plot, start, table
from analysis.memorization_curve.story import STORY
from analysis.memorization_curve.trials import experiments, frame_of, run, widths_of

__all__ = [
    "STORY", "Config", "experiments", "frame_of", "headline", "main", "plot", "run", "start", "table",
    "widths_of",
]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    execute(Config, {"default": Config()}, start, arguments)
