"""How large must it be? The smallest adequate width on many data sets, and what foretells it."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from analysis.lab.experiment import Experiment
from analysis.sizing.config import PRESETS, Config, check, smoke
from analysis.sizing.report import headline, plot, sets_table, sizes, summary, table
from analysis.sizing.story import STORY

if TYPE_CHECKING:
    import pandas as pd

    from analysis.lab.runs.directory import RunDirectory

__all__ = [
    "EXPERIMENT", "PRESETS", "STORY", "Config", "headline", "main", "plot", "run", "sizes", "start",
    "summary", "table",
]  # fmt: skip


class Sizing(Experiment):
    """An experiment whose steps are data sets; it also records the advice that follows."""

    def directory(self, config: Any) -> "RunDirectory":
        """The run directory of these settings: runs/sizing-SETS-HASH."""
        from analysis.lab.runs.directory import open_run

        config = self.smoke(config) if config.smoke else config
        return open_run(self.name, config, name=f"{len(config.datasets)}-sets")

    def run(self, config: Any) -> "pd.DataFrame":
        """A row per data set, width and seed; resumed from the run directory."""
        from analysis.sizing.trials import measure_all

        config = self.settings(config)
        folder = self.directory(config)
        frame = measure_all(config, folder)
        folder.save_frame(frame)
        return frame

    def start(self, config: Any) -> None:
        """Run, print the tables, write them, the figure and the advice beside the results."""
        config = self.settings(config)
        self.write(self.run(config), config)

    def opening(self, config: Any) -> str:
        """How many data sets, widths and seeds."""
        config = self.smoke(config) if config.smoke else config
        sets = len(config.datasets)
        return f"{self.name}: {sets} data sets, {len(config.widths)} widths, {config.seeds} seeds"

    def write(self, frame: "pd.DataFrame", config: Any) -> None:
        """Also write advice.json, in the form of `capacity/sizing.json`."""
        import json
        from dataclasses import replace

        from analysis.sizing.advice import KINDS, advice_of

        print(f"{sets_table(frame).text(wide=config.wide)}\n")
        super().write(frame, config)
        if not config.smoke:
            found = {kind: asdict(advice_of(frame, kind)) for kind in KINDS}
            folder = self.directory(replace(config, fresh=False))
            folder.save_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "advice.json")
            print(f"advice:  {folder.path / 'advice.json'}")


EXPERIMENT = Sizing("sizing", Config, PRESETS, check, smoke, None, summary, table, headline, plot)
run, start, main = EXPERIMENT.run, EXPERIMENT.start, EXPERIMENT.main
