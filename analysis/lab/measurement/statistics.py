"""Means and intervals over seeds, paired where the same seeds were used."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from analysis.lab.measurement.verdict import Estimate, Verdict, compare
from capacity import mean_half_width

if TYPE_CHECKING:
    import pandas as pd


def summarize(frame: "pd.DataFrame", by: list[str], columns: list[str]) -> "pd.DataFrame":
    """For each group the mean and the half-width of its 95 % interval: NAME_mean, NAME_half_width.

    Columns that a run of an earlier version does not hold are left out; a group in which a value is missing,
    as the top-5 error of few classes is, has no interval.
    """
    import pandas as pd

    held = [name for name in columns if name in frame.columns]
    grouped = frame.assign(**{name: pd.to_numeric(frame[name]) for name in held}).groupby(by, sort=False)
    parts = {}
    for column in held:
        parts[f"{column}_mean"] = grouped[column].mean()
        parts[f"{column}_half_width"] = grouped[column].apply(lambda values: mean_half_width(values.tolist()))
    return pd.DataFrame(parts).reset_index()


def paired_difference(
    frame: "pd.DataFrame",
    column: str,
    *,
    against: str,
    keys: Sequence[str] = ("seed", "step"),
    by: Sequence[str] = ("criterion", "step"),
    column_name: str = "criterion",
) -> "pd.DataFrame":
    """Mean difference to rows where `column_name` is `against`, over rows that agree in `keys`."""
    reference = frame[frame[column_name] == against][[*keys, column]]
    others = frame[frame[column_name] != against]
    both = others.merge(reference, on=list(keys), suffixes=("", "_reference"))
    both[f"{column}_difference"] = both[column] - both[f"{column}_reference"]
    return summarize(both, list(by), [f"{column}_difference"])


def timing_threads(frame: "pd.DataFrame") -> str:
    """With how many threads the times of a run were taken; runs of earlier versions do not say."""
    return f"{frame['threads'].iloc[0]:g}" if "threads" in frame.columns else "unknown"


def slower(row: "pd.Series", *, quick: bool) -> bool:
    """Whether the speed-ups of a summary's row, at batches of 1 and of 32, are both judged below one."""
    return all(
        compare(
            Estimate(float(row[f"speedup_{batch}_mean"]), float(row[f"speedup_{batch}_half_width"])),
            Estimate(1.0, 0.0), margin=0, lower_is_better=False, quick=quick,
        ).verdict == Verdict.WORSE
        for batch in (1, 32)
    )  # fmt: skip
