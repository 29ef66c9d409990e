"""Error against bytes of the file: prune, share values, code, read back, beside the published records."""

from analysis.compression_frontier.config import PRESETS, Config, check, smoke
from analysis.compression_frontier.report import headline, plot, summary, table
from analysis.compression_frontier.story import STORY
from analysis.lab.experiment import Experiment

__all__ = [
    "EXPERIMENT", "PRESETS", "STORY", "Config", "headline", "main", "plot", "run", "start", "summary",
    "table",
]  # fmt: skip


EXPERIMENT = Experiment(
    "compression_frontier", Config, PRESETS, check, smoke, "CodingTrials", summary, table, headline, plot
)
run, start, main = EXPERIMENT.run, EXPERIMENT.start, EXPERIMENT.main
