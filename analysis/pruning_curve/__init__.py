"""Accuracy against how much was pruned, for each criterion, with what the file and the clock say."""

from analysis.lab.experiment import Experiment
from analysis.pruning_curve.config import PRESETS, Config, check, smoke
from analysis.pruning_curve.report import equal_accuracy, headline, plot, summary, table
from analysis.pruning_curve.story import STORY

__all__ = [
    "EXPERIMENT", "PRESETS", "STORY", "Config", "equal_accuracy", "headline", "main", "plot", "run", "start",
    "summary", "table",
]  # fmt: skip


EXPERIMENT = Experiment(
    "pruning_curve", Config, PRESETS, check, smoke, "PruningTrials", summary, table, headline, plot
)
run, start, main = EXPERIMENT.run, EXPERIMENT.start, EXPERIMENT.main
