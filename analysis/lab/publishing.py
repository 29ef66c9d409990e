"""From an experiment to its run folder: all trials, then table, figure and summary beside the results."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from analysis.lab.progress import Advance, progress
from analysis.lab.records import RunFolder

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


class Experiment(Protocol):
    """What runs a trial per seed."""

    def epochs(self) -> int:
        """Epochs of one seed's trial, for the progress bar."""

    def prepare(self, folder: RunFolder, advance: Advance) -> None:
        """Whatever is done once for all seeds."""

    def trial(self, seed: int, folder: RunFolder, advance: Advance) -> Iterable[dict[str, Any]]:
        """The rows of one seed."""


def all_trials(experiment: Experiment, folder: RunFolder, seeds: int) -> "pd.DataFrame":
    """The rows of all seeds, with progress; written to results.csv when all are there."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    with progress(seeds * experiment.epochs(), "epochs") as advance:
        experiment.prepare(folder, advance)
        for seed in range(seeds):
            rows += experiment.trial(seed, folder, advance)
    frame = pd.DataFrame(rows)
    folder.save_frame(frame)
    return frame


def publish(
    folder: RunFolder, name: str, *, means: "pd.DataFrame", table: str, lines: Sequence[str], figure: "Figure"
) -> None:
    """Write the summary, the LaTeX table and the figure, then print the table and what it says."""
    from analysis.figures import save_figure
    from analysis.tables import to_booktabs

    folder.save_frame(means, "summary.csv")
    folder.save_text(to_booktabs(means, caption=lines[0]), "table.tex")
    pdf, png = save_figure(figure, folder.path, name)
    print(table)
    print("\n".join(lines))
    print(f"results: {folder.path / 'results.csv'}\nfigure:  {pdf}, {png.name}")
