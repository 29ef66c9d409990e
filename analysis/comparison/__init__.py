"""Every technique on the same networks and data, measured one way: error, capacity, bytes, FLOPs, time."""

from typing import TYPE_CHECKING, Any

from analysis.comparison.config import ALL, PRESETS, Config, check, smoke
from analysis.comparison.report import headline, pareto, plot, summary, table
from analysis.comparison.story import STORY
from analysis.lab.consoles import Say, printed
from analysis.lab.experiment import Experiment
from capacity.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "ALL", "EXPERIMENT", "PRESETS", "STORY", "Config", "compare", "headline", "main", "pareto", "plot", "run",
    "start", "summary", "table",
]  # fmt: skip


def compare(config: Config, say: Say = printed) -> "tuple[pd.DataFrame, dict[str, str]]":
    """The rows, and the cells that failed with the reason; both baselines and techniques are cells."""
    from analysis.comparison.grid import compare_cells

    return compare_cells(EXPERIMENT.settings(config), EXPERIMENT.directory, say)


class Comparison(Experiment):
    """An experiment whose cells are a technique on a seed's baseline, on as many workers as there are."""

    def run(self, config: Any, say: Say = printed) -> "pd.DataFrame":
        """A row per seed and technique, the baseline first; resumes from the run directory.

        Raises InputError naming the cells that failed if none was left.
        """
        frame, failures = compare(config, say)
        if frame.empty:
            raise InputError("every cell failed: " + "; ".join(f"{k}: {v}" for k, v in failures.items()))
        return frame

    def start(self, config: Any, say: Say = printed) -> None:
        """Run, say the tables, write everything; cells that failed are named at the end, with status 1."""
        from compression.storage import holding

        with holding():
            frame, failures = compare(config, say)
            if not frame.empty:
                say(self.write(frame, config))
        if failures:
            reasons = "\n".join(f"  {name}: {reason.strip()}" for name, reason in failures.items())
            raise SystemExit(f"{len(failures)} cells failed; run again to try only these:\n{reasons}")


EXPERIMENT = Comparison("comparison", Config, PRESETS, check, smoke, None, summary, table, headline, plot)
run, start, main = EXPERIMENT.run, EXPERIMENT.start, EXPERIMENT.main
