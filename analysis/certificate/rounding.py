"""Training that ends in whole numbers: weights are rounded a few at a time, while the others make up for it.

Reference: Zhou et al. 2017, "Incremental Network Quantization", arXiv:1702.03044; here the weights that are
nearest to a whole number go first, ever fewer every ten steps.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from analysis.certificate.networks import IntegerNetwork
from compression.rates import EVERY, next_to_settle

REAL, ALL = 0.25, 0.97  # shares of the training after which rounding begins, and all weights are rounded
LAST_RATE = 0.1  # of the learning rate at the end


@dataclass(frozen=True)
class Schedule:
    """How an IntegerNetwork is trained.

    fineness: root mean square of each layer's weights, in whole numbers, before rounding begins
    """

    epochs: int
    batch_size: int
    learning_rate: float
    fineness: float
    seed: int


def train_integers(
    network: IntegerNetwork, features: Tensor, labels: Tensor, schedule: Schedule
) -> IntegerNetwork:
    """Train a network in place until all its weights are whole numbers; gives it back.

    features: (N, channels, cells, cells); labels: (N,) classes
    """
    generator = torch.Generator().manual_seed(schedule.seed)
    with torch.no_grad():
        network.weights.copy_(torch.randn(len(network.weights), generator=generator))
    sharpness = nn.Parameter(torch.tensor(-1.0))  # log of what outputs are multiplied by; it is not kept
    rounding = Rounding(network, schedule.fineness)
    groups: list[dict[str, Any]] = [
        {"params": [network.weights]}, {"params": [sharpness], "lr": schedule.learning_rate / 2}
    ]  # fmt: skip
    optimizer = torch.optim.Adam(groups, lr=schedule.learning_rate, betas=(0.9, 0.99))
    batches = math.ceil(len(labels) / schedule.batch_size)
    steps = schedule.epochs * batches
    for step in range(steps):
        if step % batches == 0:
            order = torch.randperm(len(labels), generator=generator)
        start = step % batches * schedule.batch_size
        rows = order[start : start + schedule.batch_size]
        share = step / steps
        warm = min(1.0, (step + 1) / min(100, steps / 20))
        optimizer.param_groups[0]["lr"] = warm * schedule.learning_rate * (1 - (1 - LAST_RATE) * share)
        loss = F.cross_entropy(network(features[rows]) * sharpness.exp(), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rounding.after(step, share)
    rounding.finish()
    return network


class Rounding:
    """Keeps a network's layers at their fineness, then rounds its weights, more and more of them."""

    def __init__(self, network: IntegerNetwork, fineness: float) -> None:
        self.network, self.fineness = network, fineness
        self.fixed = torch.zeros(len(network.weights), dtype=torch.bool)
        self.values = torch.zeros(len(network.weights))
        self._scale()

    @torch.no_grad()
    def after(self, step: int, share: float) -> None:
        """Scale or round once a step is taken, at so large a share of the training."""
        if share < REAL:
            self._scale()
            return
        if step % EVERY == 0:
            self._round((ALL - share) / (ALL - REAL))
        self.network.weights[self.fixed] = self.values[self.fixed]

    @torch.no_grad()
    def finish(self) -> None:
        """Round what is left."""
        self._round(0.0)
        self.network.weights.copy_(self.values)

    @torch.no_grad()
    def _scale(self) -> None:
        """Every layer is followed by what takes scales off, so that this changes no outputs' order."""
        for layer in self.network.weights.split(self.network.sizes):
            layer.mul_(self.fineness / layer.square().mean().sqrt())

    def _round(self, left: float) -> None:
        """Fix those weights first that are nearest to a whole number; left: share of the time for it."""
        nearest = self.network.weights.detach().round()
        chosen = next_to_settle((self.network.weights.detach() - nearest).abs(), self.fixed, left)
        self.values[chosen] = nearest[chosen]
        self.fixed[chosen] = True
