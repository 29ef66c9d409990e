"""The rows of an experiment in TensorBoard, MLflow or Weights & Biases: a run there for each seed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capacity.errors import InputError
from capacity.inputs import first_line
from compression.trackers import Kind, track

if TYPE_CHECKING:
    import pandas as pd


def track_rows(
    frame: "pd.DataFrame", kinds: Sequence[Kind], folder: Path, project: str, settings: Mapping[str, Any]
) -> None:
    """Send each seed's rows: numbers under their row's name, such as its technique, by `step` or in order.

    Runs are called FOLDER-seed-SEED; a run that is there is gone on with.

    Raises InputError where the store does not take them.
    """
    for kind in kinds:
        for seed, rows in frame.groupby("seed"):
            noted = {**settings, "seed": seed}
            try:
                name = f"{folder.name}-seed-{seed}"
                with track(kind, folder, name=name, project=project, settings=noted) as log:
                    for values, step in entries(rows):
                        log(values, step)
            except InputError:
                raise
            except Exception as error:  # of any kind: a store may be full, or its server away
                reason = first_line(error)
                raise InputError(f"{kind} did not take the rows, which lie in {folder}: {reason}") from error


def entries(rows: "pd.DataFrame") -> list[tuple[dict[str, float], int]]:
    """The numbers of a seed's rows, each with its row's name before it, by step in order."""
    names = naming_columns(rows)
    by_step: dict[int, dict[str, float]] = {}
    numbers = rows.drop(columns=["seed", "step", *words_of(rows)], errors="ignore")
    for words, group in rows.groupby(names, sort=False) if names else [((), rows)]:
        prefix = "".join(f"{word}/" for word in words)
        steps = group["step"].to_list() if "step" in group else range(len(group))
        for values, step in zip(numbers.loc[group.index].to_dict("records"), steps, strict=True):
            into = by_step.setdefault(int(step), {})
            into |= {f"{prefix}{key}": float(value) for key, value in values.items()}
    return [(by_step[step], step) for step in sorted(by_step)]


def naming_columns(rows: "pd.DataFrame") -> list[str]:
    """The first columns of words under which no two rows have the same step; where none do, the first."""
    words, steps = words_of(rows), [name for name in ("step",) if name in rows]
    for count in range(len(words) + 1):
        named_by = [*words[:count], *steps]
        if named_by and not rows.duplicated(named_by).any():
            return words[:count]
    return words[:1]


def words_of(frame: "pd.DataFrame") -> list[str]:
    """The columns that hold words."""
    import pandas as pd

    return [str(name) for name in frame if not pd.api.types.is_numeric_dtype(frame[name])]
