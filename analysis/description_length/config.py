"""Settings and presets of the description length experiment; importing it costs no torch."""

from dataclasses import dataclass, replace
from typing import Literal

from analysis.compression_frontier.config import Config as CodingConfig
from analysis.compression_frontier.config import check as check_coding
from analysis.lab.cli import at_least_one
from analysis.lab.settings import RunnerSettings, RunSettings
from capacity.errors import InputError

Labels = Literal["true", "shuffled"]


@dataclass(frozen=True)
class Config(RunSettings, RunnerSettings):
    """Tell the labels with files of a network that is pruned step by step; the same with shuffled labels."""

    labels: tuple[Labels, ...] = ("true", "shuffled")
    """The labels as they are; and shuffled among the samples, from which nothing can be learned."""
    densities: tuple[float, ...] = (0.005, 0.003, 0.0015)
    """Fractions of the weights to keep, descending."""
    epochs: int = 30
    prune_epochs: int = 30
    """Epochs of training while it is pruned."""
    code_epochs: int = 12
    """Epochs of training with few values."""
    first_block: int = 64
    """Rows of the prequential code's first block; each other block is as long as all before."""
    validation: float = 0.1
    """Share of the training samples held out; their labels are not told."""
    preset: Literal["default", "lenet300", "lenet5"] = "default"
    """MNIST, two small files a seed. lenet300: labels as they are, three seeds (a quarter of an hour on one
    core); lenet5: shuffled ones too, two seeds (some hours on one core)."""


PRESETS = {
    "default": Config(),
    "lenet300": Config(
        preset="lenet300", labels=("true",), dataset="mnist", model="lenet300", densities=(0.01, 0.004),
        epochs=8, prune_epochs=20, code_epochs=10, weight_decay=1e-4, first_block=250,
    ),
    "lenet5": Config(
        preset="lenet5", dataset="mnist", model="lenet5", densities=(0.0083, 0.0042), epochs=8,
        prune_epochs=20, code_epochs=10, first_block=250, seeds=2,
    ),
}  # fmt: skip


def coding(config: Config) -> CodingConfig:
    """The settings under which a network becomes files: weights rounded by rate, hard labels only."""
    shared = {name: getattr(config, name) for name in RunnerSettings.__dataclass_fields__}
    return CodingConfig(
        **shared, methods=("rate",), densities=config.densities, prune_epochs=config.prune_epochs,
        code_epochs=config.code_epochs, validation=config.validation, alpha=0.0, seeds=config.seeds,
        seed=config.seed, criterion="energy-per-bit", code_learning_rate=0.02,
    )  # fmt: skip


def check(config: Config) -> None:
    """Raise InputError for settings that cannot be."""
    at_least_one(config, "seeds", "epochs", "prune_epochs", "code_epochs", "batch_size", "image_size")
    check_coding(coding(config))
    if not config.labels or len(set(config.labels)) < len(config.labels):
        raise InputError(f"labels must be 'true', 'shuffled' or both, found {list(config.labels)}")
    if config.first_block < 20:
        raise InputError(f"first_block must be at least 20 rows, found {config.first_block}")


def smoke(config: Config) -> Config:
    """The settings of a quick pass."""
    small = min(config.limit or 256, 256)
    return replace(
        config, seeds=1, epochs=2, prune_epochs=1, code_epochs=1, densities=config.densities[:1], limit=small
    )
