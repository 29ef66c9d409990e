"""What the article includes: numbers, tables, figures, and the command that made each."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from analysis.lab.reporting.figures import fit_venue, save_figure
from analysis.lab.reporting.latex import escape
from analysis.lab.runs.directory import RunDirectory
from analysis.lab.runs.loading import Run, finished
from analysis.lab.settings import NOT_IDENTITY
from capacity.errors import InputError
from compression.checkpoints import load_json, save_json, write_whole

if TYPE_CHECKING:
    import pandas as pd
from analysis.reproduce.article_tables import TABLES, comparison_table, reports_table
from analysis.reproduce.numbers import (
    certificates,
    exact_numbers,
    recorded_numbers,
    surrogate_numbers,
    verdict_counts,
)

RECORDED = {  # runs at full size that the article shows: name -> command, preset
    "frontier-lenet300": ("compression_frontier", "lenet300"),
    "frontier-lenet5": ("compression_frontier", "lenet5"),
    "frontier-lenet5-long": ("compression_frontier", "lenet5-long"),
    "quantized-lenet5": ("quantization_table", "lenet5"),
    "quantized-resnet20": ("quantization_table", "resnet20"),
    "students-mnist": ("distillation_table", "report-d"),
    "students-cifar10": ("distillation_table", "report-d-cifar10"),
    "six-layer": ("comparison", "report-d"),
}


@dataclass(frozen=True)
class Style:
    """How the article's input is made: for which venue's widths, with PGF, from a quick pass."""

    venue: str = "ieee"
    pgf: bool = False
    smoke: bool = False


def write_article(
    folder: Path,
    lines: "pd.DataFrame",
    runs: Mapping[str, Run],
    recorded: Sequence[Run],
    style: Style,
) -> None:
    """Write numbers, tables and figures into a folder made anew; the same runs give the same bytes.

    runs: stand-ins by command; recorded: runs at full size, of which those in RECORDED must be there

    Raises InputError naming the runs that are missing.
    """
    full = _full(recorded)
    if folder.exists():
        shutil.rmtree(folder)
    home = RunDirectory(folder)
    numbers = dict(exact_numbers()) | dict(verdict_counts(lines))
    numbers |= dict(surrogate_numbers(runs)) | dict(recorded_numbers(full)) | dict(certificates(full))
    numbers["QuickPass"] = "1" if style.smoke else "0"
    home.save_text("".join(f"\\newcommand{{\\{k}}}{{{v}}}\n" for k, v in numbers.items()), "numbers.tex")
    home.save_text(reports_table(lines), "reports.tex")
    sources = []
    for name, run in {**runs, **full}.items():
        figure = run.plot()
        fit_venue(figure, style.venue)
        save_figure(figure, folder, name.replace("_", "-"), pgf=style.pgf)
        call = escape(run.call).replace("--", "-{}-")  # two hyphens, which TeX would join
        sources.append(rf"{escape(name.replace('_', '-'))} & \texttt{{{call}}} \\")
    home.save_text("\n".join(sources) + "\n", "sources.tex")
    home.save_text(comparison_table(runs["comparison"]), "comparison.tex")
    for name, run in full.items():
        home.save_text(TABLES[run.command](run), f"{name}.tex")


def write_gallery(folder: Path, runs: Mapping[str, Run], recorded: Sequence[Run]) -> None:
    """The figures of the stand-ins and of the recorded runs as PNG, for README."""
    with TemporaryDirectory() as place:
        for name, run in {**runs, **_full(recorded)}.items():
            _, picture = save_figure(run.plot(), Path(place), name.replace("-", "_"))
            write_whole(folder / picture.name, partial(shutil.copy, picture))


def record(run: str | Path, folder: Path) -> Path:
    """Copy a finished run's settings, environment and results to where the article finds them.

    Paths of this machine are left out: where the data lay, and of a folder of pictures all but its name.
    """
    found = finished(run)
    facts = load_json(found.path / "config.json", sealed=False)
    wanted = (found.command, found.preset)
    other = f"{found.command}-{found.preset or found.config.model}"
    name = next((key for key, value in RECORDED.items() if value == wanted), other)
    for settings in (facts["settings"], facts["all_settings"]):
        for key in NOT_IDENTITY:
            settings.pop(key, None)
        kind, colon, path = settings.get("dataset", "").partition(":")
        if colon:
            settings["dataset"] = f"{kind}:{Path(path).name}"
    home = RunDirectory(folder / name)
    save_json(home.path / "config.json", facts)
    save_json(home.path / "environment.json", found.environment, sealed=False)
    home.save_frame(found.frame)
    return home.path


def _full(recorded: Sequence[Run]) -> dict[str, Run]:
    found = {}
    for name, (command, preset) in RECORDED.items():
        fits = [r for r in recorded if (r.command, r.preset) == (command, preset) and not r.config.smoke]
        if not fits:
            raise InputError(
                f"the article needs a finished run of {command} --preset {preset}; see paper/runs"
            )
        found[name] = fits[0]
    return found
