"""Means and intervals over seeds, paired where the same seeds were used."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

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


SAME = 1.2  # the factor up to which two timings of one network are alike


def differs_from_itself(ratios: Any, network: str) -> str:
    """What to say where a network, timed in turns with itself, takes another time; else nothing.

    ratios: of its times, NaN or None where it was not timed; network: what it is called

    >>> differs_from_itself([1.05, 0.9, None], "float")
    ''
    >>> differs_from_itself([1.05, 2.39], "float")[:62]
    'times are unsteady: the float network differs from itself by a'
    """
    import numpy as np

    known = np.asarray(ratios, dtype=float)
    known = known[np.isfinite(known)]
    most = float(np.exp(abs(np.log(known)).max())) if known.size else 1.0
    if most <= SAME:
        return ""
    return (
        f"times are unsteady: the {network} network differs from itself by a factor of {most:.2g}; "
        f"take them again on a quiet machine"
    )


def slower(row: "pd.Series", *, quick: bool) -> bool:
    """Whether the speed-ups of a summary's row, at batches of 1 and of 32, are both judged below one."""
    return all(
        compare(
            Estimate(float(row[f"speedup_{batch}_mean"]), float(row[f"speedup_{batch}_half_width"])),
            Estimate(1.0, 0.0), margin=0, lower_is_better=False, quick=quick,
        ).verdict == Verdict.WORSE
        for batch in (1, 32)
    )  # fmt: skip
