"""Our speed beside the peers', as ratios measured in one process."""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from analysis.lab.commands import execute
from analysis.lab.memory import peak_mib
from analysis.lab.races import Job, cached_heads, clusters, decoders, runtimes

if TYPE_CHECKING:
    import pandas as pd


Group = Literal[
    "reports", "decoders", "needs", "training", "cached-heads", "pruning", "shrinking", "integers",
    "runtimes", "files", "peer-files", "clusters",
]  # fmt: skip


@dataclass(frozen=True)
class Config:
    """Time each job ours and the peer's way, interleaved, and print medians and their ratio."""

    data: str = "data"
    """Folder with torchvision's MNIST; rows that need it are skipped without it."""
    repeats: int = 5
    """Runs of each side; the median counts. Jobs of more than ten seconds run once."""
    nncodec: str = ""
    """Python of an environment in which NNCodec is installed, to compare sizes of files with."""
    only: tuple[Group, ...] = ()
    """Only these groups of rows; by default all."""
    smoke: bool = False
    """A quick pass with small sizes; the ratios mean nothing."""


def reports(config: Config) -> Iterator[Job]:
    """Per-layer report of VGG16 at 224x224: a meta-device pass against a real one."""
    if find_spec("torchinfo") is None:
        print('skipped: torchinfo is not installed (pip install "deepcapacity[peers]")')
        return
    import torchinfo
    from torchvision.models import vgg16

    from capacity import measure

    model, side = vgg16().eval(), 32 if config.smoke else 224
    grown = peak_mib(lambda: measure(model, (3, side, side)))
    print(f"measure(vgg16) raised the process's memory by {grown:.1f} MiB (its weights are 527.8 MiB)")
    yield Job(
        "per-layer report of VGG16", "torchinfo.summary", "at least 5",
        lambda: measure(model, (3, side, side)),
        lambda: torchinfo.summary(model, (1, 3, side, side), verbose=0),
    )  # fmt: skip


def training(config: Config) -> Iterator[Job]:
    """One epoch of LeNet-300-100 on MNIST: against a DataLoader, and fit against a bare loop."""
    from torchvision import datasets, transforms

    try:
        source = datasets.MNIST(config.data, train=True, download=False)
    except RuntimeError:
        print(f"skipped: MNIST is not in the folder {config.data!r} (--data)")
        return
    from torch.utils.data import DataLoader, Subset

    from analysis.lab.models import create
    from compression.batches import TensorBatches
    from compression.criteria import L1
    from compression.distillation import distill
    from compression.pruning import prune
    from compression.training import Training, fit

    count = 1280 if config.smoke else len(source)
    model = create("lenet300", input_size=(1, 28, 28), classes=10)
    squeezed = prune(model, L1(), amount=0.1, unit="neuron").model
    ours = TensorBatches(source.data[:count, None], source.targets[:count], 128, True, (0.1307,), (0.3081,))
    change = transforms.Compose([transforms.ToTensor(), transforms.Normalize(0.1307, 0.3081)])
    pictures = datasets.MNIST(config.data, train=True, transform=change)
    loader = DataLoader(Subset(pictures, range(count)), batch_size=128, shuffle=True)
    once = Training(epochs=1)
    for name in ("cnn_student", "lenet300"):
        student = create(name, input_size=(1, 28, 28), classes=10)
        with tempfile.TemporaryDirectory() as folder:
            cache = f"{folder}/outputs.npy"
            several = Training(epochs=1 if config.smoke else 3)
            distill(student, model, ours, settings=once, cache=cache)
            yield Job(
                f"epochs of {name} under cached teacher outputs", "plain epochs", "at least 0.87 (1 / 1.15)",
                partial(distill, student, model, ours, settings=several, cache=cache),
                partial(fit, student, ours, settings=several),
            )  # fmt: skip
    yield Job(
        "MNIST epoch of LeNet-300-100", "data set in a DataLoader", "at least 10",
        lambda: fit(model, ours, settings=once), lambda: bare_epoch(model, loader),
    )  # fmt: skip
    yield Job(
        "the same, masked, in the squeeze loop", "bare loop over the same tensors", "at least 0.95",
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


def needs(config: Config) -> Iterator[Job]:
    """Bits that a table of MNIST's size needs; no peer computes them."""
    import numpy as np

    from capacity import requirement

    rows = 600 if config.smoke else 60_000
    generator = np.random.default_rng(0)
    features = generator.integers(0, 256, (rows, 784), dtype=np.uint8)
    labels = generator.integers(0, 10, rows)
    name = f"requirement of {rows:,} x 784, with progression"
    yield Job(name, "(none)", "about 1 s", lambda: requirement(features, labels), None)


def pruning(config: Config) -> Iterator[Job]:
    """A global L1 mask at 60 % over all weights of VGG16: a partition against torch's sort."""
    import copy

    from torch import nn
    from torch.nn.utils import prune as torch_prune
    from torchvision.models import vgg16

    from compression.criteria import L1
    from compression.masks import masks_of
    from compression.pruning import prune

    model = nn.Sequential(nn.Linear(300, 300), nn.Linear(300, 300)) if config.smoke else vgg16()
    names = [name for name, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]

    def ours() -> Any:
        return prune(model, L1(center="zero"), amount=0.6, scope="global", layers=names)

    def theirs() -> Any:
        copied = copy.deepcopy(model)
        pairs = [(copied.get_submodule(name), "weight") for name in names]
        torch_prune.global_unstructured(pairs, torch_prune.L1Unstructured, amount=0.6)
        return copied

    mine, other = ours().masks, masks_of(theirs())
    different = sum(int((mine[name] != other[name]).sum()) for name in other)
    extra_mib, peer_extra_mib = peak_mib(ours), peak_mib(theirs)
    print(
        f"global mask: {different} of {sum(m.numel() for m in other.values()):,} elements differ from "
        f"torch's (ties); peak memory rises by {extra_mib:,.0f} MiB, torch's by {peer_extra_mib:,.0f} MiB"
    )
    yield Job("global L1 mask of VGG16 at 60 %", "torch global_unstructured", "at least 20", ours, theirs)


def shrinking(config: Config) -> Iterator[Job]:
    """Forward passes of networks that lost 20 % of their channels, beside the whole ones."""
    import torch

    from analysis.lab.models import create
    from compression.costs import peak_memory_bytes
    from compression.shrinking import shrink

    size, batch = (3, 32, 32), 2 if config.smoke else 32
    for name in ("resnet18",) if config.smoke else ("googlenet", "vgg16bn", "resnet18"):
        whole = create(name, input_size=size, classes=100).eval()
        small = shrink(whole, size, amount=0.2).model.eval()
        peaks = [peak_memory_bytes(model, size, batch_size=batch) / 2**20 for model in (small, whole)]
        print(
            f"{name} shrunk by 20 %, batch {batch}: peak memory of a pass {peaks[0]:.1f} MiB instead of "
            f"{peaks[1]:.1f} MiB ({peaks[0] / peaks[1]:.2f})"
        )
        x = torch.randn(batch, *size)

        def run(model: Any, x: Any = x) -> None:
            with torch.inference_mode():
                model(x)

        ours, theirs = partial(run, small), partial(run, whole)
        yield Job(f"forward pass of {name} shrunk by 20 %", "the whole network", "above 1", ours, theirs)


def integers(config: Config) -> Iterator[Job]:
    """Static int8 VGG16-BN, compiled, beside the float network in eager mode."""
    import torch

    from analysis.lab.models import create
    from capacity import InputError
    from compression.batches import TensorBatches
    from compression.quantization import compiled, quantize

    name, size = ("lenet300", (1, 28, 28)) if config.smoke else ("vgg16bn", (3, 32, 32))
    model = create(name, input_size=size, classes=100).eval()
    data = TensorBatches(torch.randn(64, *size), torch.zeros(64, dtype=torch.long), 32)
    result = quantize(model, scheme="static", input_size=size, calibration=data)
    print(f"{name}: {result.bytes_before / 2**20:.1f} -> {result.bytes_after / 2**20:.2f} MiB as static int8")
    for batch in (1, 32):
        x = torch.randn(batch, *size)
        try:
            fast = compiled(result.model, x)
        except InputError as error:
            print(f"skipped: {error}")
            return

        def plain(x: Any = x) -> None:
            with torch.no_grad():
                model(x)

        yield Job(f"int8 {name}, batch {batch}", "float, eager", "at least 4", partial(fast, x), plain)


def files(config: Config) -> Iterator[Job]:
    """A file of VGG16 at 7 % density with 5-bit code books; no peer codes it in reasonable time."""
    from analysis.lab.models import create
    from compression.codec import coding_report, decode, encode
    from compression.criteria import L1
    from compression.pruning import prune
    from compression.sharing import share

    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/net.dcz"
        name = "lenet300" if config.smoke else "torchvision:vgg16"
        size = (1, 28, 28) if config.smoke else (3, 224, 224)
        model = create(name, input_size=size, classes=1000)
        layers = [key for key, m in model.named_modules() if hasattr(m, "weight")]
        sparse = prune(model, L1(center="zero"), amount=0.93, layers=layers).model
        shared = share(sparse, bits={f"{key}.weight": 5 for key in layers}).model
        del sparse
        risen = peak_mib(lambda: encode(shared, path)), peak_mib(lambda: decode(path, model))
        tensors = coding_report(shared).tensors
        coded = [t for t in tensors if t.kind in ("grid", "half", "book")]
        entropy = sum(t.entropy_bytes for t in coded)
        used = sum(t.position_bytes + t.value_bytes for t in coded)
        print(
            f"{name} at 7 % density, 5-bit code books: {encode(shared, path):,} bytes, positions and symbols "
            f"{used / entropy - 1:+.2%} of their entropy; memory rises by {risen[0]:,.0f} MiB to encode and "
            f"{risen[1]:,.0f} MiB to decode"
        )
        yield Job(f"file of {name}: encode", "(none)", "under 60 s", lambda: encode(shared, path), None)
        yield Job(f"file of {name}: decode", "(none)", "under 60 s", lambda: decode(path, model), None)


NNCODEC = """
import sys, numpy
from nncodec import nnc
levels = dict(numpy.load(sys.argv[1] + ".npz"))
size = len(nnc.compress(levels, bitstream_path=sys.argv[1], return_bitstream=True, row_skipping=True))
back = nnc.decompress(sys.argv[1])
assert all((back[name] == levels[name]).all() for name in levels)
print(size)
"""


def peer_files(config: Config) -> Iterator[Job]:
    """Bytes of sparse, rounded LeNets trained on MNIST: our file, and NNCodec's of the same integers."""
    import subprocess

    import numpy as np

    from analysis.lab.datasets import load
    from analysis.lab.models import create
    from capacity import InputError
    from compression.codec import encode
    from compression.criteria import L1
    from compression.pruning import prune
    from compression.rates import round_by_rate
    from compression.training import Training, fit

    if not config.nncodec:
        print("skipped: NNCodec, which needs an older numpy: --nncodec PYTHON, of an environment that has it")
        return
    try:
        train = load("mnist", data=config.data).train
    except InputError as error:
        print(f"skipped: {error}")
        return
    for name, density in (("lenet300", 0.03), ("lenet5", 0.02)):
        rows = train.take(slice(0, 1000 if config.smoke else None))
        whole = fit(
            create(name, input_size=(1, 28, 28), classes=10), rows.batches(128, shuffle=True),
            settings=Training(epochs=1 if config.smoke else 3),
        ).model  # fmt: skip
        layers = [key for key, m in whole.named_modules() if hasattr(m, "weight")]
        cut = prune(whole, L1(center="zero"), amount=1 - density, scope="global", layers=layers).model
        result = round_by_rate(cut, penalty=0.0)
        parameters = dict(result.model.named_parameters())
        with tempfile.TemporaryDirectory() as folder:
            ours = encode(result.model, f"{folder}/net.dcz")
            levels: dict[str, Any] = {
                tensor.name: np.rint(parameters[tensor.name].detach().double().numpy() / tensor.step)
                for tensor in result.tensors
            }
            np.savez(f"{folder}/net.npz", **{key: value.astype(np.int32) for key, value in levels.items()})
            call = [config.nncodec, "-c", NNCODEC, f"{folder}/net"]
            theirs = int(subprocess.run(call, capture_output=True, text=True, check=True).stdout.split()[-1])
        print(
            f"{name} at {100 * density:g} % density, rounded: {ours:,} bytes; NNCodec {theirs:,} bytes, "
            f"without the {len(levels)} steps ({ours / theirs:.3f})"
        )
    yield from ()


JOBS: dict[Group, Callable[[Config], Iterator[Job]]] = {
    "reports": reports, "decoders": decoders, "needs": needs, "training": training,
    "cached-heads": cached_heads, "pruning": pruning, "shrinking": shrinking, "integers": integers,
    "runtimes": runtimes, "files": files, "peer-files": peer_files, "clusters": clusters,
}  # fmt: skip


def seconds(work: Callable[[], Any] | None) -> float:
    """Wall-clock seconds of one run; NaN where there is no peer."""
    if work is None:
        return float("nan")
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def run(config: Config) -> "pd.DataFrame":
    """A row per job: median seconds of both sides, and the median of the paired ratios."""
    import pandas as pd

    rows = []
    for group in config.only or JOBS:
        for job in JOBS[group](config):
            pairs = [(seconds(job.ours), seconds(job.theirs))]  # the first run warms up
            if not config.smoke and not max(pairs[0]) > 10:
                pairs = [(seconds(job.ours), seconds(job.theirs)) for _ in range(config.repeats)]
            rows.append(
                {
                    "job": job.name,
                    "peer": job.peer,
                    "ours_ms": 1e3 * median(ours for ours, _ in pairs),
                    "peer_ms": 1e3 * median(theirs for _, theirs in pairs),
                    "ratio": median(theirs / ours for ours, theirs in pairs),
                    "goal": job.goal,
                    "runs": len(pairs),
                }
            )
    return pd.DataFrame(rows)


def start(config: Config) -> None:
    """Print the table."""
    import torch
    from rich.table import Table

    from capacity.report import render

    frame = run(config)
    shown = Table()
    for column in frame.columns:
        shown.add_column(column, justify="left" if column in ("job", "peer", "goal") else "right")
    for row in frame.to_dict("records"):
        shown.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()))
    print(render(shown, width=130))
    print(
        f"ratio: peer / ours, above 1 ours is faster; "
        f"torch {torch.__version__}, {torch.get_num_threads()} threads"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    execute(Config, {"default": Config()}, start, arguments)


if __name__ == "__main__":
    main()
