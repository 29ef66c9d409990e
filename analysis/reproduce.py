"""Five student reports put to the test line by line: published, recomputed, verdict; the article's input."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from analysis.lab.commands import execute

if TYPE_CHECKING:
    import pandas as pd

    from analysis.lab.claims import Line
    from analysis.lab.finished import Finished


@dataclass(frozen=True)
class Config:
    """Recompute every figure of the five reports, and write what the article includes."""

    runs: tuple[str, ...] = ("runs", "paper/runs")
    """Folders whose finished runs are read: a line that a preset trains is taken from that preset's run."""
    output: str = "runs/reproduce"
    """Folder for the table and for the runs on the digits that stand in for what needs a GPU."""
    paper: str = "paper"
    """Folder of the article; its generated/ is written anew where the folder exists."""
    gallery: str = ""
    """Folder to copy the figures of the runs on the digits to, as PNG: README's are in .readme."""
    venue: Literal["ieee", "icml", "neurips", "acl"] = "ieee"
    """Whose column and text widths the article's figures are drawn for."""
    pgf: bool = False
    """Write figures as PGF too, for an article that sets their letters itself; needs pdflatex."""
    full: bool = False
    """Run the presets at full size first; needs their data, and for most of them a GPU."""
    data: str = "data"
    """Folder of torchvision's data sets, for the presets."""
    record: tuple[str, ...] = ()
    """Finished run folders to copy into PAPER/runs, without paths of this machine; then stop."""
    smoke: bool = False
    """Stand-ins with few samples and one epoch: their figures mean nothing, and the article says so."""


def run(config: Config) -> "pd.DataFrame":
    """A row per published figure."""
    lines, _ = reproduce(config)
    return frame_of(lines)


def reproduce(config: Config) -> "tuple[list[Line], dict[str, Finished]]":
    """All lines, and the stand-ins by command."""
    from analysis.lab.claims import EXACT, REPORTS
    from analysis.lab.faults import FAULTS
    from analysis.lab.progress import progress
    from analysis.lab.standins import STANDINS, lessons, recorded, stand_in, trained_lines

    if config.full:
        _run_presets(config)
    folder = Path(config.output) / ("smoke" if config.smoke else "digits")
    lines: list[Line] = []
    runs: dict[str, Finished] = {}
    computed = (*EXACT, *FAULTS)
    with progress(len(computed) + len(STANDINS), "reproducing") as advance:
        for function in computed:
            advance(doing=(function.__doc__ or "").splitlines()[0])
            lines += function()
            advance(1)
        for command, changes in STANDINS:
            advance(doing=f"stand-in: {command}")
            runs[command] = stand_in(command, changes, folder, smoke=config.smoke)
            advance(1)
    lines += lessons(runs)
    lines += trained_lines(recorded(config.runs))
    return sorted(lines, key=lambda line: list(REPORTS).index(line.report)), runs


def _run_presets(config: Config) -> None:
    """Every preset that a line needs, one after another, each resumable."""
    from dataclasses import replace
    from importlib import import_module

    from analysis.lab.standins import TRAINED

    for command, preset in dict.fromkeys((row.command, row.preset) for row in TRAINED):
        module = import_module(f"analysis.{command}")
        print(f"python -m analysis.{command} --preset {preset}")
        module.start(replace(module.PRESETS[preset], data=config.data))


def frame_of(lines: "Sequence[Line]") -> "pd.DataFrame":
    """A row per line."""
    import pandas as pd

    return pd.DataFrame([vars(line) for line in lines])


def table(frame: "pd.DataFrame") -> str:
    """The lines as text, a table for each report."""
    from rich.table import Table

    from analysis.lab.claims import REPORTS
    from capacity.report import render

    parts = []
    for report, rows in frame.groupby("report"):
        shown = Table()
        widths = {"item": 30, "published": 26, "recomputed": 34, "verdict": 16, "why": 50}
        for column, width in widths.items():
            shown.add_column(column, max_width=width)
        for row in rows.to_dict("records"):
            shown.add_row(*(str(row[name]) for name in widths))
        parts.append(f"{report}. {REPORTS[str(report)]}\n{render(shown, width=170)}")
    return "\n".join(parts)


def headline(frame: "pd.DataFrame") -> str:
    """How many lines got which verdict."""
    counts = frame["verdict"].value_counts()
    told = ", ".join(f"{counts[name]} {name}" for name in counts.index)
    return f"{len(frame)} published figures and methods: {told}"


def start(config: Config) -> None:
    """Print the lines; write them as CSV and LaTeX, and the article's input where there is an article."""
    from analysis.lab.article import Style, record, write_article, write_gallery
    from analysis.lab.records import RunFolder
    from analysis.lab.standins import recorded

    if config.record:
        for run in config.record:
            print(f"recorded: {record(run, Path(config.paper) / 'runs')}")
        return
    lines, runs = reproduce(config)
    frame = frame_of(lines)
    RunFolder(Path(config.output)).save_frame(frame, "reports.csv")
    if config.gallery:
        write_gallery(Path(config.gallery), runs, recorded(config.runs))
    article = Path(config.paper).is_dir()
    folder = Path(config.paper) / "generated"
    if article:
        style = Style(config.venue, config.pgf, config.smoke)
        write_article(folder, frame, runs, recorded(config.runs), style)
    print(table(frame))
    print(headline(frame))
    unrun = sorted(set(frame.loc[frame["verdict"] == "needs its preset", "command"]))
    if unrun:
        print("presets without a finished run:\n  " + "\n  ".join(unrun))
    print(f"results: {config.output}/reports.csv")
    if article:
        print(f"article: {folder}, for make -C {config.paper}")


def main(arguments: Sequence[str] | None = None) -> None:
    execute(Config, {"default": Config()}, start, arguments)


if __name__ == "__main__":
    main()
