"""Integers in PyTorch and in ONNX Runtime, beside the float network."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from analysis.speed.config import Config
from analysis.speed.timing import Benchmark, say


def integers(config: Config) -> Iterator[Benchmark]:
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
    say(f"{name}: {result.bytes_before / 2**20:.1f} -> {result.bytes_after / 2**20:.2f} MiB as static int8")
    for batch in (1,) if config.smoke else (1, 32):  # each is compiled on its own
        x = torch.randn(batch, *size)
        try:
            fast = compiled(result.model, x)
        except InputError as error:
            say(f"skipped: {error}")
            return

        def plain(x: Any = x) -> None:
            with torch.no_grad():
                model(x)

        yield Benchmark(f"int8 {name}, batch {batch}", "float, eager", "at least 4", partial(fast, x), plain)


def runtimes(config: "Config") -> Iterator[Benchmark]:
    """Dynamic int8, and static int8 in ONNX Runtime, of VGG16-BN beside the float network in eager mode."""
    import torch

    from analysis.lab.measurement.deployment import IntegerKernels
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
        kernels = IntegerKernels(result, size, compiled)
        for batch in (1, 32):
            x = torch.randn(batch, *size)
            run, how = kernels.on(x)
            if run is None:
                say(f"skipped: {scheme} int8 {name}, which only the reference path runs here")
                continue

            def plain(x: Any = x) -> None:
                with torch.no_grad():
                    model(x)

            label = f"{name} as {scheme} int8 in {how}, batch {batch}"
            yield Benchmark(
                label, "float, eager", "at least 4" if scheme == "static" else "above 1", run, plain
            )
