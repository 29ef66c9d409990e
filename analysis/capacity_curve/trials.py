"""Trials of a squeezing experiment: a network per seed, squeezed by each criterion, each step scored."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from analysis.lab.criteria import criterion_of
from analysis.lab.runner import Runner
from analysis.lab.runs.directory import RunDirectory
from analysis.lab.runs.progress import OnProgress
from compression.criteria import Random
from compression.dropout import neuron_dropout
from compression.pruning import prune
from compression.squeezing import squeeze
from compression.training import TrainingSettings

if TYPE_CHECKING:
    from analysis.capacity_curve.config import Config


class IterativePruningTrials:
    """What all trials share: the runner, and the squeezes."""

    def __init__(self, config: "Config") -> None:
        self.config = config
        self.runner = Runner(config, layers=config.layers, cache_features=config.cache_features)
        self.prepare = self.runner.prepare
        self._rehearse()

    def steps(self) -> int:
        """Networks that one seed's trial keeps."""
        return (len(self.config.criterion) + 1) * (self.config.iterations + 1)

    def epochs(self) -> int:
        """Epochs of one seed's trial, for the progress bar."""
        config = self.config
        return config.epochs + (len(config.criterion) + 1) * config.iterations * config.retrain_epochs

    def _rehearse(self) -> None:
        """All squeezes in a row, so that an impossible amount is refused before the first training."""
        network = self.runner.example
        config = self.config
        with neuron_dropout(network, training_of(config, self.runner, 0, 1).neuron_dropout):
            pass  # refuses more neurons than there are
        for _ in range(config.iterations):
            network = prune(
                network,
                Random(),
                amount=config.amount,
                unit=config.unit,
                scope=config.scope,
                layers=self.runner.layers,
            ).model

    def trial(self, seed: int, folder: RunDirectory, on_progress: OnProgress) -> list[dict[str, Any]]:
        """All steps of all criteria and of the control, from one trained network."""
        config, runner = self.config, self.runner
        seed_dir = folder.path / f"seed-{seed}"
        on_progress(doing=f"seed {seed}: training")
        settings = training_of(config, runner, seed, config.epochs)
        base = runner.trained(seed, seed_dir / "trained.safetensors", settings, on_progress)
        squeezes = [
            partial(self._squeezed, base, name, seed, seed_dir, on_progress)
            for name in (*config.criterion, "control")
        ]
        return [row for rows in runner.side_by_side(squeezes) for row in rows]

    def _squeezed(
        self, base: nn.Module, name: str, seed: int, seed_dir: Path, on_progress: OnProgress
    ) -> list[dict[str, Any]]:
        """All steps of one criterion."""
        config, runner, rows = self.config, self.runner, []
        on_progress(doing=f"seed {seed}: {name}")
        again = training_of(config, runner, seed, config.retrain_epochs)
        steps = squeeze(
            base,
            criterion_of(name, config.center, seed),
            amount=config.amount,
            iterations=config.iterations,
            retrain=lambda model: runner.fit(model, again, on_progress),
            evaluate=runner.score,
            directory=seed_dir / name,
            identity=again,  # all else is what the run directory compares
            unit=config.unit,
            scope=config.scope,
            layers=runner.layers,
        )
        for step in steps:
            if step.resumed and step.index:
                on_progress(config.retrain_epochs)
            facts = {"seed": seed, "criterion": name, "step": step.index}
            amounts = {"requested": step.requested, "achieved": step.achieved, "density": step.density}
            rows.append(facts | amounts | dict(step.metrics))
        return rows


def training_of(config: "Config", runner: Runner, seed: int, epochs: int) -> TrainingSettings:
    """How the trials of these settings train."""
    dropout = {runner.layers[0]: config.neuron_dropout} if config.neuron_dropout else {}
    return replace(
        runner.training(seed, epochs), patience=config.patience, neuron_dropout=dropout,
        compile=config.compile,
    )  # fmt: skip
