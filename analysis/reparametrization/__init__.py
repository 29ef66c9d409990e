"""What do measures of a network do while its function stays the same? Ten changes of the weights, judged."""

from functools import partial
from typing import Any

from analysis.lab.experiment import CellExperiment, Cells
from analysis.reparametrization.config import PRESETS, Config, check, smoke
from analysis.reparametrization.report import headline, plot, summary, table
from analysis.reparametrization.story import STORY

__all__ = [
    "EXPERIMENT", "PRESETS", "STORY", "Config", "headline", "main", "plot", "run", "start", "summary",
    "table",
]  # fmt: skip


def _steps(config: Any) -> dict[str, Any]:
    """What computes the rows of each data set."""
    from analysis.reparametrization.trials import measure_one

    return {name: partial(measure_one, name, config) for name in config.datasets}


CELLS = Cells(
    lambda c: f"{len(c.datasets)}-sets", _steps, "data sets",
    lambda c: f"{len(c.datasets) * c.seeds} networks, each changed in ten ways that leave its outputs",
)  # fmt: skip
EXPERIMENT = CellExperiment(
    "reparametrization", Config, PRESETS, check, smoke, None, summary, table, headline, plot, cells=CELLS
)
run, start, main = EXPERIMENT.run, EXPERIMENT.start, EXPERIMENT.main
