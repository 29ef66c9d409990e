"""A finished run, read back from its folder: settings, results, and the command's own summary and figure."""

import dataclasses
import importlib
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capacity.errors import InputError
from compression.checkpoints import load_json

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

COMMANDS = (
    "capacity_curve", "pruning_curve", "distillation_table", "quantization_table", "compression_frontier",
    "comparison", "capacity_report", "data_requirement", "memorization_curve",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One run folder: the command that made it, its Config, and `results.csv`."""

    path: Path
    command: str
    config: Any
    frame: "pd.DataFrame"

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that differ from the command's defaults."""
        found: dict[str, Any] = load_json(self.path / "config.json")["settings"]
        return found

    @property
    def preset(self) -> str:
        """The preset it was started from; empty for the default."""
        return str(self.settings.get("preset", ""))

    @property
    def environment(self) -> dict[str, Any]:
        """Versions, machine and commit that produced the run."""
        return load_json(self.path / "environment.json")

    @property
    def title(self) -> str:
        """The first line of the command's description."""
        return (inspect.getdoc(self._module()) or self.command).splitlines()[0]

    @property
    def call(self) -> str:
        """The command line that gives these settings."""
        words = [f"python -m analysis.{self.command}"]
        chosen = self.settings
        if "preset" in chosen:
            default = dataclasses.asdict(self._module().PRESETS[chosen["preset"]])
            words.append(f"--preset {chosen['preset']}")
            chosen = {key: value for key, value in chosen.items() if plain(default[key]) != value}
        for key, value in chosen.items():
            words.append(_option(key, value))
        return " ".join(words)

    def summary(self) -> "pd.DataFrame":
        """Means and intervals as the command computes them from the results; else the results."""
        make = getattr(self._module(), "summary", None)
        found: pd.DataFrame = self.frame if make is None else make(self.frame)
        return found

    def plot(self) -> "Figure":
        """The command's figure, drawn from the results."""
        figure: Figure = self._with_config("plot")
        return figure

    def headline(self) -> list[str]:
        """What the run says, in sentences."""
        if not hasattr(self._module(), "headline"):
            return []
        found: list[str] = self._with_config("headline")
        return found

    def _with_config(self, name: str) -> Any:
        function = getattr(self._module(), name)
        wants = "config" in inspect.signature(function).parameters
        return function(self.frame, self.config) if wants else function(self.frame)

    def _module(self) -> Any:
        return importlib.import_module(f"analysis.{self.command}")


def finished(path: str | Path) -> Run:
    """Read a run folder.

    Raises InputError for a folder without a run, for one that has not come to its end, and for a run of an
    unknown command or of another version's settings.
    """
    import pandas as pd

    path = Path(path)
    if not (path / "config.json").exists():
        raise InputError(f"{path} is no run folder: it holds no config.json")
    facts = load_json(path / "config.json")
    command = str(facts.get("command"))
    if command not in COMMANDS:
        raise InputError(f"{path} holds a run of {command!r}; known are {', '.join(COMMANDS)}")
    if not (path / "results.csv").exists():
        raise InputError(f"{path} has not come to its end: it holds no results.csv; run its command again")
    config = importlib.import_module(f"analysis.{command}").Config
    known = {field.name for field in dataclasses.fields(config)}
    kept = {k: _frozen(v) for k, v in facts["all_settings"].items() if k in known}
    return Run(path, command, config(**kept), pd.read_csv(path / "results.csv"))


def runs_below(folder: str | Path) -> list[Run]:
    """All finished runs in a folder, in the order of their names; what is no finished run is passed over."""
    found = []
    for path in sorted(Path(folder).glob("*/config.json")):
        try:
            found.append(finished(path.parent))
        except InputError:
            continue
    return found


def opening_code(path: str | Path) -> str:
    """Code with which a notebook reads the run; figures are then shown in it."""
    return (
        "%matplotlib inline\nfrom analysis.lab.runs.loading import finished\n\n"
        f"run = finished({str(Path(path).resolve())!r})\n"
    )


def plain(value: Any) -> Any:
    """A setting as JSON holds it."""
    return list(value) if isinstance(value, tuple) else value


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _option(key: str, value: Any) -> str:
    flag = key.replace("_", "-")
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    return f"--{flag} " + (" ".join(map(str, value)) if isinstance(value, list) else str(value))
