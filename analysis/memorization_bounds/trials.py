"""Trials: the most points whose random labels a network stores, and what bounds and conventions say of it."""

from math import ceil, log2
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from analysis.memorization_bounds.config import parts_of
from analysis.memorization_bounds.families import build, input_size
from capacity import CONVENTIONS, bounds, measure
from capacity.seeding import seed_generators

if TYPE_CHECKING:
    from analysis.memorization_bounds.config import Config

EVERY = 25  # steps between two looks at whether all labels are right


def measure_one(name: str, classes: int, config: "Config") -> list[dict[str, Any]]:
    """One row: bits stored at the last number of points without a miss, and what is said of the network."""
    model = build(name, classes)
    size = input_size(name)
    proven = bounds(model, size)
    weights = sum(p.numel() for p in model.parameters())
    most, missed = search(name, classes, weights, config)
    bits = log2(classes)
    facts = {
        "network": name, "family": parts_of(name)[0], "classes": classes, "seed": config.seed,
        "parameters": weights,
        "points": most, "missed_points": missed, "stored_bits": most * bits, "missed_bits": missed * bits,
        "bits_per_parameter": most * bits / weights, "w_log_w_bits": weights * log2(weights),
        "storage_bits": proven.storage_bits, "piece_bits": proven.piece_bits,
    }  # fmt: skip
    convention: Any
    for convention in CONVENTIONS:
        facts[f"{convention}_bits"] = measure(model, size, convention=convention).capacity_bits
    return [facts]


def search(name: str, classes: int, weights: int, config: "Config") -> tuple[int, int]:
    """The last number of points without a miss, and the first with one, on a grid that grows by a factor.

    It starts at a bit for two weights, and goes down while that is missed.
    """
    points = max(2, round(weights / (2 * log2(classes))))
    if stored(name, classes, points, config):
        while True:
            more = max(points + 1, ceil(points * config.growth))
            if not stored(name, classes, more, config):
                return points, more
            points = more
    while points > 1:
        fewer = max(1, min(points - 1, int(points / config.growth)))
        if stored(name, classes, fewer, config):
            return fewer, points
        points = fewer
    return 0, 1


def stored(name: str, classes: int, points: int, config: "Config") -> bool:
    """Whether all labelings of so many points are stored, each by one of its starts."""
    return all(
        any(memorized(name, classes, points, labeling, start, config) for start in range(config.restarts))
        for labeling in range(config.labelings)
    )


def memorized(name: str, classes: int, points: int, labeling: int, start: int, config: "Config") -> bool:
    """Whether training gets every random label of random points right at some step.

    The same points and labels for the same labeling, the same weights for the same start.
    """
    generator = torch.Generator().manual_seed(config.seed * 1_000 + labeling)
    inputs = torch.randn(points, *input_size(name), generator=generator)
    labels = torch.randint(classes, (points,), generator=generator)
    with torch.random.fork_rng():
        seed_generators(config.seed * 1_000 + start)
        model = build(name, classes).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)
    for step in range(config.steps):
        outputs = model(inputs)
        if step % EVERY == 0 and all_right(outputs, labels):
            return True
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * (1 - step / config.steps)
        optimizer.zero_grad()
        loss_of(outputs, labels).backward()
        optimizer.step()
    with torch.no_grad():
        return all_right(model(inputs), labels)


def all_right(outputs: Tensor, labels: Tensor) -> bool:
    """Whether every point is on the right side, or its class has the largest output of all.

    >>> all_right(torch.tensor([[0.5], [-1.0]]), torch.tensor([1, 0]))
    True
    """
    logits = outputs.detach()
    if logits.shape[1] == 1:
        return bool(((logits[:, 0] > 0) == labels.bool()).all())
    return bool((logits.argmax(1) == labels).all())


def loss_of(outputs: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy, of one output by its sign."""
    if outputs.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(outputs[:, 0], labels.float())
    return F.cross_entropy(outputs, labels)
