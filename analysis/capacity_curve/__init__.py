"""Accuracy and generalization ratio of a network as it is squeezed, beside a control that is not."""

from typing import Any

from analysis.capacity_curve.config import PRESETS, Config, check, smoke
from analysis.capacity_curve.report import headline, plot, summary, table
from analysis.capacity_curve.story import STORY
from analysis.lab.experiment import Experiment, Trials

__all__ = [
    "EXPERIMENT", "PRESETS", "STORY", "Config", "headline", "main", "plot", "run", "start", "summary",
    "table",
]  # fmt: skip


def trials(config: Any) -> Trials:
    """What runs a trial per seed under these settings."""
    from analysis.capacity_curve.trials import IterativePruningTrials

    return IterativePruningTrials(config)


EXPERIMENT = Experiment(
    "capacity_curve", Config, PRESETS, check, smoke, trials, summary, table, headline, plot
)
run, start, main = EXPERIMENT.run, EXPERIMENT.start, EXPERIMENT.main
