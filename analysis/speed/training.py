"""Epochs: of the training loop, under cached teacher outputs, of a head on cached features."""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.speed.config import Config
from analysis.speed.timing import Benchmark, say, training_flops

if TYPE_CHECKING:
    from torch import nn

    from compression.batches import TensorBatches


def training(config: Config) -> Iterator[Benchmark]:
    """One epoch of LeNet-300-100 on MNIST: against a DataLoader, and fit against a bare loop."""
    from torchvision import datasets, transforms

    try:
        source = datasets.MNIST(config.data, train=True, download=False)
    except RuntimeError:
        say(f"skipped: MNIST is not in the folder {config.data!r} (--data)")
        return
    from torch.utils.data import DataLoader, Subset

    from analysis.lab.models import create
    from compression.batches import TensorBatches
    from compression.criteria import L1
    from compression.pruning import prune
    from compression.training import TrainingSettings, fit

    count = 1280 if config.smoke else len(source)
    model = create("lenet300", input_size=(1, 28, 28), classes=10)
    squeezed = prune(model, L1(), amount=0.1, unit="neuron").model
    ours = TensorBatches(source.data[:count, None], source.targets[:count], 128, True, (0.1307,), (0.3081,))
    change = transforms.Compose([transforms.ToTensor(), transforms.Normalize(0.1307, 0.3081)])
    pictures = datasets.MNIST(config.data, train=True, transform=change)
    loader = DataLoader(Subset(pictures, range(count)), batch_size=128, shuffle=True)
    once = TrainingSettings(epochs=1)
    yield from _cached_distillation(config, model, ours)
    yield Benchmark(
        "MNIST epoch of LeNet-300-100", "data set in a DataLoader", "at least 10",
        lambda: fit(model, ours, settings=once), lambda: bare_epoch(model, loader),
        training_flops(model, (1, 28, 28), count),
    )  # fmt: skip
    yield Benchmark(
        "the same, masked, in the squeeze loop", "bare loop over the same tensors", "at least 0.97",
        lambda: fit(squeezed, ours, settings=once), lambda: bare_epoch(model, ours),
    )  # fmt: skip


def bare_epoch(model: Any, batches: Any) -> None:
    """The plainest training loop: forward, backward, step."""
    import copy

    import torch
    from torch.nn import functional as F

    copied = copy.deepcopy(model).train()
    optimizer = torch.optim.SGD(
        copied.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True, fused=True
    )
    for inputs, targets in batches:
        optimizer.zero_grad()
        F.cross_entropy(copied(inputs), targets).backward()
        optimizer.step()


def cached_heads(config: "Config") -> Iterator[Benchmark]:
    """An epoch of VGG16's head on cached features, against one that computes the features again."""
    import torch
    from torch import nn

    from analysis.lab.data.datasets import DataSet, Split
    from analysis.lab.data.features import cached_features, split_frozen
    from analysis.lab.models import create
    from compression.training import TrainingSettings, fit

    side, count = (32, 8) if config.smoke else (224, 64)
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)
    split = Split(pictures, torch.arange(count) % 10, (0.5,) * 3, (0.25,) * 3)
    data = DataSet("random", split, split, split, tuple("0123456789"))
    model = (
        create("vgg16", input_size=(3, side, side), classes=10)
        if not config.smoke
        else nn.Sequential(
            nn.Conv2d(3, 8, 3).requires_grad_(False),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(128, 10),
        )
    )
    frozen, head = split_frozen(model)
    once = TrainingSettings(epochs=1, learning_rate=0.001)
    with tempfile.TemporaryDirectory() as folder:
        cached = cached_features(frozen, data, Path(folder))
        network = nn.Sequential(frozen, head)
        yield Benchmark(
            f"epoch of VGG16's head on {count} pictures' cached features", "features computed again",
            "the speed of the head",
            lambda: fit(head, cached.train.batches(32), settings=once),
            lambda: fit(network, split.batches(32), settings=once),
        )  # fmt: skip


def _cached_distillation(
    config: Config, teacher: "nn.Module", pictures: "TensorBatches"
) -> Iterator[Benchmark]:
    from analysis.lab.models import create
    from compression.distillation import distill
    from compression.training import TrainingSettings, fit

    for name, goal in (("cnn_student", "at least 0.95"), ("lenet300", "at least 0.9")):
        student = create(name, input_size=(1, 28, 28), classes=10)
        with tempfile.TemporaryDirectory() as folder:
            cache = f"{folder}/outputs.npy"
            several = TrainingSettings(epochs=1 if config.smoke else 3)
            distill(student, teacher, pictures, settings=TrainingSettings(epochs=1), cache=cache)
            yield Benchmark(
                f"epochs of {name} under cached teacher outputs", "plain epochs", goal,
                partial(distill, student, teacher, pictures, settings=several, cache=cache),
                partial(fit, student, pictures, settings=several),
            )  # fmt: skip
