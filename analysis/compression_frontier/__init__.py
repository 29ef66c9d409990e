"""Error against bytes of the file: prune, share values, code, read back, beside the published records."""

from typing import Any

from analysis.compression_frontier.config import PRESETS, Config, check, smoke
from analysis.compression_frontier.report import headline, plot, summary, table
from analysis.compression_frontier.story import STORY
from analysis.lab.experiment import Experiment, Trials

__all__ = [
    "EXPERIMENT", "PRESETS", "STORY", "Config", "headline", "main", "plot", "run", "start", "summary",
    "table",
]  # fmt: skip


def trials(config: Any) -> Trials:
    """What runs a trial per seed under these settings."""
    from analysis.compression_frontier.trials import CodingTrials

    return CodingTrials(config)


EXPERIMENT = Experiment(
    "compression_frontier", Config, PRESETS, check, smoke, trials, summary, table, headline, plot
)
run, start, main = EXPERIMENT.run, EXPERIMENT.start, EXPERIMENT.main
