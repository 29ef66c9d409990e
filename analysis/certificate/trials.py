"""The guarantee of each file of a run: a row per file."""

from typing import TYPE_CHECKING

from analysis.certificate.config import Config

if TYPE_CHECKING:
    import pandas as pd

    from analysis.lab.runs.loading import Run


def certified(run: "Run", config: Config) -> "pd.DataFrame":
    """A row per file: bytes, errors on what training saw and on the test, and the bounds, as fractions.

    Any of the run's files may be picked by its bound: each pays for that choice.
    """
    from capacity.certificates import certificate

    frame = run.frame
    choices = len(frame) * config.choices
    rows = []
    for row in frame.to_dict("records"):
        total = int(row["all_points"] - row["total"])
        errors = total - int(row["correct_of_all"] - row["correct"])
        bound = certificate(
            errors, total, int(row["file_bytes"]), choices=choices, confidence=config.confidence
        )
        rows.append({
            "seed": row["seed"], "method": row["method"], "density": row["density"],
            "file_bytes": bound.file_bytes, "code_bits": bound.code_bits, "training_samples": total,
            "training_error": bound.training_error, "top1_error_bound": bound.error_bound,
            "kl_error_bound": bound.kl_error_bound, "top1_error": row["top1_error"],
        })  # fmt: skip
    import pandas as pd

    return pd.DataFrame(rows)
