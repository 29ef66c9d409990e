"""Settings and presets of the search for stored labels; importing it costs no torch."""

from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

from analysis.lab.cli import at_least_one
from analysis.lab.settings import RunSettings
from capacity.errors import InputError

FAMILIES = {
    "dense": "hidden layers x units, ReLU, 16 inputs",
    "conv": "convolutions x channels, ReLU, and a dense layer, on 8 x 8 pictures",
    "residual": "blocks x units, x + W relu(V x), 16 inputs",
    "recurrent": "kind-units over 8 steps of 2 inputs",
    "transformer": "layers x units, 2 heads, over 8 positions of 2 inputs",
}
ALL = (
    *(f"dense-{depth}x{width}" for depth, width in product((1, 2, 3, 4), (2, 4, 8, 16, 24))),
    "conv-1x2", "conv-1x4", "conv-1x8", "conv-1x12", "conv-2x2", "conv-2x4", "conv-3x2",
    *(f"residual-{depth}x{width}" for depth, width in product((1, 2, 3), (2, 4, 8, 16))),
    "residual-4x2", "residual-4x4",
    *(f"recurrent-{kind}-{width}" for kind, width in product(("rnn", "gru", "lstm"), (2, 4, 8, 12))),
    *(f"transformer-{depth}x{width}" for depth, width in product((1, 2, 3), (4, 8))),
    "transformer-1x12",
)  # fmt: skip
FEW = (
    "dense-1x8", "dense-2x4", "conv-1x2", "conv-2x2", "residual-1x4", "recurrent-rnn-2", "transformer-1x4",
)  # fmt: skip


@dataclass(frozen=True)
class Config(RunSettings):
    """Train networks of five families on random labels: how many bits before the first miss?"""

    networks: tuple[str, ...] = FEW
    """FAMILY-SIZES: dense-2x8, conv-1x4, residual-3x16, recurrent-lstm-8, transformer-1x12."""
    classes: tuple[int, ...] = (2, 10)
    """Numbers of classes that labels are drawn from."""
    labelings: int = 2
    """Labelings that must all be stored, with points of their own, for a number of points to count."""
    restarts: int = 2
    """Starts for each labeling before it counts as missed."""
    steps: int = 1_500
    """Steps of Adam over all points, annealed to zero."""
    learning_rate: float = 0.02
    """Learning rate of the first step."""
    growth: float = 1.25
    """Factor from one number of points to the next."""
    seeds: int = 1
    """Kept at 1: labelings repeat the search."""
    preset: Literal["default", "full"] = "default"
    """full: 60 networks of two and of ten classes (an hour or two)."""


PRESETS = {"default": Config(), "full": Config(preset="full", networks=ALL, steps=2_000)}


def parts_of(name: str) -> tuple[str, str, int, int]:
    """Family, kind of cell, depth and width of a network.

    Raises InputError for a name of another form.

    >>> parts_of("dense-2x8"), parts_of("recurrent-lstm-4")
    (('dense', '', 2, 8), ('recurrent', 'lstm', 1, 4))
    """
    family, _, rest = name.partition("-")
    kind, _, width = rest.partition("-") if family == "recurrent" else ("", "", rest)
    depth, _, units = width.partition("x") if family != "recurrent" else ("1", "", width)
    known = family in FAMILIES and (family != "recurrent" or kind in ("rnn", "gru", "lstm"))
    sizes = [int(part) if part.isdecimal() and len(part) < 6 else 0 for part in (depth, units)]
    if not known or min(sizes) < 1:
        raise InputError(
            f"a network is written as dense-2x8, conv-1x4, residual-3x16, recurrent-lstm-8 (or rnn, gru) or "
            f"transformer-1x12; found {name!r}"
        )
    return family, kind, sizes[0], sizes[1]


def check(config: Config) -> None:
    """Raise InputError for settings that cannot be."""
    at_least_one(config, "labelings", "restarts", "steps", "seeds")
    if not config.networks or len(set(config.networks)) < len(config.networks):
        raise InputError(f"networks must be different ones, one at least, found {list(config.networks)}")
    for name in config.networks:
        family, _, _, width = parts_of(name)
        if family == "transformer" and width % 2:
            raise InputError(f"{name}: two heads need an even number of units")
    if not config.classes or min(config.classes) < 2 or len(set(config.classes)) < len(config.classes):
        raise InputError(f"classes must be different numbers from 2 on, found {list(config.classes)}")
    if not 1.01 <= config.growth <= 4:
        raise InputError(f"growth must lie between 1.01 and 4, found {config.growth}")
    if config.seeds != 1:
        raise InputError(f"seeds must be 1: --labelings repeats a search, found {config.seeds}")


def smoke(config: Config) -> Config:
    """The settings of a quick pass."""
    return replace(
        config,
        networks=("dense-1x2", "conv-1x2"),
        classes=(2,),
        labelings=1,
        restarts=1,
        steps=100,
        growth=2.0,
    )
