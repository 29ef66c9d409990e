"""How large it need be, for the article: the answer's table, and what the recorded experiments say."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from analysis import answer
from analysis.answer import RECORDED, RECORDS
from analysis.lab.reporting.latex import escape
from analysis.lab.runs.loading import Run, finished
from capacity.columns import with_interval
from capacity.latex import number_in_latex


def answer_rows(folder: Path = RECORDS) -> str:
    """The table that answers the title, as rows of LaTeX: question, then a cell for each data set."""
    table = answer.table([finished(folder / name) for name in RECORDED])
    names = [column.name for column in table.columns]
    return "".join(f"{' & '.join(escape(str(row[name])) for name in names)} \\\\\n" for row in table.rows)


def evidence_runs(folder: Path = RECORDS) -> dict[str, Run]:
    """The recorded runs that the article's answer rests on, by name."""
    names = (
        *RECORDED, "sizing", "memorization-bounds", "generalization", "reparametrization",
        "certificate-mnist",
    )  # fmt: skip
    return {name: finished(folder / name) for name in names}


def evidence_numbers(folder: Path = RECORDS) -> Iterator[tuple[str, str]]:
    """Macros of the recorded runs of sizing, memorizing, generalizing and of functions that stay."""
    runs = evidence_runs(folder)
    yield from _of_sizes(runs["sizing"])
    yield from _of_memory(runs["memorization-bounds"])
    yield from _of_gaps(runs["generalization"])
    yield from _of_changes(runs["reparametrization"])


def _of_sizes(run: Run) -> Iterator[tuple[str, str]]:
    from analysis.sizing.advice import advice_of
    from analysis.sizing.predictors import REACHED

    advice = advice_of(run.frame, "pilot")
    reached: Any = run.summary().set_index("predictor").loc[REACHED]
    yield "SizingSets", str(advice.data_sets)
    yield "SizingCovered", str(advice.covered)
    yield "SizingWithinTwo", str(advice.within_two)
    yield "SizingFactor", f"{2 ** advice.octaves[0]:.1f}"
    yield "SizingRegret", _number(100 * advice.regret[0], 100 * advice.regret[1], ".1f")
    yield "SizingReachedRank", f"${reached['rank']:+.2f}$"
    yield "SizingReachedLow", f"${reached['rank_low']:+.2f}$"
    yield "SizingReachedHigh", f"${reached['rank_high']:+.2f}$"


def _of_memory(run: Run) -> Iterator[tuple[str, str]]:
    rows: Any = run.summary().set_index("line")
    first = rows.loc["previous_bits"]
    yield "MemorySearches", str(first["networks"])
    yield "MemoryCrossed", str(first["crossed"])
    yield "MemoryMost", f"{first['most']:.1f}"
    yield "MemoryMiddle", f"{run.frame['bits_per_parameter'].median():.2f}"
    yield "MemoryProvenCrossed", str(int(rows.loc[["piece_bits", "storage_bits"], "crossed"].sum()))
    yield "MemoryProvenMost", f"{100 * rows.loc[['piece_bits', 'storage_bits'], 'most'].max():.0f}"


def _of_gaps(run: Run) -> Iterator[tuple[str, str]]:
    means: Any = run.summary()
    place = int(means.index[means["measure"] == "capacity"][0])
    row, best = means.loc[place], means.loc[0]
    yield "GapNetworks", str(len(run.frame) // run.frame["seed"].nunique())
    yield "GapMeasures", str(len(means))
    yield "GapPlace", str(place + 1)
    yield "GapTau", _number(row["gap_tau_mean"], row["gap_tau_half_width"], "+.2f")
    yield "GapScore", _number(100 * row["score_mean"], 100 * row["score_half_width"], ".1f")
    yield "GapBest", str(best["label"])
    yield "GapBestScore", _number(100 * best["score_mean"], 100 * best["score_half_width"], ".1f")


def _of_changes(run: Run) -> Iterator[tuple[str, str]]:
    from analysis.reparametrization.config import CHANGES
    from analysis.reparametrization.report import moves

    moved: Any = moves(run.summary()).set_index("measure")
    yield "StayMeasures", str(len(moved))
    yield "StayChanges", str(len(CHANGES))
    yield "StayWhole", str(int((moved["stays"] == len(CHANGES)).sum()))
    shown = {"previous_bits": "Capacity", "effective_bits": "Effective", "rounded_bits": "File"}
    for name, key in shown.items():
        yield f"Stay{key}", str(int(moved.loc[name, "stays"]))
        yield f"Stay{key}Most", f"{moved.loc[name, 'most']:.2g}"


def _number(mean: float, half_width: float, style: str) -> str:
    return number_in_latex(with_interval(float(mean), float(half_width), style))
