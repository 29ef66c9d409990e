"""The runner's trials side by side: small networks together, what cannot be stacked each by itself."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from analysis.compression_frontier import Config
from analysis.lab.runner import Runner
from compression.criteria import L1
from compression.distillation import DistillationLoss, objective
from compression.schedules import GradualPruning
from compression.training import TrainingSettings

CONFIG = Config(seeds=3, limit=200, batch_size=64, model="mlp")


def events(change: str, trials: int = 3) -> list[str]:
    """What the trials do, in order: each trains twice and notes it when it has the network."""
    runner, noted = Runner(CONFIG), list[str]()
    pruning = GradualPruning(L1(center="zero"), 0.5, end_epoch=0.5, updates=2)

    def trial(seed: int) -> None:
        model = runner.network(seed)
        for turn in range(2):
            settings = runner.training(seed, 1)
            if change == "pruned":
                settings = replace(settings, gradual=pruning)
            loss = objective(model, DistillationLoss()) if change == "taught" else None
            model = runner.fit(model, settings, lambda *_, **__: None, loss).model
            noted.append(f"{seed}{'ab'[turn]}")

    runner.side_by_side([partial(trial, seed) for seed in range(trials)])
    return noted


def test_small_networks_are_trained_together() -> None:
    assert events("plain") == ["0a", "1a", "2a", "0b", "1b", "2b"]


@pytest.mark.parametrize("change", ["pruned", "taught"])
def test_what_cannot_be_stacked_waits_for_nobody(change: str) -> None:
    """So that a trial keeps what it has before the next begins: no more than one training is lost."""
    assert events(change) == ["0a", "0b", "1a", "1b", "2a", "2b"]


@pytest.mark.parametrize("stacked", [True, False])
def test_a_network_is_the_same_together_and_by_itself(stacked: bool) -> None:
    """To float tolerance for one of a stack, bit for bit for one that cannot be stacked."""
    runner = Runner(CONFIG)
    pruning = None if stacked else GradualPruning(L1(center="zero"), 0.5, end_epoch=0.5, updates=2)

    def train(seed: int) -> nn.Module:
        settings = TrainingSettings(epochs=1, gradual=pruning)
        return runner.fit(runner.network(seed), settings, lambda *_, **__: None).model

    for seed, together in enumerate(runner.side_by_side([partial(train, seed) for seed in range(2)])):
        for one, two in zip(together.parameters(), train(seed).parameters(), strict=True):
            assert torch.allclose(one, two, atol=1e-5) if stacked else torch.equal(one, two)
