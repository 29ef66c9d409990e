"""Settings and presets of the compression experiment; importing it costs no torch."""

from dataclasses import dataclass, replace
from typing import Literal

from analysis.lab.cli import at_least_one
from analysis.lab.settings import RunnerSettings, RunSettings, TeacherSettings, ValidationSettings
from capacity.errors import InputError, unknown

Method = Literal["rate", "shared"]


METHODS: tuple[Method, ...] = ("rate", "shared")


LABELS = {
    "dense": "dense", "pruned": "pruned, single precision",
    "rate": "pruned, rounded by rate", "shared": "pruned, k-means code books",
}  # fmt: skip


@dataclass(frozen=True)
class Config(RunSettings, ValidationSettings, TeacherSettings, RunnerSettings):
    """Train a network, prune it to each density, give its weights few values, and write the file."""

    methods: tuple[Method, ...] = METHODS
    """rate: values on a grid, rounded where error and bits cost least; shared: k-means code books."""
    densities: tuple[float, ...] = (0.2, 0.05, 0.02)
    """Fractions of the weights to keep, descending."""
    criterion: Literal["l1", "energy-per-bit", "gauss-newton-per-bit"] = "gauss-newton-per-bit"
    """What to prune by: magnitude; squared magnitude, or how far outputs would move, squared, over the bits
    that a weight costs in the file."""
    penalty: float = 0.02
    """Of rate: squared error, in squares of the step, that a bit is worth."""
    relative_step: float = 0.7
    """Of rate: step of a tensor's grid in root mean squares of its non-zero weights."""
    bits: int = 3
    """Of shared: bits of the index into each tensor's code book."""
    epochs: int = 20
    prune_epochs: int = 20
    """Epochs of training while it is pruned, under the dense network as teacher."""
    prune_until: float = 0.6
    """Share of those epochs after which the density is reached."""
    code_epochs: int = 24
    """Epochs of training with few values, under the dense network as teacher."""
    code_learning_rate: float = 0.05
    """The same of training with few values."""
    preset: Literal[
        "default", "lenet5", "lenet5-long", "lenet5-small", "lenet5-certificate", "lenet300", "lenet300-long"
    ] = "default"
    """lenet5, lenet300: the networks of the published records on MNIST; lenet5-long, lenet5-small,
    lenet300-long: training on all training pictures but 1,000, the last two with ten seeds;
    lenet5-certificate: files so small that they guarantee an error."""


PRESETS = {
    "default": Config(),
    "lenet300": Config(
        preset="lenet300", dataset="mnist", model="lenet300", densities=(0.03, 0.015, 0.01),
        methods=("rate",), epochs=15, prune_epochs=25, code_epochs=10, shift=1, weight_decay=1e-4,
        criterion="energy-per-bit", code_learning_rate=0.02,
    ),
    "lenet300-long": Config(
        preset="lenet300-long", dataset="mnist", model="lenet300", densities=(0.0113,), methods=("rate",),
        seeds=10, epochs=15, prune_epochs=60, code_epochs=50, alpha=0.0, shift=1,
        weight_decay=1e-4, validation=1 / 60, criterion="energy-per-bit",
    ),
    "lenet5": Config(
        preset="lenet5", dataset="mnist", model="lenet5", densities=(0.016, 0.0083, 0.0042),
        methods=("rate",), epochs=10, prune_epochs=40, code_epochs=24, alpha=0.0, shift=1,
        mixed_precision="bf16", criterion="energy-per-bit", code_learning_rate=0.02,
    ),
    "lenet5-long": Config(
        preset="lenet5-long", dataset="mnist", model="lenet5", densities=(0.0082,),
        methods=("rate",), epochs=10, prune_epochs=80, code_epochs=48, alpha=0.0, shift=1,
        mixed_precision="bf16", validation=1 / 60, criterion="energy-per-bit", code_learning_rate=0.02,
    ),
    "lenet5-small": Config(
        preset="lenet5-small", dataset="mnist", model="lenet5", densities=(0.0077, 0.00335),
        methods=("rate",), relative_step=0.58, seeds=10, epochs=10, prune_epochs=20, prune_until=0.7,
        code_epochs=24, alpha=0.9, temperature=2.0, shift=1, mixed_precision="bf16", validation=1 / 60,
    ),
    "lenet5-certificate": Config(
        preset="lenet5-certificate", dataset="mnist", model="lenet5", densities=(0.003, 0.002, 0.0013),
        methods=("rate",), epochs=10, prune_epochs=40, code_epochs=24, alpha=0.0, shift=1,
        mixed_precision="bf16", criterion="energy-per-bit", code_learning_rate=0.02,
    ),
}  # fmt: skip


def check(config: Config) -> None:
    """Raise InputError for settings that cannot be."""
    from compression.distillation import DistillationLoss

    at_least_one(config, "seeds", "epochs", "prune_epochs", "code_epochs", "batch_size", "image_size")
    DistillationLoss(config.temperature, config.alpha)  # refuses what cannot be
    if not config.methods:
        raise unknown("method", "", METHODS)
    densities = config.densities
    if (
        not densities
        or any(not 0 < d < 1 for d in densities)
        or list(densities) != sorted(set(densities), reverse=True)
    ):
        raise InputError(f"densities must be descending fractions between 0 and 1, found {list(densities)}")
    if not 0 < config.prune_until <= 1:
        raise InputError(f"prune_until must be a share of the epochs, found {config.prune_until}")
    if config.penalty < 0 or not config.relative_step > 0:
        raise InputError("penalty must not be negative, and relative_step must be positive")
    if not 1 <= config.bits <= 12:
        raise InputError(f"bits must lie between 1 and 12, found {config.bits}")


def smoke(config: Config) -> Config:
    """The settings of a quick pass."""
    small = min(config.limit or 256, 256)
    return replace(
        config, seeds=1, epochs=1, prune_epochs=1, code_epochs=1, densities=config.densities[:1], limit=small
    )
