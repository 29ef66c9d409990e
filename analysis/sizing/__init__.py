"""How large must it be? The smallest adequate width on many data sets, and what foretells it."""

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from analysis.lab.experiment import CellExperiment, Cells
from analysis.sizing.config import PRESETS, Config, check, smoke
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


def _steps(config: Any) -> dict[str, Any]:
    """What computes the rows of each data set."""
    from analysis.sizing.trials import measure_one

    return {name: partial(measure_one, name, config) for name in config.datasets}


CELLS = Cells(
    lambda c: f"{len(c.datasets)}-sets", _steps, "data sets",
    lambda c: f"{len(c.datasets)} data sets, {len(c.widths)} widths, {c.seeds} seeds",
)  # fmt: skip
EXPERIMENT = Sizing(
    "sizing", Config, PRESETS, check, smoke, None, summary, table, headline, plot,
    tables={"sets": sets_table}, cells=CELLS,
)  # fmt: skip
run, start, main = EXPERIMENT.run, EXPERIMENT.start, EXPERIMENT.main
