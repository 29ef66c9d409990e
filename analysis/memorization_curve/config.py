"""Settings of the memorizing experiment; importing it costs no torch."""

from dataclasses import dataclass, replace

from analysis.lab.settings import OutputSettings


@dataclass(frozen=True)
class Config(OutputSettings):
    """Train perceptrons and small networks on random labels of random points."""

    networks: tuple[str, ...] = ("3-1", "6-1", "11-1", "2-2-1", "4-3-1", "3-3-3-1")
    """Widths from inputs to the one output; two numbers make a perceptron without bias (K weights)."""
    ratios: tuple[float, ...] = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 2.75, 3.0)
    """Numbers of points N as multiples of the capacity."""
    trials: int = 200
    """Random labelings for each perceptron and N."""
    network_trials: int = 40
    """Random labelings for each deeper network and N."""
    restarts: int = 3
    """Further starts for labelings that were not memorized."""
    seed: int = 0
    """Seed of points, labels and initial weights."""
    output: str = ""
    """Run folder; by default runs/memorization_curve-HASH, resumed if it exists."""
    smoke: bool = False
    """A quick pass: two small networks, few labelings."""
    fresh: bool = False
    """Start over, whatever the run folder holds."""


def smoke(config: Config) -> Config:
    return replace(
        config, networks=("3-1", "2-2-1"), trials=20, network_trials=4, restarts=0, ratios=(0.5, 1.0, 2.0)
    )
