"""Jobs of `python -m analysis.speed`: ours and a peer's way to do the same, to be timed in turns."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.lab.memory import peak_mib, resident_mib
from analysis.lab.progress import silent

if TYPE_CHECKING:
    from analysis.speed import Config


@dataclass(frozen=True)
class Job:
    """One row: what is done, by whom, and the ratio peer / ours (speed-up) that is the goal."""

    name: str
    peer: str
    goal: str
    ours: Callable[[], Any]
    theirs: Callable[[], Any] | None


def decoders(config: "Config") -> Iterator[Job]:
    """Capacity of a decoder with 70 billion parameters on the meta device; no peer measures it."""
    import torch
    from torch import nn

    from capacity import measure

    layers, width = (2, 64) if config.smoke else (80, 8192)
    with torch.device("meta"):
        layer = nn.TransformerEncoderLayer(width, 8, 4 * width, batch_first=True, norm_first=True)
        parts = [
            nn.Embedding(128_256, width),
            nn.TransformerEncoder(layer, layers, enable_nested_tensor=False),
        ]
        model = nn.Sequential(*parts, nn.Linear(width, 128_256)).to(torch.bfloat16).eval()
    tokens = torch.zeros(1, 64, dtype=torch.long)
    parameters = measure(model, tokens).total_parameters
    before = resident_mib()
    peak = (before + peak_mib(lambda: measure(model, tokens))) / 1024
    print(f"decoder of {parameters:,} parameters measured; peak memory of the process {peak:.2f} GiB")
    name = f"capacity of a decoder of {parameters / 1e9:.0f} billion parameters"
    yield Job(name, "(none)", "seconds, under 1.5 GB", lambda: measure(model, tokens), None)


def cached_heads(config: "Config") -> Iterator[Job]:
    """An epoch of VGG16's head on cached features, against one that computes the features again."""
    import torch
    from torch import nn

    from analysis.lab.datasets import DataSet, Split
    from analysis.lab.features import cached_features, split_frozen
    from analysis.lab.models import create
    from compression.training import Training, fit

    side, count = (32, 8) if config.smoke else (224, 64)
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)
    split = Split(pictures, torch.arange(count) % 10, (0.5,) * 3, (0.25,) * 3)
    data = DataSet("random", split, split, split, tuple("0123456789"))
    frozen, head = split_frozen(create("vgg16", input_size=(3, side, side), classes=10))
    once = Training(epochs=1, learning_rate=0.001)
    with tempfile.TemporaryDirectory() as folder:
        cached = cached_features(frozen, data, Path(folder))
        whole = nn.Sequential(frozen, head)
        yield Job(
            f"epoch of VGG16's head on {count} pictures' cached features", "features computed again",
            "the speed of the head",
            lambda: fit(head, cached.train.batches(32), settings=once),
            lambda: fit(whole, split.batches(32), settings=once),
        )  # fmt: skip


def runtimes(config: "Config") -> Iterator[Job]:
    """Dynamic int8, and static int8 in ONNX Runtime, of VGG16-BN beside the float network in eager mode."""
    import torch

    from analysis.lab.metrics import integer_call
    from analysis.lab.models import create
    from compression.batches import TensorBatches
    from compression.quantization import quantize

    name, size = ("lenet300", (1, 28, 28)) if config.smoke else ("vgg16bn", (3, 32, 32))
    model = create(name, input_size=size, classes=100).eval()
    data = TensorBatches(torch.randn(64, *size), torch.zeros(64, dtype=torch.long), 32)
    for scheme, compiled in (("static", False), ("dynamic", True)):
        if compiled and config.smoke:
            continue
        result = quantize(model, scheme=scheme, input_size=size, calibration=data)  # type: ignore[arg-type]
        for batch in (1, 32):
            x = torch.randn(batch, *size)
            run, how = integer_call(result, x, size, compiled)
            if run is None:
                print(f"skipped: {scheme} int8 {name}, which only the reference path runs here")
                continue

            def plain(x: Any = x) -> None:
                with torch.no_grad():
                    model(x)

            label = f"{name} as {scheme} int8 in {how}, batch {batch}"
            yield Job(label, "float, eager", "at least 4" if scheme == "static" else "above 1", run, plain)


def clusters(config: "Config") -> Iterator[Job]:
    """A grid of 24 trainings on two local Dask workers, against one."""
    from importlib.util import find_spec

    if find_spec("distributed") is None:
        print('skipped: distributed is not installed (pip install "deepcapacity[cluster]")')
        return
    from distributed import LocalCluster

    from analysis.lab.sweeps import Workers, sweep

    def swept(address: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            names = [f"seed-{seed}" for seed in range(4 if config.smoke else 24)]
            found = sweep(
                trained_cell, 2 if config.smoke else 40, names, folder=Path(folder),
                workers=Workers(scheduler=address), advance=silent,
            )  # fmt: skip
            assert len(found.rows) == len(names), found.failures

    options: dict[str, Any] = {"threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": 40}
    with LocalCluster(n_workers=1, **options) as one, LocalCluster(n_workers=2, **options) as two:
        ours, theirs = (partial(swept, cluster.scheduler_address) for cluster in (two, one))
        yield Job("24 cells on two Dask workers", "one worker", "at least 1.7", ours, theirs)


def trained_cell(epochs: int, name: str) -> dict[str, Any]:
    """A small network trained on the digits, one thread; what a worker imports."""
    import torch

    from analysis.lab.datasets import load
    from analysis.lab.models import create
    from compression.training import Training, evaluate, fit

    torch.set_num_threads(1)
    data = load("digits")
    model = create("mlp", input_size=(1, 8, 8), classes=10)
    settings = Training(epochs=epochs, seed=int(name.partition("-")[2]))
    trained = fit(model, data.train.batches(128, shuffle=True), settings=settings).model
    return evaluate(trained, data.test.batches(500)).to_dict()
