"""What foretells a size: numbers of the data, on a logarithmic scale, or always the same size."""

from collections.abc import Callable, Mapping, Sequence
from math import log2
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capacity._requirement import expected_bits
from capacity.recommendation import PILOT, VALUES, units_for

Facts = Mapping[Any, Any]
Array = NDArray[np.float64]

FIXED = 64  # units: the size that needs no advice
CONSTANT = "mean of the others"
REACHED = "units that reach the expected need"

# What `capacity.recommend` knows of the data, and what takes a model or two to know.
TRAINED: dict[str, Callable[[Facts], float]] = {
    "linear error": lambda f: f["rows"] * f["linear_error"],
    "neighbours' error": lambda f: f["rows"] * f["neighbour_error"],
    "linear beyond neighbours' error": lambda f: f["rows"] * max(f["linear_error"] - f["neighbour_error"], 0),
    "leaves of a decision tree": lambda f: f["tree_leaves"],
}
ALL = VALUES | TRAINED | PILOT
CANDIDATES = {CONSTANT: ()} | {name: (name,) for name in ALL}


def tables_of(facts: Sequence[Facts]) -> dict[str, Array]:
    """For each predictor that is fitted log2(1 + value) of its values, (data sets, values)."""
    return {
        name: np.array([[log2(1 + ALL[part](row)) for part in parts] for row in facts]).reshape(
            len(facts), len(parts)
        )
        for name, parts in CANDIDATES.items()
    }


def unfitted(facts: Sequence[Facts]) -> dict[str, Array]:
    """log2(units) of the sizes that take no fitting."""
    reached = [
        units_for(row["features"], row["classes"], expected_bits(row["thresholds"], row["features"]))
        for row in facts
    ]
    return {
        f"{FIXED} units always": np.full(len(facts), log2(FIXED)),
        REACHED: np.log2(np.array(reached, dtype=float)),
    }
