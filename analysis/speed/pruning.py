"""Masks, and networks that really became smaller."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from analysis.lab.measurement.memory import peak_mib
from analysis.speed.config import Config
from analysis.speed.timing import Benchmark, say


def pruning(config: Config) -> Iterator[Benchmark]:
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
    say(
        f"global mask: {different} of {sum(m.numel() for m in other.values()):,} elements differ from "
        f"torch's (ties); peak memory rises by {extra_mib:,.0f} MiB, torch's by {peer_extra_mib:,.0f} MiB"
    )
    yield Benchmark(
        "global L1 mask of VGG16 at 60 %", "torch global_unstructured", "at least 20", ours, theirs
    )


def shrinking(config: Config) -> Iterator[Benchmark]:
    """Forward passes of networks that lost 20 % of their channels, beside the whole ones."""
    import torch

    from analysis.lab.models import create
    from compression.costs import peak_memory_bytes
    from compression.shrinking import shrink

    size, batch = (3, 32, 32), 2 if config.smoke else 32
    for name in ("resnet18",) if config.smoke else ("googlenet", "vgg16bn", "resnet18"):
        dense = create(name, input_size=size, classes=100).eval()
        small = shrink(dense, size, amount=0.2).model.eval()
        peaks = [peak_memory_bytes(model, size, batch_size=batch) / 2**20 for model in (small, dense)]
        say(
            f"{name} shrunk by 20 %, batch {batch}: peak memory of a pass {peaks[0]:.1f} MiB instead of "
            f"{peaks[1]:.1f} MiB ({peaks[0] / peaks[1]:.2f})"
        )
        x = torch.randn(batch, *size)
        ours, theirs = _passes(small, dense, x)
        yield Benchmark(
            f"forward pass of {name} shrunk by 20 %", "the whole network", "above 1", ours, theirs
        )


VECTOR = 16  # float32 numbers in a register of AVX-512


def transformers(config: Config) -> Iterator[Benchmark]:
    """Forward passes of transformers without heads and units of half their FLOPs, beside the whole ones."""
    import torch
    from torch import nn
    from torchvision.models import VisionTransformer

    from analysis.lab.models.language import Block
    from compression.costs import flops
    from compression.shrinking import shrink

    width, depth = (48, 1) if config.smoke else (384, 4)
    ids = torch.randint(96, (4, 128))
    picture = VisionTransformer(64, 8, depth, 6, width, 4 * width, num_classes=100).eval()
    blocks = (Block(width, 6, 8 * width // 3, 128) for _ in range(depth))
    language = nn.Sequential(nn.Embedding(96, width), *blocks, nn.RMSNorm(width), nn.Linear(width, 96)).eval()
    examples: list[tuple[str, nn.Module, Any, torch.Tensor, float]] = [
        ("a vision transformer", picture, (3, 64, 64), torch.randn(8, 3, 64, 64), 0.3),
        ("a Llama-like network", language, ids[:1], ids, 0.5),
    ]
    for name, dense, size, x, amount in examples:
        small = shrink(dense, size, amount=amount, round_to=VECTOR).model.eval()
        left = flops(small, size) / flops(dense, size)
        ours, theirs = _passes(small, dense, x)
        title = f"{name} with {left:.2f} of its FLOPs"
        yield Benchmark(title, "the whole network", "at least 1.6", ours, theirs)


def _passes(small: Any, dense: Any, x: Any) -> tuple[Any, Any]:
    """A forward pass of each on the same batch."""
    import torch

    def run(model: Any) -> None:
        with torch.inference_mode():
            model(x)

    return partial(run, small), partial(run, dense)
