"""Students under a teacher, beside the same students alone; and why the reports' students disappointed."""

from analysis.distillation_table.config import PRESETS, Config, check, smoke
from analysis.distillation_table.report import headline, plot, summary, table
from analysis.distillation_table.story import STORY
from analysis.lab.experiment import Experiment

__all__ = [
    "EXPERIMENT", "PRESETS", "STORY", "Config", "headline", "main", "plot", "run", "start", "summary",
    "table",
]  # fmt: skip


EXPERIMENT = Experiment(
    "distillation_table", Config, PRESETS, check, smoke, "DistillationTrials", summary, table, headline, plot
)
run, start, main = EXPERIMENT.run, EXPERIMENT.start, EXPERIMENT.main
