"""How many bits are the labels, told with a network or without: what was learned, and what only stored."""

from analysis.description_length.config import PRESETS, Config, check, smoke
from analysis.description_length.report import headline, plot, summary, table
from analysis.description_length.story import STORY
from analysis.lab.experiment import Experiment

__all__ = [
    "EXPERIMENT", "PRESETS", "STORY", "Config", "headline", "main", "plot", "run", "start", "summary",
    "table",
]  # fmt: skip


EXPERIMENT = Experiment(
    "description_length", Config, PRESETS, check, smoke, "DescriptionTrials", summary, table, headline, plot
)
run, start, main = EXPERIMENT.run, EXPERIMENT.start, EXPERIMENT.main
