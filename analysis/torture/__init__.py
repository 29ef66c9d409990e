"""Runs killed, started twice and out of disk, files damaged: how many of so many tries hold."""

from collections.abc import Sequence

from analysis.lab.cli import execute
from analysis.torture.config import PRESETS, Config

__all__ = ["PRESETS", "Config", "main"]


def start(config: Config) -> None:
    """Do each part, tell and write what held."""
    from analysis.torture.report import torture

    torture(config)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    execute(Config, PRESETS, start, arguments)
