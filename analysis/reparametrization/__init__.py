"""What do measures of a network do while its function stays the same? Ten changes of the weights, judged."""

from functools import partial
from typing import Any

from analysis.lab.experiment import CellExperiment, Cells, Steps
from analysis.reparametrization.config import PRESETS, Config, check, smoke
from analysis.reparametrization.report import headline, plot, summary, table
from analysis.reparametrization.story import STORY
from analysis.sizing.config import MOST_CLASSES, MOST_FEATURES

__all__ = [
    "EXPERIMENT", "PRESETS", "STORY", "Config", "headline", "main", "plot", "run", "start", "summary",
    "table",
]  # fmt: skip


def _steps(config: Any) -> Steps:
    """What computes the rows of each data set, and what all take."""
    from analysis.lab.needs import dense_sizes, need_of_cells
    from analysis.reparametrization.trials import measure_one

    steps = {name: partial(measure_one, name, config) for name in config.datasets}
    sizes = dense_sizes(MOST_FEATURES, config.depth + 1, 2 * config.width, MOST_CLASSES)  # the largest change
    need = need_of_cells(config.seeds, sizes, config.rows, len(steps), "a smaller --width or --depth")
    return Steps(steps, need)


CELLS = Cells(
    lambda c: f"{len(c.datasets)}-sets", _steps, "data sets",
    lambda c: f"{len(c.datasets) * c.seeds} networks, each changed in ten ways that leave its outputs",
)  # fmt: skip
EXPERIMENT = CellExperiment(
    "reparametrization", Config, PRESETS, check, smoke, None, summary, table, headline, plot, cells=CELLS
)
run, start, main = EXPERIMENT.run, EXPERIMENT.start, EXPERIMENT.main
