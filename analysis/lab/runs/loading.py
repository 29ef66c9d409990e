"""A finished run, read back from its folder: settings, results, and the command's own summary and figure."""

import dataclasses
import importlib
import inspect
import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.lab.reporting.html_tables import HtmlTable, html_table
from analysis.lab.reporting.story import Story
from analysis.lab.runs.cells import as_read
from analysis.lab.runs.directory import CHECKSUMS, RunDirectory
from analysis.lab.runs.trust import inside, settings_from, shown
from analysis.lab.settings import OutputSettings
from capacity.errors import InputError
from compression.checkpoints import load_json

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from capacity.tables import Table

COMMANDS = (
    "capacity_curve", "pruning_curve", "distillation_table", "quantization_table", "compression_frontier",
    "comparison", "capacity_report", "data_requirement", "memorization_curve", "sizing",
    "description_length", "generalization_study", "memorization_bounds", "adequate_size", "reparametrization",
    "certificate",
)  # fmt: skip
RECORDS = ("config.json", "environment.json", "results.csv")


@dataclass(frozen=True)
class Run:
    """One run folder: the command that made it, its Config, and `results.csv`."""

    path: Path
    command: str
    config: Any
    frame: "pd.DataFrame"

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The settings that differ from the command's defaults."""
        stored: dict[str, Any] = load_json(self.path / "config.json", sealed=False)["settings"]
        return stored

    @property
    def preset(self) -> str:
        """The preset it was started from; empty for the default and for one that is not the command's."""
        name = self.settings.get("preset", "")
        return name if isinstance(name, str) and name in getattr(self._module(), "PRESETS", {}) else ""

    @property
    def environment(self) -> dict[str, Any]:
        """Versions, machine and commit that produced the run."""
        return load_json(self.path / "environment.json", sealed=False)

    @property
    def title(self) -> str:
        """The first line of the command's description."""
        return (inspect.getdoc(self._module()) or self.command).splitlines()[0]

    @property
    def story(self) -> Story | None:
        """What the command asks, does and does not show; None where it does not say."""
        story: Story | None = getattr(self._module(), "STORY", None)
        return story

    @property
    def call(self) -> str:
        """The command line that gives these settings, quoted for a shell; without unknown options."""
        known = {field.name for field in dataclasses.fields(self.config)}
        chosen = {key: value for key, value in self.settings.items() if key in known}
        words = ["python", "-m", f"analysis.{self.command}"]
        if str(chosen.get("preset")) in getattr(self._module(), "PRESETS", {}):
            default = dataclasses.asdict(self._module().PRESETS[chosen["preset"]])
            words += ["--preset", chosen["preset"]]
            chosen = {key: value for key, value in chosen.items() if plain(default[key]) != value}
        for key, value in chosen.items():
            words += _option(key, value)
        return shlex.join(words)

    def summary(self) -> "pd.DataFrame":
        """Means and intervals as the command computes them from the results, once; else the results."""
        return self._summary.copy()

    @cached_property
    def _summary(self) -> "pd.DataFrame":
        summary: pd.DataFrame = self.frame if not self.has("summary") else self._from_rows("summary")
        return summary

    def table(self) -> HtmlTable:
        """The command's table, which shows itself in a notebook."""
        return html_table(self.tables()["table"])

    def tables(self) -> "dict[str, Table]":
        """The command's tables by name, `table` first: a row for each of the summary's."""
        experiment = getattr(self._module(), "EXPERIMENT", None)
        others = {} if experiment is None else experiment.tables
        return {"table": self._from_rows("table")} | {
            name: self.guarded(name, partial(make, self.frame)) for name, make in others.items()
        }

    def plot(self) -> "Figure":
        """The command's figure, drawn from the results."""
        figure: Figure = self._from_rows("plot")
        return figure

    def figures(self) -> "dict[str, Callable[[], Figure]]":
        """What draws each of the command's figures, by name; its own first."""
        experiment = getattr(self._module(), "EXPERIMENT", None)
        others = {} if experiment is None else experiment.figures
        plots = {self.command: self.plot} if self.has("plot") else {}
        return plots | {
            name: partial(self.guarded, name, partial(plot, self.frame)) for name, plot in others.items()
        }

    def headline(self) -> list[str]:
        """What the run says, in sentences."""
        sentences: list[str] = self._from_rows("headline") if self.has("headline") else []
        return sentences

    def done(self) -> list[str]:
        """What was done, in sentences; empty where the command does not say."""
        story = self.story
        return [] if story is None else self.guarded("story", lambda: story.done(self.config))

    def has(self, name: str) -> bool:
        """Whether the command has such a function, as `plot`."""
        return hasattr(self._module(), name)

    def _from_rows(self, name: str) -> Any:
        function = getattr(self._module(), name)
        wants = "config" in inspect.signature(function).parameters
        return self.guarded(name, lambda: function(self.frame, *([self.config] if wants else [])))

    def guarded(self, name: str, call: Callable[[], Any]) -> Any:
        """What a command's own function gives; rows or settings it cannot use are refused in one line."""
        try:
            return call()
        except InputError:
            raise
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            what = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise InputError(
                f"{self.path} is not as {self.command} of this version writes it: its {name} fails with "
                f"{what}"
            ) from error

    def _module(self) -> Any:
        return importlib.import_module(f"analysis.{self.command}")


def finished(path: str | Path) -> Run:
    """Read a run folder.

    Raises InputError for a folder without a run, for one that has not come to its end, for files that lie
    elsewhere (links), and for a run of an unknown command or of another version's settings.
    """
    path = Path(path)
    record, environment, results = (inside(path, name) for name in RECORDS)
    inside(path, CHECKSUMS)
    if not record.exists():
        raise InputError(f"{path} is no run folder: it holds no config.json")
    facts = load_json(record, sealed=False)
    command = facts.get("command")
    if command not in COMMANDS:
        raise InputError(f"{path} holds a run of {shown(command)}; known are {', '.join(COMMANDS)}")
    if not results.exists():
        raise InputError(f"{path} has not come to its end: it holds no results.csv; run its command again")
    for name in ("settings", "all_settings"):
        if not isinstance(facts.get(name), dict):
            raise InputError(f"{record} is damaged: it holds no {name}")
    kind = importlib.import_module(f"analysis.{command}").Config
    settings_from(kind, facts["settings"], record)
    config = _as_shown(settings_from(kind, facts["all_settings"], record))
    if environment.exists():
        load_json(environment, sealed=False)
    return Run(path, str(command), config, _rows(RunDirectory(path).require_unchanged()))


def _as_shown(config: Any) -> Any:
    """The settings of a run without those of how it was shown, which are the reader's."""
    plain = type(config)()
    names = [field.name for field in dataclasses.fields(OutputSettings) if hasattr(plain, field.name)]
    return dataclasses.replace(config, **{name: getattr(plain, name) for name in names})


def read_table(path: Path) -> "pd.DataFrame":
    """A CSV file as it was written: a column of the word `true`, as of labels that are true, stays words."""
    import pandas as pd

    frame = pd.read_csv(path)
    flags = list(frame.select_dtypes("bool").columns)
    if flags:
        words = pd.read_csv(path, usecols=flags, dtype=str)
        spoken = [name for name in flags if not words[name].isin(["True", "False"]).all()]
        frame = frame.assign(**{name: words[name] for name in spoken})
    return frame


def _rows(path: Path) -> "pd.DataFrame":
    try:
        frame = as_read(read_table(path))
    except (ValueError, OverflowError) as error:  # pandas' own errors, and bytes that are no UTF-8
        raise InputError(f"{path} is no table: {' '.join(str(error).split())[:200]}") from error
    words = {str(word) for name in frame.select_dtypes(exclude="number") for word in frame[name].unique()}
    odd = [word for word in [*words, *map(str, frame.columns)] if not word.isprintable()]
    if odd:
        raise InputError(f"{path} is no table that this package writes: {shown(odd[0])} is no word in it")
    return frame


def runs_below(folder: str | Path, refused: Callable[[str], object] = str) -> list[Run]:
    """All finished runs in a folder, in the order of their names; what is no finished run is passed over.

    `refused` is told why, one line each, where a run has come to its end and cannot be read.
    """
    runs = []
    for path in sorted(Path(folder).glob("*/config.json")):
        try:
            runs.append(finished(path.parent))
        except (InputError, OSError) as error:
            if (path.parent / "results.csv").exists():
                refused(" ".join(str(error).split()))
    return runs


def opening_code(path: str | Path, beside: str | Path) -> str:
    """Code with which a notebook in the folder `beside` reads the run, whose path is relative to it.

    Nothing is imported from the folder that the notebook lies in.
    """
    try:
        way = Path(os.path.relpath(path, beside)).as_posix()
    except ValueError:  # another drive
        way = Path(path).resolve().as_posix()
    return (
        "%matplotlib inline\nimport sys\n\n"
        'sys.path[:] = [place for place in sys.path if place not in ("", ".")]  # import nothing from here\n'
        "from analysis.lab.runs.loading import finished\n\n"
        f"run = finished({way!r})\n"
    )


def plain(value: Any) -> Any:
    """A setting as JSON holds it."""
    return list(value) if isinstance(value, tuple) else value


def _option(key: str, value: Any) -> list[str]:
    flag = key.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    if isinstance(value, list):
        return [f"--{flag}", *map(str, value)]
    return [f"--{flag}={value}"] if str(value).startswith("-") else [f"--{flag}", str(value)]
