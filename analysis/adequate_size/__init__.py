"""The smallest adequate width for your data: foretold by two small networks, and found by training many."""

from functools import partial
from math import prod
from typing import Any

from analysis.adequate_size.config import PRESETS, Config, check, smoke
from analysis.adequate_size.report import headline, plot, summary, table
from analysis.adequate_size.story import STORY
from analysis.lab.experiment import CellExperiment, Cells, Steps

__all__ = [
    "EXPERIMENT", "PRESETS", "STORY", "Config", "headline", "main", "plot", "run", "start", "summary",
    "table",
]  # fmt: skip


def _steps(config: Any) -> Steps:
    """What computes the rows of each width, what all take, and the data."""
    from analysis.adequate_size.trials import WidthTrials
    from compression.identity import describe

    trials = WidthTrials(config)
    return Steps(trials.steps(), _need(config, trials.data), partial(describe, data=trials.data))


def _need(config: Any, data: Any) -> Any:
    """Of the largest width's networks, all seeds at once."""
    from analysis.lab.needs import dense_sizes, need_of_cells

    sizes = dense_sizes(prod(data.shape), 1, config.widths[-1], len(data.classes))
    batch_size = min(config.batch_size, len(data.train))
    return need_of_cells(config.seeds, sizes, batch_size, len(config.widths), "smaller --widths")


CELLS = Cells(
    lambda c: c.dataset.partition(":")[0], _steps, "widths",
    lambda c: f"{c.dataset}, {len(c.widths)} widths, {c.seeds} seeds",
)  # fmt: skip
EXPERIMENT = CellExperiment(
    "adequate_size", Config, PRESETS, check, smoke, None, summary, table, headline, plot, cells=CELLS
)
run, start, main = EXPERIMENT.run, EXPERIMENT.start, EXPERIMENT.main
