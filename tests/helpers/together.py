"""A training that several processes share, for torchrun: prints what the first of them found."""

import json
import sys
from pathlib import Path

import torch
from torch import nn

from capacity import InputError
from compression.batches import TensorBatches
from compression.evaluation import evaluate
from compression.processes import leave, rank, world_size
from compression.training import TrainingSettings, fit


def net(idle: bool = False) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 10))
    if idle:
        model.register_parameter("idle", nn.Parameter(torch.zeros(3)))
    return model


def data(count: int, size: int) -> TensorBatches:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(count, 12, generator=generator)
    return TensorBatches(inputs, inputs[:, :10].argmax(1), size, shuffle=True)


def threads() -> list[str]:
    """Names of this process's threads, where the system tells them."""
    return sorted(path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm"))


def refused() -> str:
    try:
        fit(net(idle=True), data(64, 64), settings=TrainingSettings(epochs=1))
    except InputError as error:
        return str(error)
    return ""


def main() -> None:
    one_step = data(101, 128)  # an epoch is a step, of a batch that two processes cannot halve
    found = fit(
        net(), one_step, settings=TrainingSettings(epochs=20, warmup_epochs=2), validation=data(40, 7)
    )
    ragged = fit(net(), data(65, 16), settings=TrainingSettings(epochs=2))  # a last batch of one sample
    scores = evaluate(found.model, data(103, 10), gather=True)
    idle = refused()
    weights = torch.cat([p.detach().flatten() for p in ragged.model.parameters()])
    if rank() == 0:
        facts = {
            "processes": world_size(),
            "losses": [entry["training_loss_nats"] for entry in found.history],
            "errors": [entry["validation_top1_error"] for entry in found.history],
            "scores": scores.to_dict(),
            "weights": weights.tolist(),
            "refused": idle,
        }
        leave()
        facts["threads"] = threads()
        sys.stdout.write(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
