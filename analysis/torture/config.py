"""Settings of the torture; importing it costs no torch."""

from dataclasses import dataclass, replace
from typing import Literal

from analysis.lab.settings import OutputSettings

Part = Literal["kills", "starts", "full-disk", "files"]
Command = Literal[
    "capacity_curve", "pruning_curve", "distillation_table", "quantization_table", "compression_frontier",
    "comparison",
]  # fmt: skip


@dataclass(frozen=True)
class Config(OutputSettings):
    """Kill runs, start them twice, fill their disk, damage files; count what survives."""

    parts: tuple[Part, ...] = ("kills", "starts", "full-disk", "files")
    """What to do."""
    commands: tuple[Command, ...] = (
        "capacity_curve", "pruning_curve", "distillation_table", "quantization_table",
        "compression_frontier", "comparison",
    )  # fmt: skip
    """Whose quick pass is killed; capacity_curve's is started twice and runs out of disk."""
    kills: int = 20
    """Kills of each command with each of SIGKILL, SIGTERM and SIGINT, at random moments."""
    starts: int = 50
    """Pairs of processes that start in one folder at once."""
    writes: int = 200
    """The first writes of a run at each of which the disk is full once."""
    files: int = 100_000
    """Damaged files, shared among the formats."""
    seed: int = 0
    """Of the moments and the damages."""
    output: str = "runs/torture"
    """Folder for results.csv."""
    smoke: bool = False
    """Two of each kind, of one command."""


PRESETS = {"default": Config()}


def smoke(config: Config) -> Config:
    """The settings of a quick pass."""
    return replace(config, commands=config.commands[:1], kills=1, starts=2, writes=2, files=100)
