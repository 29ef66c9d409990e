"""Settings and presets of the guarantees; importing it costs no torch."""

from dataclasses import dataclass, replace
from typing import Literal

import tyro

from analysis.lab.cli import at_least_one
from analysis.lab.settings import DataSettings, RunSettings
from capacity.errors import InputError

COMMAND = "compression_frontier"


@dataclass(frozen=True)
class Config(RunSettings, DataSettings):
    """Find the small network whose file guarantees the least error on new data.

    With a run folder of compression_frontier: bound the error of each of its files by its bytes, and write
    RUN/certificate.csv, .tex and .pdf.
    """

    run: tyro.conf.Positional[str] = ""
    """A run folder of compression_frontier; without one, small networks are searched."""
    confidence: float = 0.95
    """Probability over the draw of the training samples that the bounds hold."""
    choices: int = 1
    """Alternatives among which the training samples decided before this run; its own come on top."""
    networks: tuple[str, ...] = ("2-3", "3-4")
    """Networks to choose among: channels of convolutions over the fixed features, of 3 x 3 and of 3 x 3 at
    every other place; where three are given, of 1 x 1 before them."""
    fineness: tuple[float, ...] = (0.6,)
    """Root mean square of the weights in steps of their grid before they are rounded, to choose among."""
    epochs: int = 60
    """Epochs of training; for a quarter of them weights are real, then more and more are rounded."""
    batch_size: int = 50
    """Samples in a batch."""
    learning_rate: float = 0.02
    """Step of Adam at first, in steps of the grid; it falls to a tenth."""
    seeds: int = 1
    preset: Literal["default", "mnist", "cifar10"] = "default"
    """mnist, cifar10: networks for these pictures (some minutes on one core); cifar10 reads its pictures from
    the folder cifar10-jpeg, as JPEG."""


PRESETS = {
    "default": Config(),
    "mnist": Config(
        preset="mnist", dataset="mnist", networks=("5-6", "6-8"), fineness=(0.5, 0.65), epochs=40,
        batch_size=250, choices=64,
    ),
    "cifar10": Config(
        preset="cifar10", dataset="imagefolder:cifar10-jpeg", networks=("12-8-8",), fineness=(0.5,),
        epochs=45, batch_size=250, choices=64,
    ),
}  # fmt: skip


def channels_of(name: str) -> tuple[int, ...]:
    """The channels of a network's convolutions, one to three.

    Raises InputError for a name of another form.

    >>> channels_of("6-8")
    (6, 8)
    """
    parts = name.split("-")
    channels = tuple(int(part) if part.isdecimal() and len(part) < 4 else 0 for part in parts)
    if min(channels) < 1 or len(channels) > 3:
        raise InputError(
            f"a network is written as 6-8, the channels of one to three convolutions; found {name!r}"
        )
    return channels


def check(config: Config) -> None:
    """Raise InputError for settings that cannot be."""
    at_least_one(config, "seeds", "epochs", "batch_size", "choices", "image_size")
    if not 0 < config.confidence < 1:
        raise InputError(f"confidence must lie between 0 and 1, such as 0.95, found {config.confidence}")
    for name, given in (("networks", config.networks), ("fineness", config.fineness)):
        if not given or len(set(given)) < len(given):
            raise InputError(f"{name} must be different ones, at least one, found {list(given)}")
    for network in config.networks:
        channels_of(network)
    if not all(0.1 <= value <= 100 for value in config.fineness):
        raise InputError(f"fineness must lie between 0.1 and 100 steps, found {list(config.fineness)}")


def smoke(config: Config) -> Config:
    """The settings of a quick pass."""
    return replace(
        config, seeds=1, epochs=2, networks=config.networks[:1], fineness=config.fineness[:1],
        batch_size=min(config.batch_size, 32), limit=min(config.limit or 256, 256),
    )  # fmt: skip


def candidates(config: Config) -> dict[str, tuple[str, float, int]]:
    """Name of each candidate, and its network, fineness and seed: all that a run chooses among."""
    return {
        f"{network}-{fineness:g}-seed{seed}": (network, fineness, seed)
        for network in config.networks
        for fineness in config.fineness
        for seed in config.trial_seeds
    }


def choices_of(config: Config) -> int:
    """Alternatives that a run's guarantee pays for: its candidates, for each of what was decided before.

    >>> choices_of(PRESETS["mnist"])
    256
    """
    return config.choices * len(candidates(config))
