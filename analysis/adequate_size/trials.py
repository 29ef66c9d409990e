"""Trials: what the pilot foretells for the data, and how networks of each width do on them."""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from analysis.lab.data.datasets import DataSet, load
from analysis.lab.data.splits import Split, held_out
from capacity import InputError, pilot
from capacity.seeding import seed_generators
from compression.ensembles import fit_together
from compression.evaluation import evaluate
from compression.processes import own_device, use_device
from compression.training import TrainingSettings

if TYPE_CHECKING:
    from analysis.adequate_size.config import Config


class WidthTrials:
    """What all widths share: the data, the splits that each seed draws, and the pilot."""

    def __init__(self, config: "Config") -> None:
        self.config = config
        if config.device:
            use_device(config.device)
        self.data = read(config)

    def steps(self) -> dict[str, Callable[[], list[dict[str, Any]]]]:
        """What computes the rows of each width."""
        return {str(width): partial(self.measured, width) for width in self.config.widths}

    @cached_property
    def facts(self) -> dict[str, Any]:
        """Of the data: their size, and the pilot's errors on at most 1,500 of the training samples."""
        train = self.data.train
        features = torch.as_tensor(train.inputs).flatten(1)
        pilots = pilot(features, train.labels, seed=self.config.seed)
        return {
            "dataset": self.data.name, "samples": len(train), "test_samples": len(self.data.test),
            "features": features.shape[1], "classes": len(self.data.classes), "pilot_rows": pilots.rows,
            "pilot_small_error": pilots.small_error, "pilot_large_error": pilots.large_error,
        }  # fmt: skip

    def measured(self, width: int) -> list[dict[str, Any]]:
        """A row per seed: the errors of a network of this width."""
        device, config = own_device(), self.config
        splits = [self._split(seed) for seed in config.trial_seeds]
        trained = fit_together(
            [self._network(width, seed) for seed in config.trial_seeds],
            [
                train.to(device).batches(config.batch_size, shuffle=True, seed=seed)
                for seed, (train, _) in zip(config.trial_seeds, splits, strict=True)
            ],
            settings=[self._settings(seed) for seed in config.trial_seeds],
        )
        rows = []
        for seed, (train, validation), fitted in zip(config.trial_seeds, splits, trained, strict=True):
            parts = {"validation": validation, "test": self.data.test, "training": train}
            errors = {
                f"{name}_error": evaluate(fitted.model, part.to(device).batches(1000)).top1_error
                for name, part in parts.items()
            }
            rows.append(self.facts | {"width": width, "seed": seed} | errors)
        return rows

    def _split(self, seed: int) -> tuple[Split, Split]:
        return held_out(self.data.train, self.config.validation, seed, self.data.name)

    def _network(self, width: int, seed: int) -> nn.Module:
        with torch.random.fork_rng():
            seed_generators(seed)
            network = nn.Sequential(
                nn.Flatten(), nn.Linear(prod(self.data.shape), width), nn.ReLU(),
                nn.Linear(width, len(self.data.classes)),
            )  # fmt: skip
        return network.to(own_device())

    def _settings(self, seed: int) -> TrainingSettings:
        config = self.config
        return TrainingSettings(
            epochs=config.epochs, learning_rate=config.learning_rate, weight_decay=config.weight_decay,
            warmup_epochs=min(1.0, config.epochs / 2), seed=seed,
        )  # fmt: skip


def read(config: "Config") -> DataSet:
    """The data; what is held out for validation is training samples too, of which each seed holds out some.

    Raises InputError for token ids, which a dense layer takes for amounts.
    """
    data = load(
        config.dataset, data=config.data, image_size=config.image_size, validation=config.validation,
        columns=config,
    )  # fmt: skip
    parts = (data.train, data.validation)
    inputs, labels = (
        torch.cat([torch.as_tensor(part) for part in both])
        for both in ([part.inputs for part in parts], [part.labels for part in parts])
    )
    if inputs.dtype == torch.int64:
        raise InputError(f"{config.dataset} holds token ids, which one hidden layer takes for amounts")
    joined = replace(data.train, inputs=inputs, labels=labels)
    return replace(data, train=joined).map(lambda split: split.take(slice(0, config.limit)))
