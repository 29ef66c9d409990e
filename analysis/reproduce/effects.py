"""What the reports' techniques cost: the paired difference of two errors of a run, beside the published.

A run at full size is read first. One at reduced scale judges no more than its own difference: it is a remark,
says so, and leaves the published line as not run.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from analysis.lab.measurement.verdict import Estimate, difference, not_run
from analysis.lab.runs.loading import Run
from analysis.reproduce.claim import Claim
from analysis.reproduce.trained import PRUNED, ROUNDED, TAUGHT, points
from capacity import mean_half_width
from capacity.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Effect:
    """A difference of two errors that a report published, in a number or in words.

    rows, beside: values of columns of results.csv, of what is judged and of what it is compared with
    figures: 0 where other lines hold both errors
    """

    report: str
    item: str
    published: str
    command: str
    preset: str
    rows: Mapping[str, Any]
    beside: Mapping[str, Any]
    source: str
    figures: int = 0


DENSE, TENTH, ALONE = {"criterion": "dense"}, {"amount": 0.1}, {"network": "cnn5", "variant": "alone"}
EFFECTS = (
    Effect("B", "cost of 10 % random pruning", "+36.72 points", PRUNED, "report-b",
           {"criterion": "random"} | TENTH, DENSE, "Table 6"),
    Effect("B", "cost of 10 % L1 pruning", "+13.55 points", PRUNED, "report-b",
           {"criterion": "l1"} | TENTH, DENSE, "Table 6"),
    Effect("B", "L1 in place of random pruning", "improved, by 23.17 points", PRUNED, "report-b",
           {"criterion": "l1"} | TENTH, {"criterion": "random"} | TENTH, "Section 6.3; Table 6", 1),
    Effect("B", "cost of quantization", "+0.02 points", ROUNDED, "report-b",
           {"scheme": "dynamic"}, {"scheme": "float"}, "Table 4"),
    Effect("C", "cost of 20 % of the channels", "+2.89 points", PRUNED, "report-c",
           {"criterion": "l2", "amount": 0.2}, DENSE, "its table"),
    Effect("C", "cost of masking 20 %", "+4.54 points", PRUNED, "report-c-masked",
           {"criterion": "l1", "amount": 0.2}, DENSE, "its table"),
    Effect("E", "cost of 60 % pruning", "+3.98 points", PRUNED, "report-e",
           {"criterion": "l1", "amount": 0.6}, DENSE, "Table 1"),
    Effect("E", "random in place of L1 pruning, at 50 %", "lower accuracy", PRUNED, "report-e",
           {"criterion": "random", "amount": 0.5}, {"criterion": "l1", "amount": 0.5},
           "Section 4.4; training_CIFAR10_random_pruning.ipynb, cell 16", 1),
    Effect("E", "cost of static int8 without calibration", "+5.80 points", ROUNDED, "report-e",
           {"scheme": "uncalibrated"}, {"scheme": "float"}, "Table 1; static_quantization.ipynb, cell 10"),
    Effect("E", "student at T = 0.01 beside the student alone", "-1.63 points", TAUGHT, "report-e",
           {"network": "cnn5", "variant": "freezing"}, ALONE, "Section 4.6"),
    Effect("E", "student at T = 1 beside the student alone", "performs poorly", TAUGHT, "report-e",
           {"network": "cnn5", "variant": "cold"}, ALONE, "Section 4.6; Figure 6", 1),
    Effect("E", "student at T = 0.01 beside the student at T = 1", "better performance", TAUGHT, "report-e",
           {"network": "cnn5", "variant": "freezing"}, {"network": "cnn5", "variant": "cold"},
           "Section 4.6; Figure 6", 1),
)  # fmt: skip


def effect_lines(runs: Sequence[Run]) -> Iterator[Claim]:
    """Each effect from a run of its preset at full size, else as not run; and from one at reduced scale."""
    for effect in EFFECTS:
        call = f"python -m analysis.{effect.command} --preset {effect.preset}"
        full = _measured(effect, runs, effect.preset)
        if full is not None:
            yield _judged(effect, *full, scale="")
        elif effect.figures:
            yield Claim(
                effect.report, effect.item, effect.published, "-", not_run(call),
                "needs the training of its preset", call, effect.source, effect.figures,
            )  # fmt: skip
        small = _measured(effect, runs, f"{effect.preset}-reduced")
        if full is None and small is not None:
            yield _judged(effect, *small, scale=", at reduced scale")


def _measured(effect: Effect, runs: Sequence[Run], preset: str) -> tuple[Run, Estimate] | None:
    """The first run of a preset whose rows hold both errors, and their difference over its seeds."""
    for run in runs:
        if (run.command, run.preset) != (effect.command, preset) or run.config.smoke:
            continue
        if run.config.limit is not None and preset == effect.preset:
            continue
        try:
            gap = run.guarded("difference", partial(paired, run.frame, effect))
        except InputError:
            continue
        if gap is not None:
            return run, gap
    return None


def paired(frame: "pd.DataFrame", effect: Effect) -> Estimate | None:
    """Mean and interval of the difference over seeds; None where the rows hold no pair."""
    columns = [_errors(frame, where) for where in (effect.rows, effect.beside)]
    both = columns[0].to_frame("of").join(columns[1].rename("beside"), how="inner")
    gaps = (both["of"] - both["beside"]).dropna()
    return Estimate(float(gaps.mean()), mean_half_width([*gaps])) if len(gaps) else None


def _errors(frame: "pd.DataFrame", where: Mapping[str, Any]) -> "pd.Series[float]":
    """The errors of the rows that agree, by seed."""
    rows = frame
    for column, value in where.items():
        rows = rows[
            (rows[column] - value).abs() < 1e-9 if isinstance(value, float) else rows[column] == value
        ]
    return rows.drop_duplicates("seed").set_index("seed")["top1_error"].astype(float)


def _judged(effect: Effect, run: Run, gap: Estimate, *, scale: str) -> Claim:
    config = run.config
    facts = f"{config.model}, {config.dataset.rpartition(':')[2]}"
    if scale:
        facts += f", {config.limit:,} samples at {config.image_size} pixels, {config.epochs} epochs"
    return Claim(
        effect.report, effect.item + scale, effect.published, points(gap.mean, gap.half_width),
        difference(gap), f"of error, by {facts}", run.call, effect.source,
        effect.figures * (not scale),
    )  # fmt: skip
