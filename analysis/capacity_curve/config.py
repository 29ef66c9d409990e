"""Settings and presets of the squeezing experiment; importing it costs no torch."""

from dataclasses import dataclass, replace
from typing import Literal

from analysis.lab.cli import at_least_one
from analysis.lab.criteria import CRITERIA
from analysis.lab.settings import PruneSettings, RunnerSettings, RunSettings
from capacity.errors import InputError, unknown


@dataclass(frozen=True)
class Config(RunSettings, PruneSettings, RunnerSettings):
    """Train, test, measure the capacity, squeeze, retrain; again, for several criteria and seeds."""

    amount: int | float = 0.3
    """How much to squeeze each time: an int counts units, a float is the fraction of those still alive."""
    iterations: int = 6
    """How often to squeeze."""
    retrain_epochs: int = 10
    """Epochs of training after each squeeze."""
    compile: bool = False
    """Train through torch.compile, which pays off for large networks."""
    patience: int | None = None
    """Stop a training after this many epochs without a better validation error."""
    neuron_dropout: int = 0
    """Neurons of the first squeezed layer that each training batch silences at random."""
    cache_features: bool = False
    """Compute the frozen part of the network once and keep its output on disk."""
    preset: Literal["default", "paper"] = "default"
    """paper: report A at full size (VGG16 head on MNIST, six squeezes of 100 neurons)."""


PRESETS = {
    "default": Config(),
    "paper": Config(
        dataset="mnist", model="vgg16", amount=100, layers=("classifier.0",), neuron_dropout=100,
        epochs=10, retrain_epochs=10, learning_rate=0.01, pretrained=True, cache_features=True,
        preset="paper",
    ),
}  # fmt: skip


def check(config: Config) -> None:
    """Raise InputError for settings that cannot be."""
    at_least_one(config, "seeds", "epochs", "retrain_epochs", "batch_size", "image_size")
    if config.iterations < 0 or config.neuron_dropout < 0:
        raise InputError("iterations and neuron_dropout must not be negative")
    if not config.criterion:
        raise unknown("criterion", "", CRITERIA)


def smoke(config: Config) -> Config:
    """The settings of a quick pass."""
    small = min(config.limit or 256, 256)
    return replace(
        config, seeds=1, epochs=1, retrain_epochs=1, iterations=min(config.iterations, 2), limit=small
    )
