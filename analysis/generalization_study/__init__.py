"""Which measure of a network foretells how well it generalizes? Hundreds of networks, a dozen measures."""

from functools import partial
from itertools import product
from typing import Any

from analysis.generalization_study.config import BATCH, PRESETS, Config, check, smoke
from analysis.generalization_study.report import headline, plot, summary, table
from analysis.generalization_study.story import STORY
from analysis.lab.experiment import CellExperiment, Cells, Steps
from analysis.sizing.config import MOST_CLASSES, MOST_FEATURES

__all__ = [
    "EXPERIMENT", "PRESETS", "STORY", "Config", "headline", "main", "plot", "run", "start", "summary",
    "table",
]  # fmt: skip


def _steps(config: Any) -> Steps:
    """What computes the rows of the networks that are trained together, and what all take."""
    from analysis.generalization_study.trials import measure_cell

    cells = product(config.datasets, config.depths, config.widths, config.train_epochs)
    steps = {"-".join(map(str, cell)): partial(measure_cell, cell, config) for cell in cells}
    return Steps(steps, _need(config, len(steps)))


def _need(config: Any, cells: int) -> Any:
    """Of the largest networks, all weight decays, noises and seeds at once."""
    from analysis.lab.needs import dense_sizes, need_of_cells

    sizes = dense_sizes(MOST_FEATURES, max(config.depths), max(config.widths), MOST_CLASSES)
    together = len(config.weight_decays) * len(config.label_noises) * config.seeds
    return need_of_cells(together, sizes, BATCH, cells, "smaller --widths or --depths")


CELLS = Cells(
    lambda c: f"{len(c.datasets)}-sets", _steps, "cells",
    lambda c: f"{c.networks} networks, {c.seeds} seeds each",
)  # fmt: skip
EXPERIMENT = CellExperiment(
    "generalization_study", Config, PRESETS, check, smoke, None, summary, table, headline, plot, cells=CELLS
)
run, start, main = EXPERIMENT.run, EXPERIMENT.start, EXPERIMENT.main
