"""Criteria of pruning by their names on the command line."""

from collections.abc import Iterable
from typing import Any

CRITERIA = ("l1", "l2", "reservoir", "random")
LABELS = {"l1": "L1", "l2": "L2", "reservoir": "reservoir sampling", "random": "random choice"}


def criterion_of(name: str, center: Any, seed: int, batches: Iterable[Any] = ()) -> Any:
    """A criterion by its name; None for the control. What sees data sees these batches."""
    from compression.calibration import GaussNewton
    from compression.criteria import L1, L2, EnergyPerBit, PerBit, Random, Reservoir

    made = {
        "l1": L1(center), "l2": L2(center), "reservoir": Reservoir(seed), "random": Random(seed),
        "control": None, "energy-per-bit": EnergyPerBit(),
        "gauss-newton-per-bit": PerBit(GaussNewton(batches)),
    }  # fmt: skip
    return made[name]
