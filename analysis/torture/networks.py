"""Small networks and pictures, of which files and runs are made."""

from collections.abc import Sequence

import torch
from torch import nn

from capacity.seeding import seed_generators
from compression.batches import TensorBatches

SIZE = (1, 8, 8)


def network(seed: int = 0) -> nn.Module:
    """A small network with convolution, norm and dense layers."""
    with torch.random.fork_rng():
        seed_generators(seed)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 16), nn.ReLU(),
            nn.Linear(16, 10),
        ).eval()  # fmt: skip


def half_frozen(input_size: Sequence[int], classes: int) -> nn.Module:
    """A small network whose first layers do not learn, as `--model` takes it."""
    channels, height, width = input_size
    model = nn.Sequential(
        nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(4 * (height - 2) * (width - 2), 16), nn.ReLU(), nn.Linear(16, classes),
    )  # fmt: skip
    model[0].requires_grad_(False)
    return model


def pictures() -> TensorBatches:
    """Sixteen pictures of noise and their labels."""
    dice = torch.Generator().manual_seed(0)
    return TensorBatches(torch.rand(16, *SIZE, generator=dice), torch.arange(16) % 10, batch_size=8)
