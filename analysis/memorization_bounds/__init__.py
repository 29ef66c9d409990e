"""How many bits of random labels do networks store, and which bounds and conventions do they cross?"""

from functools import partial
from itertools import product
from typing import Any

from analysis.lab.experiment import CellExperiment, Cells, Steps
from analysis.memorization_bounds.config import PRESETS, Config, check, smoke
from analysis.memorization_bounds.report import headline, networks_table, plot, summary, table
from analysis.memorization_bounds.story import STORY

__all__ = [
    "EXPERIMENT", "PRESETS", "STORY", "Config", "headline", "main", "plot", "run", "start", "summary",
    "table",
]  # fmt: skip


def _steps(config: Any) -> Steps:
    """What computes the row of each network and number of classes, and what all take."""
    from analysis.memorization_bounds.trials import measure_one

    steps = {
        f"{name}-{classes}": partial(measure_one, name, classes, config)
        for name, classes in product(config.networks, config.classes)
    }
    return Steps(steps, _need(config, len(steps)), alike=False)  # seconds or a quarter of an hour


def _need(config: Any, cells: int) -> Any:
    """Of the largest network, on as many points as it has weights."""
    from analysis.lab.needs import need_of_cells
    from analysis.memorization_bounds.families import sizes

    largest = max(sizes(name, max(config.classes)) for name in config.networks)
    return need_of_cells(1, largest, largest[0], cells, "smaller --networks")


CELLS = Cells(
    lambda c: "networks", _steps, "networks",
    lambda c: f"{len(c.networks)} networks, {len(c.networks) * len(c.classes)} searches",
)  # fmt: skip
EXPERIMENT = CellExperiment(
    "memorization_bounds", Config, PRESETS, check, smoke, None, summary, table, headline, plot,
    tables={"networks": networks_table}, cells=CELLS,
)  # fmt: skip
run, start, main = EXPERIMENT.run, EXPERIMENT.start, EXPERIMENT.main
