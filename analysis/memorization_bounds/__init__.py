"""How many bits of random labels do networks store, and which bounds and conventions do they cross?"""

from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

from analysis.lab.experiment import CellExperiment, Cells
from analysis.memorization_bounds.config import PRESETS, Config, check, smoke
from analysis.memorization_bounds.report import headline, networks_table, plot, summary, table
from analysis.memorization_bounds.story import STORY

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "EXPERIMENT", "PRESETS", "STORY", "Config", "headline", "main", "plot", "run", "start", "summary",
    "table",
]  # fmt: skip


class MemorizationBounds(CellExperiment):
    """An experiment whose steps are networks."""

    def write(self, frame: "pd.DataFrame", config: Any) -> None:
        """Also print the networks, one by one."""
        print(f"{networks_table(frame).text(wide=config.wide)}\n")
        super().write(frame, config)


def _steps(config: Any) -> dict[str, Any]:
    """What computes the row of each network and number of classes."""
    from analysis.memorization_bounds.trials import measure_one

    return {
        f"{name}-{classes}": partial(measure_one, name, classes, config)
        for name, classes in product(config.networks, config.classes)
    }


CELLS = Cells(
    lambda c: "networks", _steps, "networks",
    lambda c: f"{len(c.networks)} networks, {len(c.networks) * len(c.classes)} searches",
)  # fmt: skip
EXPERIMENT = MemorizationBounds(
    "memorization_bounds", Config, PRESETS, check, smoke, None, summary, table, headline, plot, cells=CELLS
)
run, start, main = EXPERIMENT.run, EXPERIMENT.start, EXPERIMENT.main
