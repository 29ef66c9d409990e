"""Many small trainings at once, and steps of convolutional networks in the machine's own half precision."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from analysis.speed.config import Config
from analysis.speed.timing import Benchmark, say, training_flops
from capacity.seeding import seed_generators

if TYPE_CHECKING:
    from analysis.lab.data.datasets import DataSet
    from compression.training import TrainingSettings


def ensembles(config: Config) -> Iterator[Benchmark]:
    """Seeds of one network trained together, against one after another."""
    from analysis.lab.data.datasets import load
    from capacity import InputError
    from compression.precision import fast_bf16
    from compression.processes import own_device
    from compression.training import TrainingSettings

    once = TrainingSettings(epochs=1 if config.smoke else 6, warmup_epochs=0.5)
    digits = load("digits")
    seeds = 2 if config.smoke else 20
    yield _seeds(f"{seeds} seeds of the digits network", "mlp", seeds, digits, once, once)
    yield _seeds(f"{seeds} seeds of 24 units", "", seeds, digits, once, once)
    if fast_bf16(own_device()):
        half = replace(once, mixed_precision="bf16")
        name = f"{seeds} seeds of the digits network, bfloat16 products"
        yield _seeds(name, "mlp", seeds, digits, once, half)
    try:
        mnist = load("mnist", data=config.data)
    except InputError:
        say(f"skipped: MNIST is not in the folder {config.data!r} (--data)")
        return
    count = 1280 if config.smoke else 12_800
    mnist = mnist.map(lambda split: split.take(slice(0, count)))
    once = replace(once, epochs=1)
    yield _seeds("5 seeds of LeNet-300-100 on MNIST", "lenet300", 5, mnist, once, once)


def _seeds(
    name: str,
    model: str,
    seeds: int,
    data: "DataSet",
    alone: "TrainingSettings",
    together: "TrainingSettings",
) -> Benchmark:
    """A row; both sides train the very same networks on the same batches."""
    from torch import nn

    from analysis.lab.models import create
    from compression.ensembles import fit_together
    from compression.training import fit

    models: list[nn.Module] = []
    for seed in range(seeds):
        seed_generators(seed)
        small = nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))
        models.append(create(model, input_size=data.input_size, classes=10) if model else small)
    flops = 0.0
    if together.mixed_precision == "no":
        flops = training_flops(models[0], data.input_size, seeds * together.epochs * len(data.train))
    batches = [data.train.batches(128, shuffle=True, seed=seed) for seed in range(seeds)]
    ours = [replace(together, seed=seed) for seed in range(seeds)]
    theirs = [replace(alone, seed=seed) for seed in range(seeds)]

    def one_by_one() -> list[Any]:
        return [
            fit(model, own, settings=one) for model, own, one in zip(models, batches, theirs, strict=True)
        ]

    return Benchmark(
        f"{name}, trained together", "one after another", "at least 2" if seeds == 5 else "at least 6",
        partial(fit_together, models, batches, settings=ours), one_by_one, flops,
    )  # fmt: skip


def precision(config: Config) -> Iterator[Benchmark]:
    """Steps of residual networks in bfloat16 and channels last, against single precision, channels first."""
    import torch

    from analysis.lab.models import create
    from compression.batches import TensorBatches
    from compression.precision import fast_bf16
    from compression.processes import own_device
    from compression.training import TrainingSettings, fit

    once = TrainingSettings(epochs=1, warmup_epochs=0.5)
    fast = fast_bf16(own_device())
    if not fast:
        say("skipped: this processor has no bfloat16 products of its own")
    half = replace(once, mixed_precision="bf16")
    generator = torch.Generator().manual_seed(0)
    for name, size in (("resnet20", 128), ("resnet18", 32)):
        count = 8 if config.smoke else 4 * size
        pictures = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
        data = TensorBatches(pictures, torch.arange(count) % 10, size, mean=(0.5,) * 3, std=(0.25,) * 3)
        first = create(name, input_size=(3, 32, 32), classes=10)
        last = create(name, input_size=(3, 32, 32), classes=10).to(memory_format=torch.channels_last)
        rows = [("channels last", "above 1", once)]
        rows += [("channels last and bfloat16", "at least 1.5", half)] if fast else []
        for how, goal, settings in rows:
            yield Benchmark(
                f"steps of {name}, {how}", "single precision, channels first", goal,
                partial(fit, last, data, settings=settings), partial(fit, first, data, settings=once),
            )  # fmt: skip
