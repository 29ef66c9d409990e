"""The smallest adequate width for your data: foretold by two small networks, and found by training many."""

from typing import Any

from analysis.adequate_size.config import PRESETS, Config, check, smoke
from analysis.adequate_size.report import headline, plot, summary, table
from analysis.adequate_size.story import STORY
from analysis.lab.experiment import CellExperiment, Cells

__all__ = [
    "EXPERIMENT", "PRESETS", "STORY", "Config", "headline", "main", "plot", "run", "start", "summary",
    "table",
]  # fmt: skip


def _steps(config: Any) -> dict[str, Any]:
    """What computes the rows of each width."""
    from analysis.adequate_size.trials import WidthTrials

    return WidthTrials(config).steps()


CELLS = Cells(
    lambda c: c.dataset.partition(":")[0], _steps, "widths",
    lambda c: f"{c.dataset}, {len(c.widths)} widths, {c.seeds} seeds",
)  # fmt: skip
EXPERIMENT = CellExperiment(
    "adequate_size", Config, PRESETS, check, smoke, None, summary, table, headline, plot, cells=CELLS
)
run, start, main = EXPERIMENT.run, EXPERIMENT.start, EXPERIMENT.main
