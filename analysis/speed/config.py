"""Settings of the timings; importing it costs no torch."""

from dataclasses import dataclass
from typing import Literal, get_args

from analysis.lab.settings import OutputSettings

Group = Literal[
    "starting", "reports", "decoders", "needs", "training", "ensembles", "precision", "cached-heads",
    "pruning", "shrinking", "transformers", "integers", "runtimes", "files", "lossless", "peer-files",
    "peer-rates", "clusters", "processes",
]  # fmt: skip

GROUPS: tuple[Group, ...] = get_args(Group)
QUICK: tuple[Group, ...] = ("starting", "reports", "decoders", "needs", "ensembles")


@dataclass(frozen=True)
class Config(OutputSettings):
    """Time each job ours and the peer's way, interleaved, and print medians and their ratio."""

    data: str = "data"
    """Folder with torchvision's MNIST; rows that need it are skipped without it."""
    repeats: int = 5
    """Runs of each side; the median counts. Jobs of more than ten seconds run once."""
    nncodec: str = ""
    """Python of an environment in which NNCodec is installed, to compare sizes of files with."""
    pictures: str = ""
    """imagefolder:DIR of CIFAR-10, whose networks "peer-rates" trains for half an hour."""
    networks: str = ""
    """Folder that keeps the networks of "peer-rates": those that lie there are not trained again."""
    epochs: int = 0
    """Epochs of those; by default 5 on MNIST and 8 on CIFAR-10."""
    only: tuple[Group, ...] = QUICK
    """Only these groups of rows; by default those of a minute or two."""
    preset: Literal["default", "full"] = "default"
    """full: all groups of rows (twelve to seventeen minutes on two cores, at three repeats)."""
    smoke: bool = False
    """A quick pass with small sizes; the ratios mean nothing."""


PRESETS = {"default": Config(), "full": Config(preset="full", only=GROUPS)}
