"""Lines that integers decide, to the last digit."""

from collections.abc import Callable, Iterator

from analysis.reproduce.claim import Claim, Verdict

SQUEEZES = (102_772_992, 100_263_992, 97_754_992, 95_245_992, 92_736_992, 90_227_992)


SMALL = ((2, (1,), 3), (2, (2, 1), 8), (2, (2, 2, 1), 10), (3, (5, 2), 25))


STUDENTS = (5_613_668, 7_910_244, 12_303_460, 25_307_492, 24_650_596, 9_271_268, 11_579_428)


CIFAR = (3, 32, 32)


MIB = 2**20


def capacities() -> Iterator[Claim]:
    """Report A's capacities, by its own four rules."""
    from capacity import dense_capacity, measure

    head = dense_capacity(25_088, [4096, 4096, 256, 10])
    yield Claim(
        "A", "capacity of the VGG16 head", "almost 822 million bits", f"{head:,} bits", "wrong",
        f"8 times as much ({8 * head:,}) was published: bytes and bits were confused",
    )  # fmt: skip
    found = tuple(dense_capacity(25_088, [4096 - 100 * k, 4096, 256, 10]) for k in range(6))
    last = f"{found[0]:,} to {found[-1]:,}"
    same: Verdict = "exact" if found == SQUEEZES else "not reproduced"
    yield Claim("A", "capacity along six squeezes of 100", f"{SQUEEZES[0]:,} to {SQUEEZES[-1]:,}", last, same)
    pairs = [(dense_capacity(inputs, list(units)), bits) for inputs, units, bits in SMALL]
    yield Claim(
        "A", "capacity of four small networks", ", ".join(str(bits) for *_, bits in SMALL) + " bits",
        ", ".join(str(ours) for ours, _ in pairs) + " bits",
        "exact" if all(ours == bits for ours, bits in pairs) else "not reproduced",
    )  # fmt: skip
    for name, published, reading in (("vgg16", "528 MB", "MiB"), ("alexnet", "240 MB", "")):
        parameters = measure(_meta(f"torchvision:{name}", 1000), (3, 224, 224)).total_parameters
        size = 4 * parameters
        yield Claim(
            "A", f"memory of {name}", published,
            f"{parameters:,} parameters: {size / MIB:.2f} MiB, {size / 1e6:.2f} MB",
            "exact" if reading else "not reproduced",
            "" if reading else "neither in units of a million bytes nor of 2^20",
        )  # fmt: skip


def parameter_counts() -> Iterator[Claim]:
    """Parameters and bytes of the networks of reports B, C and E."""
    for report, item, name, size, classes, published, mib in (
        ("B", "VGG16 with batch norm", "vgg16bn", CIFAR, 100, 34_015_396, "129.8"),
        ("C", "GoogLeNet", "googlenet", CIFAR, 100, 6_402_564, ""),
        ("E", "ResNet-18 with 10 classes", "torchvision:resnet18", (3, 224, 224), 10, 11_181_642, "42.69"),
        ("E", "five-layer student", "cnn5", (3, 224, 224), 10, 1_359_754, "5.19"),
    ):
        model = _meta(name, classes, size)
        parameters = sum(p.numel() for p in model.parameters())
        stored = sum(t.numel() * t.element_size() for t in model.state_dict().values()) / MIB
        digits = len(mib.partition(".")[2])
        exact = parameters == published and mib in ("", f"{stored:.{digits}f}")
        told = f"{published:,} parameters" + (f", {mib} MB" if mib else "")
        yield Claim(
            report, f"size of {item}", told, f"{parameters:,} parameters, {stored:.2f} MiB",
            "exact" if exact else "not reproduced", "MB stands for 2^20 bytes" if mib else "",
        )  # fmt: skip
    ours = [sum(p.numel() for p in _meta(f"student_v{n}", 100).parameters()) for n in range(1, 8)]
    yield Claim(
        "B", "parameters of students v1 to v7", ", ".join(f"{count:,}" for count in STUDENTS),
        ", ".join(f"{count:,}" for count in ours), "exact" if tuple(ours) == STUDENTS else "not reproduced",
    )  # fmt: skip
    yield Claim(
        "B", "parameters left by 10 % pruning", "33,989,482 (random), 33,723,294 (L1)",
        "one count for one amount", "wrong",
        "the same 10 % of the same layers cannot leave two counts; and masks remove none",
    )  # fmt: skip


def removed_channels() -> Iterator[Claim]:
    """Report C's structured pruning, with the channels really gone."""
    from analysis.lab.models import create
    from compression.costs import flops, peak_memory_bytes
    from compression.shrinking import shrink

    whole = create("googlenet", input_size=CIFAR, classes=100)
    small = shrink(whole, CIFAR, amount=0.2)
    after = small.parameters_after
    left = 1 - after / small.parameters_before
    yield Claim(
        "C", "GoogLeNet without 20 % of its channels", "4.09 M parameters, 16 MB",
        f"{after:,} parameters, {4 * after / MIB:.2f} MiB",
        "exact" if after == 4_089_523 else "not reproduced", f"20 % of the channels are {left:.0%} of them",
    )  # fmt: skip
    before, held = (peak_memory_bytes(model, CIFAR) / MIB for model in (whole, small.model))
    yield Claim(
        "C", "runtime memory without 20 % of the channels", "58.66 to 46.98 MB, 20 % less",
        f"{before:.2f} to {held:.2f} MiB, {1 - held / before:.0%} less", "not reproduced",
        "what was counted is not told; here one picture's activations, without weights, and about the share",
    )  # fmt: skip
    operations = [flops(model, CIFAR) for model in (whole, small.model)]
    yield Claim(
        "C", "time per picture without 20 % of the channels", "15.74 to 16.7 ms, 6 % more",
        f"{1 - operations[1] / operations[0]:.0%} fewer floating-point operations", "not reproduced",
        "it becomes faster where it is timed beside the whole network in one process: see the command",
        "python -m analysis.speed",
    )  # fmt: skip


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
    exact = dynamic.float_parameters == 14_723_136 and round(dynamic.bytes_after / MIB, 2) == 74.65
    yield Claim(
        "B", "static quantization of VGG16", "14,723,136 parameters, 74.7 MB",
        f"static: {static.bytes_after / MIB:.2f} MiB; dynamic: {dynamic.float_parameters:,} parameters stay "
        f"in float, {dynamic.bytes_after / MIB:.2f} MiB",
        "wrong" if exact else "not reproduced", "the figures are exactly those of dynamic quantization",
    )  # fmt: skip
    resnet = create("resnet18", input_size=CIFAR, classes=10).eval()
    lazy = quantize(resnet, scheme="dynamic", input_size=CIFAR)
    count = len(lazy.layers) - len(lazy.left_in_float)
    yield Claim(
        "E", "dynamic quantization of ResNet-18", "size almost unchanged",
        f"{count} of {len(lazy.layers)} layers, {1 - lazy.bytes_after / lazy.bytes_before:.2%} of the bytes",
        "exact", "only the last layer is dense",
    )  # fmt: skip


def _meta(name: str, classes: int, size: tuple[int, ...] = CIFAR):  # type: ignore[no-untyped-def]
    import torch

    from analysis.lab.models import create

    size = (3, 224, 224) if name.startswith("torchvision") else size
    with torch.device("meta"):
        return create(name, input_size=size, classes=classes)


EXACT: tuple[Callable[[], Iterator[Claim]], ...] = (
    capacities, parameter_counts, removed_channels, integers,
)  # fmt: skip
