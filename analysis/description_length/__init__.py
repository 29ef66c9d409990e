"""How many bits are the labels, told with a network or without: what was learned, and what only stored."""

from typing import Any

from analysis.description_length.config import PRESETS, Config, check, smoke
from analysis.description_length.report import headline, plot, summary, table
from analysis.description_length.story import STORY
from analysis.lab.experiment import Experiment, Trials

__all__ = [
    "EXPERIMENT", "PRESETS", "STORY", "Config", "headline", "main", "plot", "run", "start", "summary",
    "table",
]  # fmt: skip


def trials(config: Any) -> Trials:
    """What runs a trial per seed under these settings."""
    from analysis.description_length.trials import DescriptionTrials

    return DescriptionTrials(config)


EXPERIMENT = Experiment(
    "description_length", Config, PRESETS, check, smoke, trials, summary, table, headline, plot
)
run, start, main = EXPERIMENT.run, EXPERIMENT.start, EXPERIMENT.main
