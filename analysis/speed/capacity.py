"""Reports of capacity, of networks from VGG16 to a decoder of 70 billion parameters, and of data."""

from collections.abc import Iterator
from importlib.util import find_spec

from analysis.lab.measurement.memory import peak_mib, resident_mib
from analysis.speed.config import Config
from analysis.speed.timing import Benchmark, say


def reports(config: Config) -> Iterator[Benchmark]:
    """Per-layer report of VGG16 at 224x224: a meta-device pass against a real one."""
    if find_spec("torchinfo") is None:
        say('skipped: torchinfo is not installed (pip install "deepcapacity[peers]")')
        return
    import torchinfo
    from torchvision.models import vgg16

    from capacity import measure

    model, side = vgg16().eval(), 32 if config.smoke else 224
    grown = peak_mib(lambda: measure(model, (3, side, side)))
    say(f"measure(vgg16) raised the process's memory by {grown:.1f} MiB (its weights are 527.8 MiB)")
    yield Benchmark(
        "per-layer report of VGG16", "torchinfo.summary", "at least 5",
        lambda: measure(model, (3, side, side)),
        lambda: torchinfo.summary(model, (1, 3, side, side), verbose=0),
    )  # fmt: skip


def needs(config: Config) -> Iterator[Benchmark]:
    """Bits that a table of MNIST's size needs; no peer computes them."""
    import numpy as np

    from capacity import requirement

    rows = 600 if config.smoke else 60_000
    generator = np.random.default_rng(0)
    features = generator.integers(0, 256, (rows, 784), dtype=np.uint8)
    labels = generator.integers(0, 10, rows)
    name = f"requirement of {rows:,} x 784, with progression"
    yield Benchmark(name, "(none)", "about 1 s", lambda: requirement(features, labels), None)


def decoders(config: "Config") -> Iterator[Benchmark]:
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
    say(f"decoder of {parameters:,} parameters measured; peak memory of the process {peak:.2f} GiB")
    name = f"capacity of a decoder of {parameters / 1e9:.2g} billion parameters"
    yield Benchmark(name, "(none)", "seconds, under 1.5 GB", lambda: measure(model, tokens), None)
