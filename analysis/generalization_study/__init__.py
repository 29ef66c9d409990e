"""Which measure of a network foretells how well it generalizes? Hundreds of networks, a dozen measures."""

from functools import partial
from itertools import product
from typing import Any

from analysis.generalization_study.config import PRESETS, Config, check, smoke
from analysis.generalization_study.report import headline, plot, summary, table
from analysis.generalization_study.story import STORY
from analysis.lab.experiment import CellExperiment, Cells

__all__ = [
    "EXPERIMENT", "PRESETS", "STORY", "Config", "headline", "main", "plot", "run", "start", "summary",
    "table",
]  # fmt: skip


def _steps(config: Any) -> dict[str, Any]:
    """What computes the rows of the networks that are trained together."""
    from analysis.generalization_study.trials import measure_cell

    cells = product(config.datasets, config.depths, config.widths, config.train_epochs)
    return {"-".join(map(str, cell)): partial(measure_cell, cell, config) for cell in cells}


CELLS = Cells(
    lambda c: f"{len(c.datasets)}-sets", _steps, "cells",
    lambda c: f"{c.networks} networks, {c.seeds} seeds each",
)  # fmt: skip
EXPERIMENT = CellExperiment(
    "generalization_study", Config, PRESETS, check, smoke, None, summary, table, headline, plot, cells=CELLS
)
run, start, main = EXPERIMENT.run, EXPERIMENT.start, EXPERIMENT.main
