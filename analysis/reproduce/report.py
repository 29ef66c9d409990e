"""All lines: from integers, demonstrations, runs; as table, sentence and files."""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from analysis.lab.runs.loading import Run
    from analysis.reproduce.claim import Claim
from analysis.reproduce.config import Config

QUICK_TURNS = 3  # of each network that a quick pass times


def run(config: Config) -> "pd.DataFrame":
    """A row per published figure."""
    lines, _ = reproduce(config)
    return frame_of(lines)


def reproduce(config: Config, read: "Sequence[Run] | None" = None) -> "tuple[list[Claim], dict[str, Run]]":
    """All lines, and the stand-ins by command; `read`: finished runs, by default those of `config.runs`."""
    from analysis.lab.runs.progress import progress
    from analysis.reproduce.claim import REPORTS
    from analysis.reproduce.effects import effect_lines
    from analysis.reproduce.exact import EXACT, time_without_channels
    from analysis.reproduce.faults import FAULTS
    from analysis.reproduce.losses import LOSSES
    from analysis.reproduce.notebooks import NOTEBOOKS, latency_of_the_student
    from analysis.reproduce.pipelines import PIPELINES
    from analysis.reproduce.printed import PRINTED
    from analysis.reproduce.protocols import PROTOCOLS
    from analysis.reproduce.sentences import SENTENCES
    from analysis.reproduce.surrogates import SURROGATES, run_surrogate, surrogate_claims
    from analysis.reproduce.theory import THEORY
    from analysis.reproduce.trained import trained_lines, untrained_lines

    read = finished_runs(config) if read is None else read
    folder = Path(config.output) / ("smoke" if config.smoke else "digits")
    lines: list[Claim] = []
    runs: dict[str, Run] = {}
    timed = (time_without_channels, latency_of_the_student)
    turns = {"turns": QUICK_TURNS} if config.smoke else {}
    computed: tuple[Callable[..., Iterator[Claim]], ...] = (
        *EXACT, *THEORY, *PROTOCOLS, *PRINTED, *SENTENCES, *FAULTS, *LOSSES, *NOTEBOOKS, *PIPELINES,
    )  # fmt: skip
    with progress(len(computed) + len(SURROGATES), "reproducing") as on_progress:
        for function in computed:
            on_progress(doing=(function.__doc__ or "").splitlines()[0])
            lines += function(**turns) if function in timed else function()
            on_progress(1)
        for command, changes in SURROGATES:
            on_progress(doing=f"stand-in: {command}")
            runs[command] = run_surrogate(command, changes, folder, smoke=config.smoke)
            on_progress(1)
    lines += surrogate_claims(runs)
    lines += [*untrained_lines(), *trained_lines(read), *effect_lines(read)]
    return sorted(lines, key=lambda line: list(REPORTS).index(line.report)), runs


def finished_runs(config: Config) -> "list[Run]":
    """The finished runs of `config.runs`, with `config.full` after those of all presets."""
    from analysis.reproduce.admitted import recorded

    if config.full:
        _run_presets(config)
    return recorded(config.runs, _passed_over)


def _passed_over(reason: str) -> None:
    print(f"passed over: {reason}", file=sys.stderr)


def _run_presets(config: Config) -> None:
    """Every preset that a line needs, one after another, each resumable."""
    from dataclasses import replace
    from importlib import import_module

    from analysis.reproduce.trained import TRAINED

    for command, preset in dict.fromkeys((row.command, row.preset) for row in TRAINED):
        module = import_module(f"analysis.{command}")
        print(f"python -m analysis.{command} --preset {preset}")
        module.start(replace(module.PRESETS[preset], data=config.data))


def frame_of(lines: "Sequence[Claim]") -> "pd.DataFrame":
    """A row per line."""
    import pandas as pd

    rows = []
    for line in lines:
        row = {name: str(value) for name, value in vars(line).items()}
        row["verdict"] = row.pop("judgement")
        rows.append(row)
    return pd.DataFrame(rows)


def table(frame: "pd.DataFrame", *, wide: bool = False) -> str:
    """The lines as text, a table for each report."""
    from analysis.lab.reporting.columns import table_of
    from analysis.reproduce.claim import REPORTS
    from capacity.terminal import broken

    names = ("item", "verdict", "published", "recomputed", "why", "source")
    return "\n\n".join(
        f"{broken(f'{report}. {REPORTS[str(report)]}')}\n{table_of(rows, names).text(wide=wide)}"
        for report, rows in frame.groupby("report")
    )


def headline(frame: "pd.DataFrame") -> str:
    """How many lines got which verdict; remarks, with nothing published, are not counted."""
    from analysis.reproduce.claim import published

    lines = published(frame)
    counts = lines["verdict"].value_counts()
    text = ", ".join(f"{counts[name]} {name}" for name in counts.index)
    figures = int(lines["figures"].astype(int).sum())
    remarks = len(frame) - len(lines)
    return (
        f"{len(lines)} lines for {figures} published figures, formulas and sentences, and {remarks} "
        f"remarks: {text}"
    )


def start(config: Config) -> None:
    """Print the lines; write them as CSV and LaTeX, and the article's input where there is an article."""
    from analysis.lab.measurement.verdict import Verdict
    from analysis.lab.runs.directory import RunDirectory
    from analysis.reproduce.article import full_runs, record, style_of, write_article, write_gallery
    from capacity.terminal import broken

    if config.record:
        for run in config.record:
            print(f"recorded: {record(run, Path(config.paper) / 'runs')}")
        return
    article = Path(config.paper).is_dir()
    read = finished_runs(config)
    style = style_of(config)
    full = full_runs(read, _passed_over, style) if article or config.gallery else {}
    lines, runs = reproduce(config, read)
    frame = frame_of(lines)
    RunDirectory(Path(config.output)).save_frame(frame, "reports.csv")
    if config.gallery:
        write_gallery(Path(config.gallery), runs, full)
    folder = Path(config.paper) / "generated"
    if article:
        write_article(folder, frame, runs, full, style)
    print(f"{broken(headline(frame))}\n\n{table(frame, wide=config.wide)}\n")
    unrun = sorted({*frame.loc[frame["verdict"] == Verdict.NOT_RUN, "command"]} - {""})
    if unrun:
        print("presets without a finished run:\n  " + "\n  ".join(unrun))
    print(f"results: {config.output}/reports.csv")
    if article:
        print(f"article: {folder}, for make -C {config.paper}")
