"""Trials of a squeezing experiment: a network per seed, squeezed by each criterion, each step scored."""

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from analysis.lab.datasets import DataSet, load
from analysis.lab.features import cached_features, split_frozen
from analysis.lab.models import create
from analysis.lab.progress import Advance
from analysis.lab.records import RunFolder
from capacity import InputError, generalization, label_entropy, measure
from compression.batches import CropAndFlip
from compression.checkpoints import load_model, save_model
from compression.criteria import L1, L2, Random, Reservoir
from compression.dropout import neuron_dropout
from compression.masks import prunable
from compression.pruning import prune
from compression.squeezing import squeeze
from compression.training import Training, evaluate, fit

if TYPE_CHECKING:
    from analysis.capacity_curve import Config


class Trials:
    """What all trials share: the data, and how to train and score."""

    def __init__(self, config: "Config") -> None:
        self.config = config
        data = load(config.dataset, data=config.data, image_size=config.image_size)
        if config.limit is not None:
            data = data.map(lambda split: split.take(slice(0, config.limit)))
        self.data: DataSet = data
        self.label_bits = label_entropy(data.test.labels)
        self.picture_size = data.input_size
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with torch.random.fork_rng():
            torch.manual_seed(0)  # the frozen part is the same in every trial
            network = create(
                config.model,
                input_size=data.input_size,
                classes=len(data.classes),
                pretrained=config.pretrained,
            )
        measure(network, data.input_size)  # refuses a network that cannot take this data
        self.frozen: nn.Module | None = None
        if config.cache_features:
            self.frozen, network = split_frozen(network)
        self.layers = list(prunable(network, config.layers or None))
        if not self.layers:
            raise InputError(f"{config.model} has no layer to squeeze besides its output layer")
        self.dropout = {self.layers[0]: config.neuron_dropout} if config.neuron_dropout else {}
        self._rehearse(network)

    def _rehearse(self, network: nn.Module) -> None:
        """All squeezes in a row, so that an impossible amount is refused before the first training."""
        with neuron_dropout(network, self.dropout):
            pass  # refuses more neurons than there are

        config = self.config
        for _ in range(config.iterations):
            network = prune(
                network,
                Random(),
                amount=config.amount,
                unit=config.unit,
                scope=config.scope,
                layers=self.layers,
            ).model

    def prepare(self, folder: RunFolder, advance: Advance) -> None:
        """Replace pictures by cached features where the network's frozen part is to run only once."""
        if self.frozen is not None:
            advance(doing="features of the frozen part")
            self.data = cached_features(self.frozen, self.data, folder.path.parent / "features")
        else:
            self.data = self.data.map(lambda split: split.to(self.device))

    def trial(self, seed: int, folder: RunFolder, advance: Advance) -> list[dict[str, Any]]:
        """All steps of all criteria and of the control, from one trained network."""
        config, rows = self.config, []
        home = folder.path / f"seed-{seed}"
        advance(doing=f"seed {seed}: training")
        base = self._trained(seed, home / "trained.safetensors", advance)
        for name in (*config.criterion, "control"):
            advance(doing=f"seed {seed}: {name}")
            steps = squeeze(
                base,
                criterion_of(name, config, seed),
                amount=config.amount,
                iterations=config.iterations,
                retrain=lambda model: self._fit(model, seed, config.retrain_epochs, advance),
                evaluate=self._score,
                directory=home / name,
                unit=config.unit,
                scope=config.scope,
                layers=self.layers,
            )
            for step in steps:
                if step.resumed and step.index:
                    advance(config.retrain_epochs)
                facts = {"seed": seed, "criterion": name, "step": step.index}
                amounts = {"requested": step.requested, "achieved": step.achieved, "density": step.density}
                rows.append(facts | amounts | dict(step.metrics))
        return rows

    def _network(self, seed: int) -> nn.Module:
        """A fresh network of this seed; where features are cached, its head."""
        config = self.config
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = create(
                config.model,
                input_size=self.picture_size,
                classes=len(self.data.classes),
                pretrained=config.pretrained,
            )
        if self.frozen is not None:
            _, network = split_frozen(network)
        return network.to(self.device)

    def _trained(self, seed: int, path: Any, advance: Advance) -> nn.Module:
        """The network of this seed trained before any squeeze; from disk where that was done."""
        network = self._network(seed)
        if path.exists():
            advance(self.config.epochs)
            return load_model(network, path).eval()
        trained = self._fit(network, seed, self.config.epochs, advance)
        save_model(trained, path)
        return trained

    def _fit(self, model: nn.Module, seed: int, epochs: int, advance: Advance) -> nn.Module:
        config = self.config
        augment = CropAndFlip() if config.augment else None
        batches = self.data.train.batches(config.batch_size, shuffle=True, augment=augment, seed=seed)
        fitted = fit(
            model,
            batches,
            settings=self._settings(seed, epochs),
            validation=self.data.validation.batches(1000) if config.patience is not None else None,
            progress=lambda epoch, epochs: advance(1),
        )
        advance(epochs - len(fitted.history))
        return fitted.model

    def _settings(self, seed: int, epochs: int) -> Training:
        config = self.config
        return Training(
            epochs=epochs, learning_rate=config.learning_rate, optimizer=config.optimizer,
            weight_decay=config.weight_decay, warmup_epochs=min(1.0, epochs / 2), patience=config.patience,
            neuron_dropout=self.dropout, seed=seed,
        )  # fmt: skip

    def _score(self, model: nn.Module) -> dict[str, Any]:
        """Everything measured at a step; the test split is touched here, once."""
        config = self.config
        validation = evaluate(model, self.data.validation.batches(1000))
        test = evaluate(model, self.data.test.batches(1000))
        report = measure(
            model, self.data.input_size, convention=config.convention, scope="trainable", effective=True
        )
        used = generalization(
            report, correct=test.correct, total=test.total, label_bits=self.label_bits, classes=test.classes
        )
        return test.to_dict() | {
            "validation_top1_error": validation.top1_error,
            "capacity_bits": report.capacity_bits,
            "live_parameters": report.parameters,
            "total_parameters": report.total_parameters,
            "points_per_bit": used.ratio,
            "bits_per_bit": used.bits_per_bit,
            "convention": report.convention,
        }


def criterion_of(name: str, config: "Config", seed: int) -> Any:
    made = {
        "l1": L1(config.center), "l2": L2(config.center),
        "reservoir": Reservoir(seed), "random": Random(seed), "control": None,
    }  # fmt: skip
    return made[name]
