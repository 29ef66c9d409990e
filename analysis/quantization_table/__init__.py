"""What integers cost and save: error, bytes, ONNX, and latency beside the float network, scheme by scheme."""

from analysis.lab.experiment import Experiment
from analysis.quantization_table.config import PRESETS, Config, check, smoke
from analysis.quantization_table.report import headline, plot, plot_noise, summary, table
from analysis.quantization_table.story import STORY

__all__ = [
    "EXPERIMENT", "PRESETS", "STORY", "Config", "headline", "main", "plot", "plot_noise", "run", "start",
    "summary", "table",
]  # fmt: skip


EXPERIMENT = Experiment(
    "quantization_table",
    Config,
    PRESETS,
    check,
    smoke,
    "QuantizationTrials",
    summary,
    table,
    headline,
    plot,
    figures={"signal_to_noise": plot_noise},
)
run, start, main = EXPERIMENT.run, EXPERIMENT.start, EXPERIMENT.main
