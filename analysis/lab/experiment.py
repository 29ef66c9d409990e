"""An experiment: settings, trials, what its rows say; run, resumed from its run directory, written out."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from analysis.lab.cli import execute
from analysis.lab.consoles import Say, printed
from capacity.errors import InputError
from compression.trackers import require_installed

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.lab.needs import Need
    from analysis.lab.runs.directory import RunDirectory
    from analysis.lab.runs.progress import OnProgress
    from capacity.tables import Table


class Trials(Protocol):
    """What runs a trial per seed."""

    runner: Any

    def steps(self) -> int:
        """Networks that one seed's trial keeps."""

    def epochs(self) -> int:
        """Epochs of one seed's trial, for the progress bar."""

    def prepare(self, folder: "RunDirectory", on_progress: "OnProgress") -> None:
        """Whatever is done once for all seeds."""

    def trial(self, seed: int, folder: "RunDirectory", on_progress: "OnProgress") -> Iterable[dict[str, Any]]:
        """The rows of one seed."""


def _cell_rows(path: "Path") -> list[dict[str, Any]]:
    """The rows of a cell; raises InputError, naming the file, for what is none."""
    from compression.checkpoints import load_json

    rows = load_json(path).get("rows")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{path} is damaged: it holds no rows; remove it to run that step again")
    return rows


def _rows_of(
    trials: Trials, seed: int, folder: "RunDirectory", on_progress: "OnProgress"
) -> list[dict[str, Any]]:
    return list(trials.trial(seed, folder, on_progress))


@dataclass(frozen=True)
class Experiment:
    """What a package of experiments is made of; its functions import what they need when they are called.

    Parameters
    ----------
    name: of the command, `python -m analysis.NAME`
    config, presets: the class of the settings, and settings by name
    check: raises InputError for settings that cannot be
    smoke: settings of a quick pass
    trials: the class in the package's trials.py that runs a trial per seed; None where `run` does otherwise
    summary: rows -> means and intervals
    table, headline, plot: rows, settings -> those as a table; sentences; the figure
    figures: further figures by name, rows -> figure
    tables: further tables by name, rows -> table; printed below the first, and written as NAME.tex
    """

    name: str
    config: type
    presets: Mapping[str, Any]
    check: Callable[[Any], None]
    smoke: Callable[[Any], Any]
    trials: str | None
    summary: "Callable[[pd.DataFrame], pd.DataFrame]"
    table: "Callable[[pd.DataFrame, Any], Table]"
    headline: "Callable[[pd.DataFrame, Any], list[str]]"
    plot: "Callable[[pd.DataFrame, Any], Figure]"
    figures: "Mapping[str, Callable[[pd.DataFrame], Figure]]" = field(default_factory=dict)
    tables: "Mapping[str, Callable[[pd.DataFrame], Table]]" = field(default_factory=dict)

    def settings(self, config: Any) -> Any:
        """Checked settings, those of a quick pass where one was asked for."""
        self.check(config)
        for kind in config.track:
            require_installed(kind)
        return self.taken(config)

    def taken(self, config: Any) -> Any:
        """The settings that a run takes: those of a quick pass where one was asked for."""
        return self.smoke(config) if config.smoke else config

    def directory(self, config: Any) -> "RunDirectory":
        """The run directory of these settings: new, to be resumed, or emptied for a fresh start."""
        from analysis.lab.runs.directory import trial_folder

        return trial_folder(self.name, self.taken(config))

    def trials_of(self, config: Any) -> Trials:
        """What runs a trial per seed under these settings."""
        assert self.trials is not None
        trials: Trials = getattr(import_module(f"analysis.{self.name}.trials"), self.trials)(config)
        return trials

    def run(self, config: Any, say: Say = printed) -> "pd.DataFrame":
        """The rows of all seeds, with progress; resumed from the run directory, and written there."""
        import pandas as pd

        from analysis.lab.needs import require_fit
        from analysis.lab.runs.progress import progress
        from capacity.terminal import broken, printable

        config = self.settings(config)
        trials, folder = self.trials_of(config), self.directory(config)
        for note in trials.runner.data.notes:
            say(printable(broken(note)))
        epochs = config.seeds * trials.epochs()
        require_fit(trials.runner, config, trials.steps(), folder.path, epochs, say)
        folder.settle(trials.runner.content)
        resumed = folder.resumed(config.seeds * trials.steps())
        if resumed:
            say(resumed)
        with progress(epochs, "epochs") as on_progress:
            trials.prepare(folder, on_progress)
            seeds = [partial(_rows_of, trials, seed, folder, on_progress) for seed in config.trial_seeds]
            rows = [row for part in trials.runner.side_by_side(seeds) for row in part]
        frame = pd.DataFrame(rows)
        folder.save_frame(frame)
        return frame

    def write(self, frame: "pd.DataFrame", config: Any) -> str:
        """Write summary, LaTeX tables and figures beside the results; what they say, and where they are."""
        from analysis.lab.reporting.figures import file_lines, save_figure
        from analysis.lab.reporting.tracking import track_rows
        from analysis.lab.runs.directory import settings_of
        from capacity.terminal import broken, printable

        config = self.taken(config)
        folder = self.directory(replace(config, fresh=False))
        tables = {"table": self.table(frame, config)} | {
            name: make(frame) for name, make in self.tables.items()
        }
        folder.save_frame(self.summary(frame), "summary.csv")
        for name, table in tables.items():
            folder.save_text(table.to_latex(venue=config.venue), f"{name}.tex")
        drawn = {self.name: self.plot(frame, config)}
        drawn |= {name: plot(frame) for name, plot in self.figures.items()}
        saved = [
            save_figure(figure, folder.path, name, venue=config.venue, pgf=config.pgf)
            for name, figure in drawn.items()
        ]
        tracked = []
        if config.track:
            track_rows(frame, config.track, folder.path, self.name, settings_of(config))
            where = f"in files of {folder.path} where no server is set up"
            tracked.append(broken(f"tracked: {', '.join(config.track)}, {where}"))
        lines = [printable(broken(line)) for line in self.headline(frame, config)]
        shown = "\n\n".join(table.text(wide=config.wide) for table in tables.values())
        return "\n".join([*lines, "", shown, "", *map(printable, tracked), file_lines(folder.path, saved)])

    def start(self, config: Any, say: Say = printed) -> None:
        """Run, write the figure and the table beside the results, say what they say."""
        from compression.storage import holding

        with holding():
            say(self.write(self.run(config, say), config))

    def main(self, arguments: Sequence[str] | None = None) -> None:
        """The command; exits with 2 for bad input."""
        execute(self.config, self.presets, self.start, arguments, self.opening)

    def opening(self, config: Any) -> str:
        """What is said before anything heavy is loaded: the network, the data and how many seeds."""
        seeds = f"{config.seeds} seeds" if config.seeds > 1 and not config.smoke else "one seed"
        return f"{self.name}: {config.model} on {config.dataset}, {seeds}"


@dataclass(frozen=True)
class Steps:
    """What the cells of an experiment compute, under some settings.

    Parameters
    ----------
    rows: for each step its name, and what computes its rows
    need: what all take of memory
    content: what the rows depend on besides the settings, as `compression.identity.describe` has it; None
        where that is nothing
    alike: whether one step takes about as long as another, so that the first foretells the others
    """

    rows: Mapping[str, Callable[[], list[dict[str, Any]]]]
    need: "Need"
    content: Callable[[], Mapping[str, str]] | None = None
    alike: bool = True


@dataclass(frozen=True)
class Cells:
    """The steps of an experiment that has no trials by seed: what is computed and kept one by one.

    Parameters
    ----------
    name: settings -> middle part of the run directory's name
    steps: settings -> what is computed step by step, and what all take
    noun: what a step is, in the plural, for the progress bar
    said: settings -> how many there are, in words
    """

    name: Callable[[Any], str]
    steps: Callable[[Any], Steps]
    noun: str
    said: Callable[[Any], str]


@dataclass(frozen=True, kw_only=True)
class CellExperiment(Experiment):
    """An experiment whose steps are cells, each kept as FOLDER/network-NAME.json."""

    cells: Cells

    def directory(self, config: Any) -> "RunDirectory":
        """The run directory of these settings: runs/COMMAND-NAME-HASH."""
        from analysis.lab.runs.directory import open_run

        config = self.taken(config)
        return open_run(self.name, config, name=self.cells.name(config))

    def run(self, config: Any, say: Say = printed) -> "pd.DataFrame":
        """The rows of all cells, with progress; those that the run directory holds are read from it.

        Small networks are trained on the processor, unless the command takes a device.

        Raises InputError where it holds those of other data.
        """
        from compression.processes import on_device

        config = self.settings(config)
        with nullcontext() if hasattr(config, "device") else on_device("cpu"):
            return self._computed(config, say)

    def _computed(self, config: Any, say: Say) -> "pd.DataFrame":
        import pandas as pd

        from analysis.lab.runs.progress import progress
        from compression.checkpoints import save_json

        steps = self.cells.steps(config)
        self._require_room(config, steps.need, say)  # bad input leaves no folder, nor does what cannot fit
        folder = self.directory(config)
        if steps.content:
            folder.settle(steps.content)
        paths = {name: folder.path / f"network-{name}.json" for name in steps.rows}
        done = sum(path.exists() for path in paths.values())
        if done:
            say(f"resumed from {folder.path}, {done} of {len(paths)} steps")
        rows: list[dict[str, Any]] = []
        pace_unknown = steps.alike and not config.smoke
        with progress(len(paths), self.cells.noun) as on_progress:
            for name, path in paths.items():
                on_progress(doing=name)
                if not path.exists():
                    began = time.monotonic()
                    save_json(path, {"rows": steps.rows[name]()})
                    left = len(paths) - done - 1
                    if pace_unknown and left:
                        pace_unknown = self._tell_pace(name, time.monotonic() - began, left, say)
                rows += _cell_rows(path)
                on_progress(1)
        frame = pd.DataFrame(rows)
        folder.save_frame(frame)
        return frame

    def _require_room(self, config: Any, need: "Need", say: Say) -> None:
        """Say what the cells take, but of a quick pass; raises InputError where that cannot fit."""
        from pathlib import Path

        from analysis.lab.needs import require_room

        if not config.smoke:
            say(str(need))
        require_room(need, Path(config.output or "runs"))

    def _tell_pace(self, name: str, seconds: float, left: int, say: Say) -> bool:
        """Say what the first cell took, and the others at its pace, which is then not unknown any more."""
        from analysis.lab.needs import duration

        pace = f"{left} more {self.cells.noun} at this pace take {duration(left * seconds)}"
        say(f"{name} took {seconds:.1f} s; {pace}")
        return False

    def opening(self, config: Any) -> str:
        """How many cells there are."""
        return f"{self.name}: {self.cells.said(self.taken(config))}"
