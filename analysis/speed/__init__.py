"""Our speed beside the peers', as ratios measured in one process."""

from collections.abc import Sequence

from analysis.lab.cli import execute
from analysis.speed.config import PRESETS, Config

__all__ = ["PRESETS", "Config", "main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    from analysis.speed.report import start

    execute(Config, PRESETS, start, arguments)
