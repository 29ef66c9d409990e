"""Settings of the torture; importing it costs no torch."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

from analysis.lab.settings import OutputSettings

Part = Literal["kills", "starts", "shares", "full-disk", "files", "folders"]
Command = Literal[
    "capacity_curve", "pruning_curve", "distillation_table", "quantization_table", "compression_frontier",
    "comparison", "description_length", "generalization_study", "memorization_bounds", "sizing",
    "adequate_size", "reparametrization", "certificate",
]  # fmt: skip
RESUMED: tuple[Command, ...] = get_args(Command)


@dataclass(frozen=True)
class Config(OutputSettings):
    """Kill runs, start them twice, fill their disk, damage files and folders; count what survives."""

    parts: tuple[Part, ...] = get_args(Part)
    """What to do."""
    commands: tuple[Command, ...] = RESUMED[:4]
    """Whose quick pass is killed; those with workers with two of them too. Folders are copies of a few of
    these; capacity_curve's is started twice and runs out of disk."""
    kills: int = 1
    """Kills of each command at random moments, by SIGKILL, SIGTERM and SIGINT in turn."""
    starts: int = 5
    """Pairs of processes that start in one folder at once."""
    shares: int = 2
    """Pairs of runs in two folders that share a feature cache."""
    writes: int = 15
    """The first writes of a run at each of which the disk is full once."""
    files: int = 3_000
    """Damaged files, shared among the formats."""
    folders: int = 10
    """Damaged run folders, each through notebook, report, questionnaire, reproduce and its command."""
    seed: int = 0
    """Of the moments and the damages."""
    preset: Literal["default", "full"] = "default"
    """full: 20 kills of each of all commands, 50 starts, 20 shares, 200 writes, 100,000 files and 500 folders
    (hours)."""
    output: str = "runs/torture"
    """Folder for results.csv."""
    smoke: bool = False
    """One of each kind, of one command."""


PRESETS = {
    "default": Config(),
    "full": Config(
        preset="full", commands=RESUMED, kills=20, starts=50, shares=20, writes=200, files=100_000,
        folders=500,
    ),
}  # fmt: skip


def smoke(config: Config) -> Config:
    """The settings of a quick pass."""
    return replace(
        config, commands=config.commands[:1], kills=1, starts=1, shares=1, writes=1, files=60, folders=1
    )
