"""Two small networks trained first: what the larger gains foretells the size that the data call for.

Networks of one hidden layer (ReLU), one for each split of the rows, are trained side by side by Adam on all
training rows; the step counts that is best on the validation rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from capacity import checks
from capacity.classes import array_of, class_codes, require_two_classes
from capacity.errors import InputError
from capacity.sums import table_of

EVERY = 10  # steps between two looks at the validation rows
UNITS = (4, 16)
ROWS, SEEDS, STEPS, LEARNING_RATE = 1_500, 5, 600, 0.02  # as in the recorded experiment


@dataclass(frozen=True)
class Pilot:
    """Validation errors of two small networks, means over seeds, and the rows each was trained on."""

    rows: int
    small_error: float
    large_error: float

    @property
    def gap(self) -> float:
        """By how much the larger errs less; 0 where it does not."""
        return max(self.small_error - self.large_error, 0.0)


@checks.arguments(labels=checks.table, seed=checks.seed)
def pilot(features: Any, labels: Any, *, seed: int = 0) -> Pilot:
    """Train 4 and 16 units on at most 1,500 of the rows, five splits each: seconds for a few features.

    features: (rows, ...) numbers; labels: (rows,) classes of any names.

    Raises InputError for fewer than 25 rows, lengths that differ, rows that are all the same, labels of one
    class, of more classes than training rows, and fractions as labels.
    """
    values = table_of(features).values
    targets = array_of(labels)
    if targets.shape != (len(values),) or len(targets) < 25:
        raise InputError(
            f"a pilot needs a label for each row and at least 25 rows, found {len(values)} rows and labels "
            f"of shape {targets.shape}"
        )
    chosen = np.random.default_rng(seed).permutation(len(targets))[:ROWS]
    inputs = np.asarray(values[chosen], dtype=np.float64)
    names, codes = class_codes(targets[chosen])
    require_two_classes(names, "there is nothing to learn")
    if (inputs == inputs[:1]).all():
        raise InputError("all rows are the same: no feature tells their labels apart")
    splits = split(inputs, codes, range(SEEDS))
    rows = splits.train[1].shape[1]
    if len(names) > rows:
        raise InputError(f"{len(names):,} classes are more than the {rows:,} rows that a pilot trains on")
    errors = [
        float(np.mean(train(splits, units, steps=STEPS, learning_rate=LEARNING_RATE).validation))
        for units in UNITS
    ]
    return Pilot(rows, *errors)


@dataclass(frozen=True)
class Splits:
    """Rows of each split for each seed: inputs (seeds, rows, d), standardized, and labels (seeds, rows)."""

    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    classes: int
    seeds: Sequence[int]


@dataclass(frozen=True)
class Errors:
    """Top-1 errors of each seed's network: two at its best step on validation, and the least in training."""

    validation: list[float]
    test: list[float]
    training: list[float]


def split(features: NDArray[np.float64], labels: NDArray[np.int64], seeds: Sequence[int]) -> Splits:
    """60, 20 and 20 % of the rows, drawn anew for each seed; standardized by the training rows."""
    rows = len(labels)
    first, second = rows - 2 * (rows // 5), rows - rows // 5
    parts: list[list[tuple[NDArray[np.float32], NDArray[np.int64]]]] = [[], [], []]
    for seed in seeds:
        order = np.random.default_rng(seed).permutation(rows)
        mean, spread = features[order[:first]].mean(0), features[order[:first]].std(0)
        scaled = ((features - mean) / np.where(spread > 0, spread, 1)).astype(np.float32)
        for part, chosen in zip(parts, (order[:first], order[first:second], order[second:]), strict=True):
            part.append((scaled[chosen], labels[chosen]))
    train, validation, test = (
        (torch.from_numpy(np.stack([x for x, _ in part])), torch.from_numpy(np.stack([y for _, y in part])))
        for part in parts
    )
    return Splits(train, validation, test, int(labels.max()) + 1, seeds)


def train(splits: Splits, width: int, *, steps: int, learning_rate: float) -> Errors:
    """Train a network for each seed by Adam on all its training rows; none sees another's."""
    inputs, labels = splits.train
    weights = _start(splits.seeds, inputs.shape[2], width, splits.classes)
    optimizer = torch.optim.Adam(weights, lr=learning_rate)
    best = torch.full((len(inputs),), torch.inf)
    validation, test, training = (torch.ones(len(inputs)) for _ in range(3))
    for step in range(steps + 1):
        logits = _forward(weights, inputs)
        if step % EVERY == 0 or step == steps:
            with torch.no_grad():
                training = torch.minimum(training, _errors(logits, labels))
                seen = _forward(weights, splits.validation[0])
                loss = _losses(seen, splits.validation[1])
                better = loss < best
                best = torch.where(better, loss, best)
                validation = torch.where(better, _errors(seen, splits.validation[1]), validation)
                if bool(better.any()):
                    errors = _errors(_forward(weights, splits.test[0]), splits.test[1])
                    test = torch.where(better, errors, test)
        optimizer.param_groups[0]["lr"] = learning_rate * (1 + cos(pi * step / (steps + 1))) / 2
        optimizer.zero_grad()
        _losses(logits, labels).sum().backward()
        optimizer.step()
    return Errors(validation.tolist(), test.tolist(), training.tolist())


def _start(seeds: Sequence[int], features: int, width: int, classes: int) -> list[Tensor]:
    """Initial weights as nn.Linear draws them, from a generator of its own for each seed."""
    shapes = [((features, width), features), ((1, width), features), ((width, classes), width)]
    shapes.append(((1, classes), width))
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return [
        torch.stack([(2 * torch.rand(shape, generator=g) - 1) / fan**0.5 for g in generators])
        .requires_grad_()
        for shape, fan in shapes
    ]  # fmt: skip


def _forward(weights: list[Tensor], inputs: Tensor) -> Tensor:
    hidden = torch.baddbmm(weights[1], inputs, weights[0]).relu()
    return torch.baddbmm(weights[3], hidden, weights[2])


def _losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of each seed."""
    return cross_entropy(logits.transpose(1, 2), labels, reduction="none").mean(dim=1)


def _errors(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.detach().argmax(dim=2) != labels).float().mean(dim=1)
