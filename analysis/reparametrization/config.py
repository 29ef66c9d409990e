"""Settings of the reparametrization experiment; importing it costs no torch."""

from dataclasses import dataclass, replace

from analysis.lab.cli import at_least_one
from analysis.lab.settings import RunSettings
from analysis.sizing.config import DATASETS
from capacity.errors import InputError, unknown

CHANGES = {  # name -> what is done, and a short heading
    "reordered": ("units in another order", "order"),
    "layer-scaled": ("a layer times the factor, the next over it", "layer scaled"),
    "units-scaled": ("each unit by a factor of its own", "units scaled"),
    "split": ("each unit split in two halves", "split"),
    "silent": ("as many units added that nothing reads", "silent"),
    "dead": ("as many units added that never fire", "dead"),
    "identity": ("identity layers added", "identity"),
    "rotated": ("a layer in two, with a rotation between", "rotated"),
    "normed": ("batch norm added that changes nothing", "batch norm"),
    "norm-scaled": ("scale taken out again by batch norm", "norm scaled"),
}


@dataclass(frozen=True)
class Config(RunSettings):
    """Change trained networks in ways that leave their outputs as they are; which measures stay?"""

    datasets: tuple[str, ...] = ("digits", "clusters-10d")
    """Data sets by name, as in `sizing`: bundled with scikit-learn or generated."""
    depth: int = 2
    """Hidden layers."""
    width: int = 32
    """Units of each hidden layer (ReLU)."""
    train_epochs: int = 30
    """Epochs of training."""
    learning_rate: float = 0.05
    """Highest learning rate."""
    factor: float = 4.0
    """By how much layers are scaled; units by as much at most, up or down."""
    seeds: int = 5
    rows: int = 1_500
    """Rows of a generated data set."""


PRESETS = {"default": Config()}


def check(config: Config) -> None:
    """Raise InputError for settings that cannot be."""
    at_least_one(config, "seeds", "rows", "depth", "width", "train_epochs")
    for name in config.datasets:
        if name not in DATASETS:
            raise unknown("dataset", name, DATASETS)
    if not config.datasets or len(set(config.datasets)) < len(config.datasets):
        raise InputError(f"datasets must be different ones, one at least, found {list(config.datasets)}")
    if not 1 < config.factor <= 100:
        raise InputError(
            f"factor must be above 1, and at most 100, where rounding shows, found {config.factor}"
        )
    if config.rows < 100:
        raise InputError(f"rows must be at least 100: half is the test, found {config.rows}")


def smoke(config: Config) -> Config:
    """The settings of a quick pass."""
    return replace(config, datasets=("wine",), width=8, train_epochs=5, seeds=2, rows=200)
