"""Settings and presets of the study of generalization; importing it costs no torch."""

from dataclasses import dataclass, replace
from math import prod
from typing import Literal

from analysis.lab.cli import at_least_one
from analysis.lab.settings import RunSettings
from analysis.sizing.config import DATASETS
from capacity.errors import InputError, unknown

BATCH = 64  # samples
FACTORS = ("dataset", "depth", "width", "epochs", "weight_decay", "label_noise")


@dataclass(frozen=True)
class Config(RunSettings):
    """Train dense networks that differ in six ways; which measure of them follows their generalization?"""

    datasets: tuple[str, ...] = ("digits", "clusters-10d")
    """Data sets by name, as in `sizing`: bundled with scikit-learn or generated."""
    depths: tuple[int, ...] = (1, 2)
    """Hidden layers."""
    widths: tuple[int, ...] = (8, 32)
    """Units of each hidden layer (ReLU)."""
    train_epochs: tuple[int, ...] = (10, 60)
    """Epochs of training."""
    weight_decays: tuple[float, ...] = (0.0, 0.01)
    """Weight decays."""
    label_noises: tuple[float, ...] = (0.0, 0.2)
    """Shares of the labels, of training and test alike, that are drawn anew."""
    learning_rate: float = 0.05
    """Highest learning rate."""
    seeds: int = 5
    rows: int = 1_500
    """Rows of a generated data set."""
    preset: Literal["default", "full"] = "default"
    """full: three data sets, three depths and widths, 216 networks of five seeds each."""

    @property
    def networks(self) -> int:
        """Networks that differ in their settings."""
        return prod(
            len(values)
            for values in (
                self.datasets, self.depths, self.widths, self.train_epochs, self.weight_decays,
                self.label_noises,
            )
        )  # fmt: skip


PRESETS = {
    "default": Config(),
    "full": Config(
        preset="full", datasets=("digits", "clusters-10d", "ten-classes"), depths=(1, 2, 3),
        widths=(8, 32, 128),
    ),
}  # fmt: skip


def check(config: Config) -> None:
    """Raise InputError for settings that cannot be."""
    at_least_one(config, "seeds", "rows")
    for name in config.datasets:
        if name not in DATASETS:
            raise unknown("dataset", name, DATASETS)
    for name in ("datasets", "depths", "widths", "train_epochs", "weight_decays", "label_noises"):
        values = getattr(config, name)
        if not values or len(set(values)) < len(values):
            raise InputError(f"{name} must be different values, one at least, found {list(values)}")
    for name in ("depths", "widths", "train_epochs"):
        if min(getattr(config, name)) < 1:
            raise InputError(f"{name} must be at least 1, found {list(getattr(config, name))}")
    if max(config.label_noises) > 1:
        raise InputError(f"label_noises must be shares up to 1, found {list(config.label_noises)}")
    if config.rows < 100:
        raise InputError(f"rows must be at least 100: half is the test, found {config.rows}")
    if config.networks < 8:
        raise InputError(f"{config.networks} networks are too few to rank measures by; 8 is the least")


def smoke(config: Config) -> Config:
    """The settings of a quick pass."""
    return replace(
        config, datasets=("wine",), depths=(1,), widths=(4, 16), train_epochs=(2, 8), seeds=2, rows=200
    )
