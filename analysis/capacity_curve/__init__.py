"""Accuracy and generalization ratio of a network as it is squeezed, beside a control that is not."""

from analysis.capacity_curve.config import PRESETS, Config, check, smoke
from analysis.capacity_curve.report import headline, plot, summary, table
from analysis.capacity_curve.story import STORY
from analysis.lab.experiment import Experiment

__all__ = [
    "EXPERIMENT", "PRESETS", "STORY", "Config", "headline", "main", "plot", "run", "start", "summary",
    "table",
]  # fmt: skip


EXPERIMENT = Experiment(
    "capacity_curve", Config, PRESETS, check, smoke, "IterativePruningTrials", summary, table, headline, plot
)
run, start, main = EXPERIMENT.run, EXPERIMENT.start, EXPERIMENT.main
