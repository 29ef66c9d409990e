"""Trials of a squeezing experiment: a network per seed, squeezed by each criterion, each step scored."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from analysis.lab.bench import Bench, criterion_of
from analysis.lab.progress import Advance
from analysis.lab.records import RunFolder
from compression.criteria import Random
from compression.dropout import neuron_dropout
from compression.pruning import prune
from compression.squeezing import squeeze
from compression.training import Training

if TYPE_CHECKING:
    from analysis.capacity_curve import Config


class Trials:
    """What all trials share: the bench, and the squeezes."""

    def __init__(self, config: "Config") -> None:
        self.config = config
        self.bench = Bench(config, layers=config.layers, cache_features=config.cache_features)
        self.prepare = self.bench.prepare
        self._rehearse()

    def epochs(self) -> int:
        """Epochs of one seed's trial, for the progress bar."""
        config = self.config
        return config.epochs + (len(config.criterion) + 1) * config.iterations * config.retrain_epochs

    def _rehearse(self) -> None:
        """All squeezes in a row, so that an impossible amount is refused before the first training."""
        network = self.bench.example
        config = self.config
        with neuron_dropout(network, training_of(config, self.bench, 0, 1).neuron_dropout):
            pass  # refuses more neurons than there are
        for _ in range(config.iterations):
            network = prune(
                network,
                Random(),
                amount=config.amount,
                unit=config.unit,
                scope=config.scope,
                layers=self.bench.layers,
            ).model

    def trial(self, seed: int, folder: RunFolder, advance: Advance) -> list[dict[str, Any]]:
        """All steps of all criteria and of the control, from one trained network."""
        config, bench, rows = self.config, self.bench, []
        home = folder.path / f"seed-{seed}"
        advance(doing=f"seed {seed}: training")
        settings = training_of(config, bench, seed, config.epochs)
        base = bench.trained(seed, home / "trained.safetensors", settings, advance)
        again = training_of(config, bench, seed, config.retrain_epochs)
        for name in (*config.criterion, "control"):
            advance(doing=f"seed {seed}: {name}")
            steps = squeeze(
                base,
                criterion_of(name, config.center, seed),
                amount=config.amount,
                iterations=config.iterations,
                retrain=lambda model: bench.fit(model, again, advance),
                evaluate=bench.score,
                directory=home / name,
                unit=config.unit,
                scope=config.scope,
                layers=bench.layers,
            )
            for step in steps:
                if step.resumed and step.index:
                    advance(config.retrain_epochs)
                facts = {"seed": seed, "criterion": name, "step": step.index}
                amounts = {"requested": step.requested, "achieved": step.achieved, "density": step.density}
                rows.append(facts | amounts | dict(step.metrics))
        return rows


def training_of(config: "Config", bench: Bench, seed: int, epochs: int) -> Training:
    """How the trials of these settings train."""
    dropout = {bench.layers[0]: config.neuron_dropout} if config.neuron_dropout else {}
    return replace(
        bench.training(seed, epochs), optimizer=config.optimizer, patience=config.patience,
        neuron_dropout=dropout, compile=config.compile,
    )  # fmt: skip
