"""What the article includes: numbers, tables, figures, and the command that made each."""

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from analysis.lab.reporting.figures import save_draft, save_figure
from analysis.lab.reporting.latex import escape
from analysis.lab.runs.directory import RunDirectory
from analysis.lab.runs.loading import Run, finished
from analysis.lab.settings import NOT_IDENTITY
from capacity.errors import InputError
from compression.checkpoints import load_json, save_json, write_atomically

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

from analysis.reproduce.article_tables import TABLES, comparison_table, reports_table
from analysis.reproduce.config import Config
from analysis.reproduce.evidence import answer_rows, evidence_numbers, evidence_runs
from analysis.reproduce.numbers import (
    certificates,
    exact_numbers,
    recorded_numbers,
    surrogate_numbers,
    verdict_counts,
)

MANIFEST = "manifest.json"
RECORDED = {  # runs at full size that the article shows: name -> command, preset
    "frontier-lenet300": ("compression_frontier", "lenet300"),
    "frontier-lenet300-long": ("compression_frontier", "lenet300-long"),
    "frontier-lenet5": ("compression_frontier", "lenet5"),
    "frontier-lenet5-long": ("compression_frontier", "lenet5-long"),
    "frontier-lenet5-small": ("compression_frontier", "lenet5-small"),
    "quantized-lenet5": ("quantization_table", "lenet5"),
    "quantized-resnet20": ("quantization_table", "resnet20"),
    "students-mnist": ("distillation_table", "report-d"),
    "students-cifar10": ("distillation_table", "report-d-cifar10"),
    "six-layer": ("comparison", "report-d"),
}


@dataclass(frozen=True)
class Style:
    """How the article's input is made: for which venue's widths, with PGF, from a quick pass.

    figures: names of the runs that are drawn; None for all
    drawn: figures by name that were drawn to see that they can be, until they are saved
    """

    venue: str = "ieee"
    pgf: bool = False
    smoke: bool = False
    figures: frozenset[str] | None = None
    drawn: "dict[str, Figure]" = field(default_factory=dict, repr=False, compare=False)

    def draws(self, name: str) -> bool:
        """Whether the figure of this run is made."""
        return self.figures is None or name.replace("_", "-") in self.figures

    def save(self, name: str, run: Run, folder: Path) -> list[Path]:
        """Draw the figure of a run, if that is still to do, and save it; returns its files."""
        figure, name = self.drawn.pop(name, None) or run.plot(), name.replace("_", "-")
        if self.smoke and not self.pgf:
            return [save_draft(figure, folder / f"{name}.pdf", self.venue)]
        return save_figure(figure, folder, name, endings=["pdf"], venue=self.venue, pgf=self.pgf)


def style_of(config: Config) -> Style:
    """The style that settings ask for; a quick pass draws what the article includes, and no gallery more."""
    article = Path(config.paper) / "main.tex"
    fewer = config.smoke and not config.gallery and article.is_file()
    return Style(config.venue, config.pgf, config.smoke, included_figures(article) if fewer else None)


def included_figures(article: Path) -> frozenset[str]:
    """Names of the figures that a LaTeX source includes."""
    return frozenset(re.findall(r"\\includegraphics(?:\[[^]]*\])?\{([^}]+)\}", article.read_text("utf-8")))


def write_article(
    folder: Path,
    lines: "pd.DataFrame",
    runs: Mapping[str, Run],
    full: Mapping[str, Run],
    style: Style,
) -> None:
    """Write numbers, tables and figures; the same runs give the same bytes.

    What an earlier call wrote there is removed, and nothing else: MANIFEST names it.
    runs: stand-ins by command; full: runs at full size, by the names of RECORDED
    """
    remove_written(folder)
    directory = RunDirectory(folder)
    numbers = dict(exact_numbers()) | dict(verdict_counts(lines))
    numbers |= dict(surrogate_numbers(runs)) | dict(recorded_numbers(full)) | dict(certificates(full))
    numbers |= dict(evidence_numbers())
    numbers["QuickPass"] = "1" if style.smoke else "0"
    directory.save_text("".join(f"\\newcommand{{\\{k}}}{{{v}}}\n" for k, v in numbers.items()), "numbers.tex")
    directory.save_text(reports_table(lines), "reports.tex")
    directory.save_text(answer_rows(), "answer.tex")
    shown = {name: run for name, run in {**runs, **full}.items() if style.draws(name)}
    pictures = [picture for name, run in shown.items() for picture in style.save(name, run, folder)]
    sources = [_source(name, run) for name, run in {**runs, **full, **evidence_runs()}.items()]
    directory.save_text("\n".join(sources) + "\n", "sources.tex")
    directory.save_text(comparison_table(runs["comparison"]), "comparison.tex")
    for name, run in full.items():
        directory.save_text(TABLES[run.command](run), f"{name}.tex")
    tables = ["numbers", "reports", "answer", "sources", "comparison", *full]
    written = [*(picture.name for picture in pictures), *(f"{name}.tex" for name in tables)]
    save_json(folder / MANIFEST, {"written": sorted(written)})


def _source(name: str, run: Run) -> str:
    """A row of the table of commands."""
    call = escape(run.call).replace("--", "-{}-")  # two hyphens, which TeX would join
    return rf"{escape(name.replace('_', '-'))} & \texttt{{{call}}} \\"


def remove_written(folder: Path) -> None:
    """Remove the files of the folder that its manifest names."""
    record = folder / MANIFEST
    names = load_json(record).get("written") if record.exists() else []
    for name in names if isinstance(names, list) else []:
        if isinstance(name, str) and Path(name).name == name and (folder / name).is_file():
            (folder / name).unlink()


def write_gallery(folder: Path, runs: Mapping[str, Run], full: Mapping[str, Run]) -> None:
    """The figures of the stand-ins and of the recorded runs as PNG, for README."""
    with TemporaryDirectory() as place:
        for name, run in {**runs, **full}.items():
            (picture,) = save_figure(run.plot(), Path(place), name.replace("-", "_"), endings=["png"])
            write_atomically(folder / picture.name, partial(shutil.copy, picture))


def record(run: str | Path, folder: Path) -> Path:
    """Copy a finished run's settings, environment and results to where the article finds them.

    Paths of this machine are left out: where the data lay, and of a folder of pictures all but its name.
    """
    recorded = finished(run)
    facts = load_json(recorded.path / "config.json", sealed=False)
    wanted = (recorded.command, recorded.preset)
    model = re.sub(r"[^\w.-]+", "-", getattr(recorded.config, "model", "")).strip(".-")[:100]
    other = f"{recorded.command}-{recorded.preset or model or 'default'}"
    name = next((key for key, value in RECORDED.items() if value == wanted), other)
    for settings in (facts["settings"], facts["all_settings"]):
        for key in NOT_IDENTITY:
            settings.pop(key, None)
        kind, colon, path = settings.get("dataset", "").partition(":")
        if colon:
            settings["dataset"] = f"{kind}:{Path(path).name}"
    directory = RunDirectory(folder / name)
    save_json(directory.path / "config.json", facts)
    save_json(directory.path / "environment.json", recorded.environment, sealed=False)
    directory.save_frame(recorded.frame)
    return directory.path


def full_runs(
    recorded: Sequence[Run], refused: Callable[[str], object] = str, style: Style | None = None
) -> dict[str, Run]:
    """The recorded runs that the article shows, by name; `refused` is told of those that cannot be shown.

    Raises InputError naming the first run that is missing.
    """
    full = {}
    for name, (command, preset) in RECORDED.items():
        fits = [r for r in recorded if (r.command, r.preset) == (command, preset) and not r.config.smoke]
        good = next((run for run in fits if _can_be_shown(name, run, refused, style or Style())), None)
        if good is None:
            raise InputError(
                f"the article needs a finished run of {command} --preset {preset}; see paper/runs"
            )
        full[name] = good
    return full


def _can_be_shown(name: str, run: Run, refused: Callable[[str], object], style: Style) -> bool:
    """Whether numbers, table and figure can be made of a run."""
    try:
        if style.draws(name):
            style.drawn[name] = run.guarded("figure", run.plot)
        run.guarded("table", lambda: TABLES[run.command](run))
        run.guarded("numbers", lambda: (dict(recorded_numbers({name: run})), dict(certificates({name: run}))))
    except InputError as error:
        refused(str(error))
        return False
    return True
