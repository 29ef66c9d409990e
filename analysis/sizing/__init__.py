"""How large must it be? The smallest adequate width on many data sets, and what foretells it."""

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from analysis.lab.experiment import CellExperiment, Cells, Steps
from analysis.sizing.config import MOST_CLASSES, MOST_FEATURES, PRESETS, Config, check, smoke
from analysis.sizing.report import headline, plot, sets_table, sizes, summary, table
from analysis.sizing.story import STORY

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "EXPERIMENT", "PRESETS", "STORY", "Config", "headline", "main", "plot", "run", "sizes", "start",
    "summary", "table",
]  # fmt: skip


class Sizing(CellExperiment):
    """An experiment whose steps are data sets; it also records the advice that follows."""

    def write(self, frame: "pd.DataFrame", config: Any) -> str:
        """Also write advice.json, in the form of `capacity/sizing.json`."""
        import json
        from dataclasses import replace

        from analysis.sizing.advice import KINDS, advice_of

        text = super().write(frame, config)
        if not config.smoke:
            advice = {kind: asdict(advice_of(frame, kind)) for kind in KINDS}
            folder = self.directory(replace(config, fresh=False))
            folder.save_text(json.dumps(advice, indent=1, ensure_ascii=False) + "\n", "advice.json")
            text += f"\nadvice:  {folder.path / 'advice.json'}"
        return text


def _steps(config: Any) -> Steps:
    """What computes the rows of each data set, and what all take."""
    from analysis.sizing.trials import measure_one

    rows = {name: partial(measure_one, name, config) for name in config.datasets}
    return Steps(rows, _need(config))


def _need(config: Any) -> Any:
    """Of the largest width's networks, all seeds at once, on all rows of a data set."""
    from analysis.lab.needs import dense_sizes, need_of_cells

    sizes = dense_sizes(MOST_FEATURES, 1, config.widths[-1], MOST_CLASSES)
    return need_of_cells(config.seeds, sizes, config.rows, len(config.datasets), "smaller --widths")


CELLS = Cells(
    lambda c: f"{len(c.datasets)}-sets", _steps, "data sets",
    lambda c: f"{len(c.datasets)} data sets, {len(c.widths)} widths, {c.seeds} seeds",
)  # fmt: skip
EXPERIMENT = Sizing(
    "sizing", Config, PRESETS, check, smoke, None, summary, table, headline, plot,
    tables={"sets": sets_table}, cells=CELLS,
)  # fmt: skip
run, start, main = EXPERIMENT.run, EXPERIMENT.start, EXPERIMENT.main
