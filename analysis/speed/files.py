"""Files of compressed networks: seconds, memory and bytes."""

import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from analysis.lab.measurement.memory import peak_mib
from analysis.speed.config import Config
from analysis.speed.peers import has_nncodec, nncodec_bytes, read
from analysis.speed.timing import Benchmark, say
from capacity.columns import percent

if TYPE_CHECKING:
    from torch import nn


def files(config: Config) -> Iterator[Benchmark]:
    """A file of VGG16 at 7 % density with 5-bit code books; no peer codes it in reasonable time."""
    from analysis.lab.models import create
    from compression.codec import coding_report, decode, encode
    from compression.criteria import L1
    from compression.pruning import prune
    from compression.sharing import share_weights

    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/net.dcz"
        name = "lenet300" if config.smoke else "torchvision:vgg16"
        size = (1, 28, 28) if config.smoke else (3, 224, 224)
        model = create(name, input_size=size, classes=1000)
        layers = [key for key, m in model.named_modules() if hasattr(m, "weight")]
        sparse = prune(model, L1(center="zero"), amount=0.93, layers=layers).model
        shared = share_weights(sparse, bits={f"{key}.weight": 5 for key in layers}).model
        del sparse
        risen = peak_mib(lambda: encode(shared, path)), peak_mib(lambda: decode(path, model))
        tensors = coding_report(shared).tensors
        coded = [t for t in tensors if t.kind in ("grid", "half", "book")]
        entropy = sum(t.entropy_bytes for t in coded)
        used = sum(t.position_bytes + t.value_bytes for t in coded)
        say(
            f"{name} at 7 % density, 5-bit code books: {encode(shared, path):,} bytes, positions and symbols "
            f"{percent(used / entropy - 1, 2, sign=True)} of their entropy; memory rises by {risen[0]:,.0f} "
            f"MiB to encode and "
            f"{risen[1]:,.0f} MiB to decode"
        )
        yield Benchmark(f"file of {name}: encode", "(none)", "under 8 s", lambda: encode(shared, path), None)
        yield Benchmark(f"file of {name}: decode", "(none)", "under 8 s", lambda: decode(path, model), None)
    yield from _dense_levels(config)


def _dense_levels(config: Config) -> Iterator[Benchmark]:
    """A layer all of whose weights are one of sixteen values."""
    import torch
    from torch import nn

    from compression.codec import decode, encode

    rows = 120 if config.smoke else 12_000
    levels = torch.randint(0, 16, (rows, 1000), generator=torch.Generator().manual_seed(0))
    layer = nn.Linear(1000, rows, bias=False)
    layer.weight = nn.Parameter(levels.float() / 8 - 1)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/levels.dcz"
        say(f"{levels.numel():,} weights of 16 values: {encode(layer, path):,} bytes")
        name = f"file of {levels.numel():,} weights of 16 values"
        yield Benchmark(f"{name}: encode", "(none)", "under 5 s", lambda: encode(layer, path), None)
        yield Benchmark(f"{name}: decode", "(none)", "under 5 s", lambda: decode(path, layer), None)


NNCODEC = """
import sys, numpy
from nncodec import nnc
levels = dict(numpy.load(sys.argv[1] + ".npz"))
size = len(nnc.compress(levels, bitstream_path=sys.argv[1], return_bitstream=True, row_skipping=True))
back = nnc.decompress(sys.argv[1])
assert all((back[name] == levels[name]).all() for name in levels)
print(size)
"""


def peer_files(config: Config) -> Iterator[Benchmark]:
    """Bytes of sparse, rounded LeNets trained on MNIST: our file, and NNCodec's of the same integers."""
    from analysis.lab.models import create
    from compression.criteria import L1
    from compression.pruning import prune
    from compression.rates import quantize_rate_distortion
    from compression.shrinking import sort_units
    from compression.training import TrainingSettings, fit

    if not has_nncodec(config) or (mnist := read("mnist", config)) is None:
        return
    train = mnist.train
    for name, density in (("lenet300", 0.03), ("lenet5", 0.02)):
        rows = train.take(slice(0, 1000 if config.smoke else None))
        peer = fit(
            create(name, input_size=(1, 28, 28), classes=10), rows.batches(128, shuffle=True),
            settings=TrainingSettings(epochs=1 if config.smoke else 3),
        ).model  # fmt: skip
        layers = [key for key, m in peer.named_modules() if hasattr(m, "weight")]
        cut = prune(peer, L1(center="zero"), amount=1 - density, scope="global", layers=layers).model
        result = quantize_rate_distortion(cut, penalty=0.0)
        steps = {tensor.name: tensor.step for tensor in result.tensors}
        of_sorted = sort_units(result.model, (1, 28, 28)).model
        for how, model in (("as it is", result.model), ("units sorted", of_sorted)):
            ours, theirs = _sizes(model, steps, config.nncodec)
            say(
                f"{name} at {100 * density:g} % density, rounded, {how}: {ours:,} bytes; NNCodec {theirs:,} "
                f"bytes, without the {len(steps)} steps ({ours / theirs:.3f})"
            )
    yield from ()


def _sizes(model: "nn.Module", steps: dict[str, float], python: str) -> tuple[int, int]:
    """Bytes of our file, and of NNCodec's of the same integers without their steps."""
    import numpy as np

    from compression.codec import encode

    parameters = dict(model.named_parameters())
    with tempfile.TemporaryDirectory() as folder:
        ours = encode(model, f"{folder}/net.dcz")
        levels: dict[str, Any] = {
            name: np.rint(parameters[name].detach().double().numpy() / step) for name, step in steps.items()
        }
        np.savez(f"{folder}/net.npz", **{key: value.astype(np.int32) for key, value in levels.items()})
        return ours, nncodec_bytes(python, NNCODEC, f"{folder}/net")
