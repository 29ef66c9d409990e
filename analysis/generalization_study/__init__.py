"""Which measure of a network foretells how well it generalizes? Hundreds of networks, a dozen measures."""

from typing import TYPE_CHECKING, Any

from analysis.generalization_study.config import PRESETS, Config, check, smoke
from analysis.generalization_study.report import headline, plot, summary, table
from analysis.generalization_study.story import STORY
from analysis.lab.experiment import Experiment

if TYPE_CHECKING:
    import pandas as pd

    from analysis.lab.runs.directory import RunDirectory

__all__ = [
    "EXPERIMENT", "PRESETS", "STORY", "Config", "headline", "main", "plot", "run", "start", "summary",
    "table",
]  # fmt: skip


class GeneralizationStudy(Experiment):
    """An experiment whose steps are groups of networks that are trained together."""

    def directory(self, config: Any) -> "RunDirectory":
        """The run directory of these settings: runs/generalization_study-SETS-HASH."""
        from analysis.lab.runs.directory import open_run

        config = self.smoke(config) if config.smoke else config
        return open_run(self.name, config, name=f"{len(config.datasets)}-sets")

    def run(self, config: Any) -> "pd.DataFrame":
        """A row per network; resumed from the run directory."""
        from analysis.generalization_study.trials import measure_all

        config = self.settings(config)
        folder = self.directory(config)
        frame = measure_all(config, folder)
        folder.save_frame(frame)
        return frame

    def start(self, config: Any) -> None:
        """Run, print what it says and the table, write the figure and the table beside the results."""
        super().start(self.settings(config))

    def opening(self, config: Any) -> str:
        """How many networks and seeds."""
        config = self.smoke(config) if config.smoke else config
        return f"{self.name}: {config.networks} networks, {config.seeds} seeds each"


EXPERIMENT = GeneralizationStudy(
    "generalization_study", Config, PRESETS, check, smoke, None, summary, table, headline, plot
)
run, start, main = EXPERIMENT.run, EXPERIMENT.start, EXPERIMENT.main
