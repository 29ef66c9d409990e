"""How large it really needs to be: what networks could hold, do hold, and what the labels are: one table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from analysis.lab.cli import execute
from capacity.columns import KEY, Column
from capacity.errors import InputError
from capacity.tables import Table

if TYPE_CHECKING:
    from analysis.lab.runs.loading import Run
    from capacity.recommendation import Advice

RECORDS = Path(__file__).parents[1] / "paper" / "runs"
RECORDED = ("description-digits", "adequate-digits", "description-mnist", "adequate-mnist")
NEEDED = ("description_length", "adequate_size")


@dataclass(frozen=True)
class Config:
    """Print the table of the recorded runs, or of your runs of description_length and adequate_size."""

    runs: tyro.conf.Positional[tuple[str, ...]] = ()
    """Run folders, for each data set one of description_length and one of adequate_size; by default those in
    paper/runs."""
    markdown: bool = False
    """Print Markdown."""
    smoke: bool = False
    """Nothing is left out; the command is quick anyway."""


def held(run: "Run") -> dict[str, str]:
    """What a run of description_length says: its bits of the best file are means over seeds."""
    from analysis.description_length.report import best
    from capacity import mean_half_width
    from capacity.columns import with_interval

    rows = best(run.frame, "true", "file")
    first = rows.iloc[0]

    def mean(name: str, style: str, factor: float = 1) -> str:
        values = (factor * rows[name]).tolist()
        return with_interval(sum(values) / len(values), mean_half_width(values), style)

    files = run.frame[(run.frame["labels"] == "true") & (run.frame["code"] == "file")]
    sure = files.sort_values("top1_error_bound").iloc[0]
    return {
        "network": run.config.model,
        "its weights": f"{first['parameters']:,.0f}",
        "could hold, by the convention [bit]": f"{first['convention_bits']:,.0f}",
        "can hold at most, as proven [bit]": f"{first['proven_bits']:,.0f}",
        "does hold: its coded file [bit]": mean("file_bits", ",.0f"),
        "the labels are [bit]": f"{first['label_bits']:,.0f}",
        "the labels, told with that file [bit]": mean("description_bits", ",.0f"),
        "learned of the labels' bits [%]": mean("learned_share", ".1f", 100),
        "least error that a file guarantees [%]": f"{100 * sure['top1_error_bound']:.1f}",
        "the file of that guarantee errs on [%]": f"{100 * sure['top1_error']:.2f}",
    }


def sized(run: "Run") -> dict[str, str]:
    """What a run of adequate_size says, beside advice in which its data had no part."""
    from analysis.adequate_size.report import size_outcome

    size = size_outcome(run.frame, advice_without(run.config.dataset))
    return {
        "hidden units foretold (90 % range)": f"{size.foretold:,} ({size.low:,} to {size.high:,})",
        "smallest adequate found [hidden units]": f"{size.adequate:,}",
    }


def advice_without(dataset: str) -> "Advice":
    """The advice by a pilot, fitted anew without this data set and its variants where it is among them."""
    from analysis.lab.runs.loading import finished
    from analysis.sizing.advice import advice_of
    from analysis.sizing.config import DATASETS
    from capacity.recommendation import recorded

    if dataset not in DATASETS or not (RECORDS / "sizing").exists():
        return recorded("pilot")
    rows = finished(RECORDS / "sizing").frame
    return advice_of(rows[~rows["dataset"].str.startswith(dataset)], "pilot")


def table(runs: "Sequence[Run]") -> Table:
    """A row for each question, a column for each data set.

    Raises InputError for runs of other commands, two of one command and data set, and one that is missing.
    """
    by_data: dict[str, dict[str, Run]] = {}
    for run in runs:
        if run.command not in NEEDED:
            raise InputError(f"{run.path} is a run of {run.command}; the table needs {' and '.join(NEEDED)}")
        if run.command in by_data.setdefault(run.config.dataset, {}):
            raise InputError(f"two runs of {run.command} on {run.config.dataset}: name one of them")
        by_data[run.config.dataset][run.command] = run
    answers: dict[str, Mapping[str, str]] = {}
    for name, runs_of in by_data.items():
        missing = [command for command in NEEDED if command not in runs_of]
        if missing:
            raise InputError(f"{name} has no run of {missing[0]}: python -m analysis.{missing[0]}")
        answers[name] = held(runs_of[NEEDED[0]]) | sized(runs_of[NEEDED[1]])
    questions = next(iter(answers.values()))
    rows: list[dict[Any, Any]] = [
        {"question": question} | {name: said[question] for name, said in answers.items()}
        for question in questions
    ]
    columns = [Column("question", "", importance=KEY)]
    columns += [Column(name, name, style=",", importance=KEY) for name in answers]
    return Table(columns, rows, caption="How large it really needs to be", label="tab:answer")


def start(config: Config) -> None:
    """Print the table."""
    from analysis.lab.runs.loading import finished

    if not config.runs and not all((RECORDS / name).exists() for name in RECORDED):
        raise InputError("name run folders of description_length and adequate_size: none are recorded here")
    answer = table([finished(folder) for folder in config.runs or [RECORDS / name for name in RECORDED]])
    print(answer.to_markdown() if config.markdown else answer.text())


def main(arguments: Sequence[str] | None = None) -> None:
    execute(Config, {"default": Config()}, start, arguments)


if __name__ == "__main__":
    main()
