"""Settings and presets of the search for the smallest adequate width; importing it costs no torch."""

from dataclasses import dataclass, replace
from typing import Literal

from analysis.lab.cli import at_least_one
from analysis.lab.settings import ColumnsSettings, DataSettings, RunSettings
from capacity.errors import InputError


@dataclass(frozen=True)
class Config(RunSettings, ColumnsSettings, DataSettings):
    """Train one hidden layer of growing width; is the smallest adequate one what a pilot foretells?"""

    widths: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256)
    """Units of the one hidden layer (ReLU)."""
    epochs: int = 30
    """Epochs of training."""
    batch_size: int = 64
    """Samples in a batch."""
    learning_rate: float = 0.05
    """Highest learning rate; it warms up over the first epoch and anneals to zero."""
    weight_decay: float = 5e-4
    """Weight decay."""
    validation: float = 0.2
    """Share of the training samples that each seed holds out anew, to choose the width by."""
    seeds: int = 5
    """Trials for each width, each with its own validation samples, initial weights and order."""
    device: str = ""
    """cpu, cuda, cuda:1 or mps; by default the first GPU where there is one."""
    preset: Literal["default", "mnist"] = "default"
    """mnist: all of MNIST, 4 to 512 units (a quarter of an hour on one core)."""


PRESETS = {
    "default": Config(),
    "mnist": Config(
        preset="mnist", dataset="mnist", widths=(4, 8, 16, 32, 64, 128, 256, 512), epochs=10,
        batch_size=128,
    ),
}  # fmt: skip


def check(config: Config) -> None:
    """Raise InputError for settings that cannot be."""
    at_least_one(config, "seeds", "epochs", "batch_size", "image_size")
    if len(config.widths) < 2 or list(config.widths) != sorted(set(config.widths)) or config.widths[0] < 1:
        raise InputError(f"widths must be two or more numbers that grow, found {config.widths}")
    for name in ("learning_rate", "weight_decay"):
        if not 0 <= getattr(config, name) < float("inf"):
            raise InputError(f"{name} must be a number from 0 on, found {getattr(config, name)}")
    if not 0 < config.validation < 1:
        raise InputError(f"validation must be a fraction between 0 and 1, found {config.validation}")
    if config.limit is not None and config.limit < 50:
        raise InputError(f"limit must be at least 50 samples: the pilot splits them, found {config.limit}")


def smoke(config: Config) -> Config:
    """The settings of a quick pass."""
    small = min(config.limit or 256, 256)
    return replace(config, widths=(1, 4, 16), seeds=2, epochs=2, limit=small)
