"""Settings and presets of the sizing experiment; importing it costs no torch."""

from dataclasses import dataclass, replace
from typing import Literal

from analysis.lab.cli import at_least_one
from analysis.lab.settings import RunSettings
from capacity.errors import InputError, unknown

BUNDLED = (
    "digits", "digits-odd", "digits-half", "digits-3-8", "digits-shuffled", "wine", "breast-cancer", "iris",
    "diabetes",
)  # fmt: skip
GENERATED = (
    "moons", "moons-noisy", "circles", "circles-close", "gaussian-2d", "gaussian-10d", "hastie", "linear-20d",
    "clusters-5d", "clusters-10d", "clusters-noisy", "ten-classes", "blobs-5", "blobs-20", "friedman-1",
    "friedman-2", "friedman-3", "swiss-roll",
)  # fmt: skip
WRITTEN = (
    "parity-2", "parity-3", "parity-4", "spiral", "three-spirals", "checkerboard", "waves", "majority",
    "random-2", "random-10",
)  # fmt: skip
DATASETS = BUNDLED + GENERATED + WRITTEN
MOST_FEATURES, MOST_CLASSES = 64, 20  # of these data sets
FEW = (
    "digits", "wine", "breast-cancer", "iris", "moons", "circles", "gaussian-10d", "clusters-10d", "parity-2",
    "parity-3", "spiral", "random-2",
)  # fmt: skip


@dataclass(frozen=True)
class Config(RunSettings):
    """Train networks of growing width on many data sets; which number of the data foretells the width?"""

    datasets: tuple[str, ...] = FEW
    """Data sets by name; all are bundled with scikit-learn or generated, none is downloaded."""
    widths: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128)
    """Units of the one hidden layer (ReLU)."""
    seeds: int = 3
    """Trials for each data set and width, each with its own split and initial weights."""
    steps: int = 300
    """Steps of Adam over all training rows; the step that is best on validation counts."""
    learning_rate: float = 0.02
    """Learning rate at the first step; it anneals to zero."""
    rows: int = 1_000
    """Rows of a generated data set."""
    preset: Literal["default", "full"] = "default"
    """full: all data sets, widths up to 256, five seeds (an hour on a busy core)."""


PRESETS = {
    "default": Config(),
    "full": Config(
        preset="full", datasets=DATASETS, widths=(1, 2, 4, 8, 16, 32, 64, 128, 256), seeds=5, steps=600,
        rows=1_500,
    ),
}  # fmt: skip


def check(config: Config) -> None:
    """Raise InputError for settings that cannot be."""
    at_least_one(config, "seeds", "steps", "rows")
    for name in config.datasets:
        if name not in DATASETS:
            raise unknown("dataset", name, DATASETS)
    if len(set(config.datasets)) < len(config.datasets) or len(config.datasets) < 4:
        raise InputError("datasets must be at least 4 different ones: each is foretold from the others")
    if len(config.widths) < 2 or list(config.widths) != sorted(set(config.widths)) or config.widths[0] < 1:
        raise InputError(f"widths must be two or more numbers that grow, found {config.widths}")
    if config.rows < 100:
        raise InputError(
            f"rows must be at least 100: a fifth each is validation and test, found {config.rows}"
        )


def smoke(config: Config) -> Config:
    """The settings of a quick pass."""
    few = ("wine", "iris", "moons", "parity-2", "random-2")
    return replace(config, datasets=few, widths=(1, 4, 16), seeds=2, steps=60, rows=200)
