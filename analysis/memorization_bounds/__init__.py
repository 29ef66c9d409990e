"""How many bits of random labels do networks store, and which bounds and conventions do they cross?"""

from typing import TYPE_CHECKING, Any

from analysis.lab.experiment import Experiment
from analysis.memorization_bounds.config import PRESETS, Config, check, smoke
from analysis.memorization_bounds.report import headline, networks_table, plot, summary, table
from analysis.memorization_bounds.story import STORY

if TYPE_CHECKING:
    import pandas as pd

    from analysis.lab.runs.directory import RunDirectory

__all__ = [
    "EXPERIMENT", "PRESETS", "STORY", "Config", "headline", "main", "plot", "run", "start", "summary",
    "table",
]  # fmt: skip


class MemorizationBounds(Experiment):
    """An experiment whose steps are networks."""

    def directory(self, config: Any) -> "RunDirectory":
        """The run directory of these settings: runs/memorization_bounds-networks-HASH."""
        from analysis.lab.runs.directory import open_run

        return open_run(self.name, self.smoke(config) if config.smoke else config, name="networks")

    def run(self, config: Any) -> "pd.DataFrame":
        """A row per network and number of classes; resumed from the run directory."""
        from analysis.memorization_bounds.trials import measure_all

        config = self.settings(config)
        folder = self.directory(config)
        frame = measure_all(config, folder)
        folder.save_frame(frame)
        return frame

    def start(self, config: Any) -> None:
        """Run, print what it says and both tables, write the figure and the table beside the results."""
        config = self.settings(config)
        super().start(config)

    def opening(self, config: Any) -> str:
        """How many networks and searches."""
        config = self.smoke(config) if config.smoke else config
        count = len(config.networks) * len(config.classes)
        return f"{self.name}: {len(config.networks)} networks, {count} searches"

    def write(self, frame: "pd.DataFrame", config: Any) -> None:
        """Also print the networks, one by one."""
        print(f"{networks_table(frame).text(wide=config.wide)}\n")
        super().write(frame, config)


EXPERIMENT = MemorizationBounds(
    "memorization_bounds", Config, PRESETS, check, smoke, None, summary, table, headline, plot
)
run, start, main = EXPERIMENT.run, EXPERIMENT.start, EXPERIMENT.main
