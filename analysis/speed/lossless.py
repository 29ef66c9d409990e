"""Dense floating-point numbers without loss: bytes and seconds, beside general and special coders."""

from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from analysis.speed.config import Config
from analysis.speed.peers import read
from analysis.speed.timing import Benchmark, say, seconds
from capacity.columns import percent

if TYPE_CHECKING:
    from torch import Tensor

Coder = tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]  # there and back


def lossless(config: Config) -> Iterator[Benchmark]:
    """A network trained on MNIST, in two types, as a share of its bytes; then reading against zstd."""
    import torch

    tensors = _trained(config)
    for dtype in (torch.float32, torch.bfloat16) if tensors else ():
        say(_shares("LeNet-300-100 trained on MNIST", [t.to(dtype) for t in tensors]))
    generator = torch.Generator().manual_seed(0)
    rows = 32 if config.smoke else 4096
    normal = torch.randn(rows, 4096, generator=generator) / 64
    for dtype in (torch.float32, torch.bfloat16):
        yield from _reading(normal.to(dtype))


def _trained(config: Config) -> "list[Tensor]":
    """The matrices of a trained network; none without its data."""
    from analysis.lab.models import create
    from compression.training import TrainingSettings, fit

    if (mnist := read("mnist", config)) is None:
        return []
    train = mnist.train.take(slice(0, 1000 if config.smoke else None))
    model = create("lenet300", input_size=(1, 28, 28), classes=10)
    settings = TrainingSettings(epochs=1 if config.smoke else 5)
    model = fit(model, train.batches(128, shuffle=True), settings=settings).model
    return [p.detach() for p in model.parameters() if p.dim() > 1]


def _shares(name: str, tensors: "list[Tensor]") -> str:
    """What ours and each peer that is installed make of the very same bytes; each is read back."""
    from compression.codec.packing import pack

    content = b"".join(_bytes(tensor) for tensor in tensors)
    shares = {"ours": percent(sum(len(pack(tensor)) for tensor in tensors) / len(content), 1)}
    for peer, (there, back) in _peers(tensors[0]).items():
        packed = there(content)
        same = bytes(back(packed)) == content
        shares[peer] = percent(len(packed) / len(content), 1) if same else "reads other bytes back"
    kind = str(tensors[0].dtype).removeprefix("torch.")
    return f"{name}, {kind}: " + ", ".join(f"{who} {share}" for who, share in shares.items())


def _reading(tensor: "Tensor") -> Iterator[Benchmark]:
    from compression.codec.packing import pack
    from compression.codec.unpacking import unpack

    content = _bytes(tensor)
    kind = str(tensor.dtype).removeprefix("torch.")
    name = f"read {len(content) / 2**20:.3g} MiB of normal weights, {kind}"
    packed = pack(tensor)
    ours = partial(unpack, memoryview(packed), tensor.dtype, tensor.shape)
    ours()  # what is loaded once is no reading
    say(f"{name}: {percent(len(packed) / len(content), 1)}, {len(content) / seconds(ours) / 1e6:,.0f} MB/s")
    for peer, (there, back) in _peers(tensor).items():
        goal = "200 MB/s" if peer == "zstd -19" else "above 1"
        yield Benchmark(name, peer, goal, ours, partial(back, there(content)))


def _bytes(tensor: "Tensor") -> bytes:
    import torch

    content: bytes = tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    return content


def _peers(tensor: "Tensor") -> dict[str, Coder]:
    """Coders that are installed: zstd at its level 19, ZipNN for this type, and xz, which Python has."""
    import lzma

    peers: dict[str, Coder] = {"xz": (partial(lzma.compress, preset=6), lzma.decompress)}
    if find_spec("zstandard") is None:
        say('skipped: zstandard is not installed (pip install "deepcapacity[peers]")')
    else:
        from zstandard import ZstdCompressor, ZstdDecompressor

        peers["zstd -19"] = (ZstdCompressor(level=19).compress, ZstdDecompressor().decompress)
    if find_spec("zipnn") is None:
        say("skipped: zipnn is not installed (pip install zipnn)")
    else:
        from zipnn import ZipNN

        kind = str(tensor.dtype).removeprefix("torch.")
        options: dict[str, Any] = {"bytearray_dtype": kind, "input_format": "byte", "threads": 1}
        coder = ZipNN(**options)  # which writes into the bytes that it is given
        peers["ZipNN"] = (lambda content: coder.compress(bytes(bytearray(content))), coder.decompress)
    return peers
