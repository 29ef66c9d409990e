"""Trials of the study: networks of one size trained together, each measured and scored."""

from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from analysis.generalization_study.config import BATCH
from analysis.generalization_study.measures import measures
from analysis.sizing.tables import table
from capacity.seeding import seed_generators
from compression.batches import TensorBatches
from compression.ensembles import fit_together
from compression.training import TrainingSettings

if TYPE_CHECKING:
    from analysis.generalization_study.config import Config

Cell = tuple[str, int, int, int]  # data set, depth, width, epochs: what is trained together
Samples = tuple[Tensor, Tensor]


def measure_cell(cell: Cell, config: "Config") -> list[dict[str, Any]]:
    """The rows of all weight decays, label noises and seeds of one size, data set and length of training."""
    name, depth, width, epochs = cell
    features, labels = table(name, config.rows)
    cases = list(product(config.weight_decays, config.label_noises, config.trial_seeds))
    data = [samples(features, labels, noise, seed) for _, noise, seed in cases]
    starts = [network(features.shape[1], depth, width, int(labels.max()) + 1, seed) for *_, seed in cases]
    trained = fit_together(
        starts,
        [
            TensorBatches(*train, BATCH, shuffle=True, seed=seed)
            for (train, _), (*_, seed) in zip(data, cases, strict=True)
        ],
        settings=[
            TrainingSettings(
                epochs=epochs, learning_rate=config.learning_rate, weight_decay=decay, warmup_epochs=1,
                seed=seed,
            )
            for decay, _, seed in cases
        ],
    )  # fmt: skip
    rows = []
    for (decay, noise, seed), (train, test), start, fitted in zip(cases, data, starts, trained, strict=True):
        model: Any = fitted.model
        facts = {"dataset": name, "depth": depth, "width": width, "epochs": epochs}
        errors = {"training_error": error_of(model, train), "test_error": error_of(model, test)}
        rows.append(
            facts
            | {"weight_decay": decay, "label_noise": noise, "seed": seed, "samples": len(train[1])}
            | errors
            | {"gap": errors["test_error"] - errors["training_error"]}
            | measures(model, start, *train, seed=seed)
        )
    return rows


def samples(features: Any, labels: Any, noise: float, seed: int) -> tuple[Samples, Samples]:
    """Training and test samples of a seed, half of the rows each, standardized by the training ones.

    The same share of the labels of both is drawn anew, so that both are samples of one distribution.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    train, test = order[: len(order) // 2], order[len(order) // 2 :]
    noisy = labels.copy()
    for part in (train, test):
        drawn = part[: round(noise * len(part))]
        noisy[drawn] = rng.integers(0, labels.max() + 1, len(drawn))
    mean, spread = features[train].mean(0), features[train].std(0)
    scaled = torch.from_numpy((features - mean) / np.where(spread > 0, spread, 1)).float()
    targets = torch.from_numpy(noisy.astype(np.int64))
    return (scaled[train], targets[train]), (scaled[test], targets[test])


def network(inputs: int, depth: int, width: int, classes: int, seed: int) -> nn.Sequential:
    """Dense layers with rectifiers between them, initialised by the seed."""
    sizes = [inputs, *[width] * depth, classes]
    with torch.random.fork_rng():
        seed_generators(seed)
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def error_of(model: nn.Module, data: Samples) -> float:
    """Share of the samples that are classified wrongly."""
    with torch.no_grad():
        return float((model(data[0]).argmax(1) != data[1]).float().mean())
