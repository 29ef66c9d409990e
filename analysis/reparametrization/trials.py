"""Trials: networks of each data set, each measured as trained and after every change."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from analysis.generalization_study.trials import network, samples
from analysis.reparametrization.changes import WAYS, changed
from analysis.reparametrization.measures import measures
from analysis.sizing.tables import table
from capacity.columns import number
from capacity.errors import InputError
from compression.batches import TensorBatches
from compression.ensembles import fit_together
from compression.training import TrainingSettings

if TYPE_CHECKING:
    from analysis.reparametrization.config import Config

CLOSE = 1e-4  # of the largest output, by which rounding in single precision may move one


def measure_one(name: str, config: "Config") -> list[dict[str, Any]]:
    """The rows of one data set: for each seed one of the network as trained, and one of each change."""
    features, labels = table(name, config.rows)
    data = [samples(features, labels, 0.0, seed)[0] for seed in config.trial_seeds]
    classes = int(labels.max()) + 1
    trained = fit_together(
        [network(features.shape[1], config.depth, config.width, classes, s) for s in config.trial_seeds],
        [
            TensorBatches(*train, 64, shuffle=True, seed=seed)
            for train, seed in zip(data, config.trial_seeds, strict=True)
        ],
        settings=[
            TrainingSettings(
                epochs=config.train_epochs, learning_rate=config.learning_rate, warmup_epochs=1, seed=seed
            )
            for seed in config.trial_seeds
        ],
    )
    rows = []
    for seed, train, fitted in zip(config.trial_seeds, data, trained, strict=True):
        model: Any = fitted.model.eval()
        facts = {"dataset": name, "seed": seed}
        rows.append(facts | {"change": "none", "moved": 0.0} | measures(model, *train, seed=seed))
        for change in WAYS:
            other = changed(model, change, config.factor, seed)
            moved = largest_move(model, other, train[0])
            if not moved < CLOSE:
                raise InputError(
                    f"{name}, seed {seed}: outputs moved by {number(moved, '.1g')} of the largest "
                    f"when {change}; a smaller --factor rounds less"
                )
            rows.append(facts | {"change": change, "moved": moved} | measures(other, *train, seed=seed))
    return rows


def largest_move(model: nn.Module, other: nn.Module, inputs: Tensor) -> float:
    """By how much any output differs at most, in shares of the largest."""
    with torch.no_grad():
        before, after = model(inputs), other(inputs)
    return float((after - before).abs().max() / before.abs().max())
