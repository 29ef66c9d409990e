"""Lines that integers decide, to the last digit."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING

from analysis.lab.measurement.verdict import Estimate, compare, demonstration, exact, matches
from analysis.reproduce.claim import Claim
from capacity.columns import percent

if TYPE_CHECKING:
    from torch import nn

SQUEEZES = (102_772_992, 100_263_992, 97_754_992, 95_245_992, 92_736_992, 90_227_992)


SMALL = ((2, (1,), 3), (2, (2, 1), 8), (2, (2, 2, 1), 10), (3, (5, 2), 25))


STUDENTS = (5_613_668, 7_910_244, 12_303_460, 25_307_492, 24_650_596, 9_271_268, 11_579_428)


CIFAR = (3, 32, 32)


MIB = 2**20


TURNS = 15  # of each network that is timed
GOOGLENET_MS, GOOGLENET_MB = (15.74, 16.7), ("58.66", "46.98")  # whole, and without 20 % of the channels


def capacities() -> Iterator[Claim]:
    """Report A's capacities, by its own four rules."""
    from capacity import dense_capacity, measure

    head = dense_capacity(25_088, [4096, 4096, 256, 10])
    yield Claim(
        "A", "capacity of the VGG16 head", "almost 822 million bits", f"{head:,} bits",
        demonstration(printed=matches(head / 1e6, "822"), corrected=matches(8 * head / 1e6, "822")),
        f"8 times as much is {8 * head:,}: published if bytes and bits were confused",
        source="Section 2",
    )  # fmt: skip
    capacities_ = tuple(dense_capacity(25_088, [4096 - 100 * k, 4096, 256, 10]) for k in range(6))
    last = f"{capacities_[0]:,} to {capacities_[-1]:,}"
    same = exact(capacities_ == SQUEEZES)
    yield Claim(
        "A", "capacity at six tests, 100 units squeezed between them",
        f"{SQUEEZES[0]:,} to {SQUEEZES[-1]:,}", last, same, source="FinalScript.pdf, cell 6", figures=6,
    )  # fmt: skip
    pairs = [(dense_capacity(inputs, list(units)), bits) for inputs, units, bits in SMALL]
    yield Claim(
        "A", "capacity of four small networks", ", ".join(str(bits) for *_, bits in SMALL) + " bits",
        ", ".join(str(ours) for ours, _ in pairs) + " bits",
        exact(*(ours == bits for ours, bits in pairs)),
        source="CapacityEstimator.ipynb, cells 4, 6, 8 and 10", figures=4,
    )  # fmt: skip
    for name, published in (("vgg16", "528"), ("alexnet", "240")):
        parameters = measure(on_meta(f"torchvision:{name}", 1000), (3, 224, 224)).total_parameters
        size = 4 * parameters
        fits = [matches(size / unit, published) for unit in (MIB, 1e6)]
        yield Claim(
            "A", f"memory of {name}", f"{published} MB",
            f"{parameters:,} parameters: {size / MIB:.2f} MiB, {size / 1e6:.2f} MB",
            exact(any(fits)), "" if any(fits) else "neither in units of a million bytes nor of 2^20",
            source="Section 1",
        )  # fmt: skip


def parameter_counts() -> Iterator[Claim]:
    """Parameters and bytes of the networks of reports B, C and E."""
    wide, kd = (3, 224, 224), "Table 1; Knowledge_Distillation.ipynb, cell"
    for report, item, name, size, classes, published, mib, source, figures in (
        ("B", "VGG16 with batch norm", "vgg16bn", CIFAR, 100, "34,015,396", "129.8", "Tables 2 and 4", 2),
        ("C", "GoogLeNet", "googlenet", CIFAR, 100, "6.4 M", "", "its table", 1),
        ("E", "ResNet-18 with 10 classes", "torchvision:resnet18", wide, 10, "", "42.69", f"{kd} 13", 1),
        ("E", "five-layer student", "cnn5", wide, 10, "", "5.19", f"{kd} 14", 1),
    ):  # fmt: skip
        model = on_meta(name, classes, size)
        parameters = sum(p.numel() for p in model.parameters())
        stored = sum(t.numel() * t.element_size() for t in model.state_dict().values()) / MIB
        count, _, millions = published.partition(" ")
        counted = not published or matches(parameters / (1e6 if millions else 1), count)
        same = exact(counted, not mib or matches(stored, mib))
        printed = ", ".join([f"{published} parameters"] * bool(published) + [f"{mib} MB"] * bool(mib))
        yield Claim(
            report, f"size of {item}", printed, f"{parameters:,} parameters, {stored:.2f} MiB",
            same, "MB stands for 2^20 bytes" if mib else "", source=source, figures=figures,
        )  # fmt: skip
    ours = [sum(p.numel() for p in on_meta(f"student_v{n}", 100).parameters()) for n in range(1, 8)]
    yield Claim(
        "B", "parameters of students v1 to v7", ", ".join(f"{count:,}" for count in STUDENTS),
        ", ".join(f"{count:,}" for count in ours), exact(tuple(ours) == STUDENTS),
        source="Tables 2 and 3", figures=7,
    )  # fmt: skip
    yield pruned_parameters()


def pruned_parameters() -> Claim:
    """Report B's two counts, from the layers that its notebook shows as pruned."""
    convolutions, norms = parameters_by_layer()
    random = left_of_a_tenth(sum(convolutions[1:12]) + sum(norms[1:12]))
    ordered = left_of_a_tenth(sum(convolutions[:25]) + sum(norms[:32]))
    return Claim(
        "B", "parameters left by 10 % pruning", "33,989,482 (random), 33,723,294 (L1)",
        f"{random:,} (random), {ordered:,} (L1)", exact(random == 33_989_482, ordered == 33_723_294),
        "two sets of layers, so the criteria were not compared on one",
        source="Table 6; QuantizationAndPruning.ipynb, cells 14 to 19", figures=2,
    )  # fmt: skip


def parameters_by_layer() -> tuple[list[int], list[int]]:
    """Parameters of the convolutions and of the norms of VGG16 by their place among its features."""
    model = on_meta("vgg16bn", 100)
    convolutions, norms = [0] * 42, [0] * 42
    for name, parameter in model.named_parameters():
        part, place, *_ = name.split(".")
        if part == "features":
            layer = model.get_submodule(name.rpartition(".")[0])
            (convolutions if hasattr(layer, "kernel_size") else norms)[int(place)] += parameter.numel()
    return convolutions, norms


def left_of_a_tenth(count: int) -> int:
    """Parameters of VGG16 that are left where a tenth of so many is masked."""
    return sum(p.numel() for p in on_meta("vgg16bn", 100).parameters()) - round(0.1 * count)


def removed_channels() -> Iterator[Claim]:
    """Report C's structured pruning, with the channels really gone."""
    from compression.costs import peak_memory_bytes

    small, network = googlenets()
    after, before = (sum(p.numel() for p in model.parameters()) for model in (small, network))
    yield Claim(
        "C", "GoogLeNet without 20 % of its channels", "4.09 M parameters, 16 MB",
        f"{after:,} parameters, {4 * after / MIB:.2f} MiB",
        exact(after == 4_089_523, matches(after / 1e6, "4.09")),
        f"20 % of the channels are {percent(1 - after / before)} of the parameters", source="its table",
        figures=2,
    )  # fmt: skip
    freed, held = (peak_memory_bytes(model, CIFAR) / MIB for model in (network, small))
    share = 1 - float(GOOGLENET_MB[1]) / float(GOOGLENET_MB[0])
    yield Claim(
        "C", "runtime memory without 20 % of the channels",
        f"{' to '.join(GOOGLENET_MB)} MB, {percent(share)} less",
        f"{freed:.2f} to {held:.2f} MiB, {percent(1 - held / freed)} less",
        exact(*(matches(*pair) for pair in zip((freed, held), GOOGLENET_MB, strict=True))),
        "what was counted is not told; here one picture's activations, without weights",
        source="its table", figures=2,
    )  # fmt: skip


def time_without_channels(turns: int = TURNS) -> Iterator[Claim]:
    """Report C's times of GoogLeNet, whole and without the channels."""
    from compression.costs import flops

    small, network = googlenets()
    operations = [flops(model, CIFAR) for model in (network, small)]
    published = GOOGLENET_MS[1] / GOOGLENET_MS[0]
    measured = relative_time([small, network], CIFAR, turns)
    yield Claim(
        "C", "time per picture without 20 % of the channels",
        f"{GOOGLENET_MS[0]} to {GOOGLENET_MS[1]} ms, {percent(published - 1)} more",
        f"{percent(1 - operations[1] / operations[0])} fewer operations, {measured.mean:.2f} of the time",
        compare(measured, Estimate(published, 0.0), margin=0.1),
        "both networks in turns, a picture at a time on this processor",
        "python -m analysis.speed", source="its table", figures=2,
    )  # fmt: skip


@cache
def googlenets() -> "tuple[nn.Module, nn.Module]":
    """Report C's GoogLeNet without 20 % of its channels, and with all of them."""
    from analysis.lab.models import create
    from compression.shrinking import shrink

    network = create("googlenet", input_size=CIFAR, classes=100)
    return shrink(network, CIFAR, amount=0.2).model, network


def relative_time(models: "Sequence[nn.Module]", size: tuple[int, ...], turns: int) -> Estimate:
    """The first network's time a picture as a part of the second's, in turns.

    The interval is that of their quartiles, and of how far the second differs from itself.
    """
    from functools import partial

    import torch

    from compression.costs import time_calls, wall_ms

    pictures = torch.zeros(1, *size)
    calls = [partial(wall_ms, partial(model.eval(), pictures)) for model in (*models, models[1])]
    first, second, again = time_calls(calls, devices=["cpu"] * 3, batch_size=1, repeats=turns)
    spread = [
        (timed.interquartile_ms[1] - timed.interquartile_ms[0]) / timed.median_ms for timed in (first, second)
    ]
    ratio, itself = first.median_ms / second.median_ms, again.median_ms / second.median_ms
    return Estimate(ratio, ratio * math.hypot(*spread, itself - 1))


def integers() -> Iterator[Claim]:
    """What reports B and E called static quantization."""
    import torch

    from analysis.lab.models import create
    from compression.batches import TensorBatches
    from compression.quantization import quantize

    data = TensorBatches(torch.randn(8, *CIFAR), torch.zeros(8, dtype=torch.long), 8)
    model = create("vgg16bn", input_size=CIFAR, classes=100).eval()
    dynamic = quantize(model, scheme="dynamic", input_size=CIFAR)
    static = quantize(model, scheme="static", input_size=CIFAR, calibration=data)
    fits = [
        done.float_parameters == 14_723_136 and abs(done.bytes_after / MIB - 74.7) < 0.1
        for done in (static, dynamic)
    ]
    yield Claim(
        "B", "static quantization of VGG16", "14,723,136 parameters, 74.7 MB",
        f"static: {static.bytes_after / MIB:.2f} MiB; dynamic: {dynamic.float_parameters:,} parameters stay "
        f"in float, {dynamic.bytes_after / MIB:.2f} MiB",
        demonstration(printed=fits[0], corrected=fits[1]),
        "the figures are exactly those of dynamic quantization" if fits[1] else "",
        source="Table 4; QuantizationAndPruning.ipynb, cells 4 and 5", figures=2,
    )  # fmt: skip
    resnet = create("resnet18", input_size=CIFAR, classes=10).eval()
    lazy = quantize(resnet, scheme="dynamic", input_size=CIFAR)
    names = [layer.name for layer in lazy.layers]
    converted = [name for name in names if name not in lazy.left_in_float]
    yield Claim(
        "E", "dynamic quantization of ResNet-18", "size almost unchanged",
        f"{len(converted)} of {len(names)} layers, "
        f"{percent(1 - lazy.bytes_after / lazy.bytes_before, 2)} of the bytes",
        compare(Estimate(lazy.bytes_after / lazy.bytes_before, 0.0), Estimate(1.0, 0.0), margin=0.01),
        "unchanged within 1 %", source="Section 4.5; dynamic_quantization.ipynb, cells 25 and 26",
    )  # fmt: skip
    yield Claim(
        "E", "layers that dynamic quantization converts", "only the last", ", ".join(converted),
        exact(converted == names[-1:]), f"of {len(names)}, the others convolve",
        source="Section 4.5",
    )  # fmt: skip


@cache
def on_meta(name: str, classes: int, size: tuple[int, ...] = CIFAR) -> "nn.Module":
    """A network of the registry without values, so that the largest costs nothing; made once."""
    import torch

    from analysis.lab.models import create

    size = (3, 224, 224) if name.startswith("torchvision") else size
    with torch.device("meta"):
        return create(name, input_size=size, classes=classes)


EXACT: tuple[Callable[[], Iterator[Claim]], ...] = (
    capacities, parameter_counts, removed_channels, time_without_channels, integers,
)  # fmt: skip
