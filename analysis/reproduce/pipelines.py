"""How report E says that it read, trained, pruned and timed, beside what its public notebooks do.

The settings below stand in github.com/singh96aman/Compression-of-Deep-Neural-Networks.
"""

from collections.abc import Callable, Iterator

from analysis.lab.measurement.verdict import demonstration, exact, matches
from analysis.reproduce.claim import Claim
from analysis.reproduce.exact import on_meta
from analysis.reproduce.notebooks import DYNAMIC_TRAIN, LATENCIES_MS
from capacity.columns import percent
from compression.costs import flops

TRAINED_ON, VALIDATED, TESTED = 42_000, 8_000, 10_000  # pictures
DOWNLOADED = 170_498_071  # bytes
PRETRAINED, OPTIMIZER, CRITERION, EPOCHS = True, "Adam", "CrossEntropyLoss", 10
GROUPS = ("base", "final")  # whose parameters its optimizer holds, of a network of base, dropout and final
RATE, STEP, FACTOR = 1e-4, 1, 0.1  # of the base; epochs after which it falls, and to which part
TEACHER = {"rate": RATE, "falls after epochs": STEP, "test pictures": "upright"}
STUDENT = {"rate": 1e-3, "falls after epochs": 100, "test pictures": "turned and mirrored"}
PRUNING = "global_unstructured"
BATCHES, BATCH = 20, 64  # that an epoch of dynamic int8 reads
CELL_SECONDS = (22.7, 23.0, 24.6)  # wall time of the cells that time LATENCIES_MS
SIZES_MB = {"pruning": 17.08, "static int8": 10.79, "distillation": 5.19}
BASE_MB, MEASURES = 42.69, {"pruning": "60", "static int8": "74.72", "distillation": "87.84"}


def pictures_of_report_e() -> Iterator[Claim]:
    """Report E's sentences about CIFAR-10 and how it was read."""
    import inspect

    from torchvision.datasets import CIFAR10

    pictures = TRAINED_ON + VALIDATED + TESTED
    yield Claim(
        "E", "pictures of CIFAR-10", "over 60,000", f"{pictures:,}",
        demonstration(printed=pictures > 60_000, corrected=pictures == 60_000),
        f"{TRAINED_ON:,} to train, {VALIDATED:,} to validate, {TESTED:,} to test",
        source="Section 4.1; training_CIFAR10.ipynb, cell 2",
    )  # fmt: skip
    yield Claim(
        "E", "size of CIFAR-10", "roughly 170MB", f"{DOWNLOADED / 1e6:.1f} MB",
        exact(matches(DOWNLOADED / 1e6, "170")), "of the archive that its notebook downloads",
        source="Section 4.1; training_CIFAR10.ipynb, cell 2",
    )  # fmt: skip
    reader = inspect.getsource(CIFAR10).lower()
    yield Claim(
        "E", "labels of its pictures", "parsed from XML files", "pickled arrays",
        demonstration(printed="xml" in reader, corrected="pickle" in reader),
        "each notebook reads torchvision's CIFAR10; ImageNet, which it gave up, has labels in XML",
        source="Sections 4.1 and 4.2; training_CIFAR10.ipynb, cell 2",
    )  # fmt: skip
    more = operations_at(224) / operations_at(32)
    yield Claim(
        "E", "pictures resized to 224", "to adjust to computation limitations", f"{more:.0f} times the work",
        demonstration(printed=more < 1, corrected=more > 1),
        "ResNet-18's operations at 224 pixels beside those at the 32 that CIFAR-10 has",
        source="Section 4.3; training_CIFAR10.ipynb, cell 2",
    )  # fmt: skip
    met = [trained_on(anew=anew) for anew in (True, False)]
    yield Claim(
        "E", "validation pictures", "split from the training set", f"{percent(met[0])} were trained on",
        demonstration(printed=met[0] == 0, corrected=met[1] == 0),
        "each notebook draws its split anew and loads weights trained on another; from one seed "
        f"{percent(met[1])} would be",
        source="Section 4.3; training_CIFAR10_unstructured_pruning.ipynb, cells 2 and 7",
    )  # fmt: skip


def operations_at(pixels: int) -> int:
    """Operations of ResNet-18 on a picture of so many pixels a side."""
    return flops(on_meta("torchvision:resnet18", 10), (3, pixels, pixels))


def trained_on(*, anew: bool) -> float:
    """Which part of a second notebook's validation pictures the first trained on; `anew`: by another seed."""
    import torch
    from torch.utils.data import TensorDataset, random_split

    pictures = TensorDataset(torch.arange(TRAINED_ON + VALIDATED))
    first, second = (
        random_split(pictures, [TRAINED_ON, VALIDATED], torch.Generator().manual_seed(seed))
        for seed in (0, 1 if anew else 0)
    )
    learned = {*first[0].indices}
    return sum(index in learned for index in second[1].indices) / VALIDATED


def training_of_report_e() -> Iterator[Claim]:
    """Report E's sentences about its two trainings."""
    model = on_meta("torchvision:resnet18", 10)
    last = sum(parameter.numel() for parameter in model.get_submodule("fc").parameters())
    total = sum(parameter.numel() for parameter in model.parameters())
    held = {"base": total - last, "final": last}
    yield Claim(
        "E", "training of ResNet-18", "pre-trained; all layers, by Adam, on cross-entropy, for ten epochs",
        f"{sum(held[name] for name in GROUPS):,} of {total:,} parameters, by {OPTIMIZER}, {EPOCHS} epochs",
        exact(PRETRAINED, sum(held[name] for name in GROUPS) == total, OPTIMIZER == "Adam",
              CRITERION == "CrossEntropyLoss", EPOCHS == 10),
        "from weights of ImageNet, the base at a tenth of the last layer's rate",
        source="Sections 4.2 and 4.3; training_CIFAR10.ipynb, cells 3 to 5", figures=5,
    )  # fmt: skip
    rates = rates_of_epochs()
    early = sum(rates[:2]) / sum(rates)
    yield Claim(
        "E", "the learning rate decays gradually", "gradually", f"to {rates[-1] / rates[0]:.0e} of the first",
        exact(rates[-1] / rates[0] > 0.01),
        f"a tenth is left after each epoch, so that the first two of {EPOCHS} hold {percent(early)} of the "
        "steps; gradual would leave a hundredth at the end",
        source="Section 4.3; training_CIFAR10.ipynb, cell 4",
    )  # fmt: skip
    other = [name for name in TEACHER if TEACHER[name] != STUDENT[name]]
    yield Claim(
        "E", "pipelines of student and teacher", "the same",
        f"differ in {len(other)} of {len(TEACHER)} settings", exact(not other),
        "; ".join(f"{name}: {STUDENT[name]} in place of {TEACHER[name]}" for name in other),
        source="Section 4.6; Knowledge_Distillation.ipynb, cells 1, 4 and 6; training_CIFAR10.ipynb, cells 2 "
        "and 4",
    )  # fmt: skip


def rates_of_epochs() -> list[float]:
    """The learning rate of each of the teacher's epochs, by the scheduler that its notebook makes."""
    import torch

    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=RATE)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, STEP, FACTOR)
    rates = []
    for _ in range(EPOCHS):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return rates


def pruning_of_report_e() -> Iterator[Claim]:
    """What report E says that it pruned, and how."""
    model = on_meta("torchvision:resnet18", 10)
    listed = [name for name, _ in model.named_parameters() if not name.startswith("fc.")]
    kernels = [name for name in listed if model.get_parameter(name).dim() == 4]
    local = PRUNING.startswith(("local", "l1_", "random_"))
    yield Claim(
        "E", "what is pruned, and within what", "weights of convolutions, locally",
        f"{len(kernels)} kernels and {len(listed) - len(kernels)} scales and shifts of norms, as one",
        demonstration(printed=local and listed == kernels, corrected=not local and listed != kernels),
        f"its notebooks call {PRUNING} on a list that holds both",
        source="Section 4.4; training_CIFAR10_unstructured_pruning.ipynb, cells 12 to 16", figures=2,
    )  # fmt: skip


def integers_of_report_e() -> Iterator[Claim]:
    """Report E's sentences about its int8 networks."""
    yield Claim(
        "E", "what static int8 converts", "weights, activations and biases", "no biases",
        demonstration(printed=bias_bytes() == 1, corrected=bias_bytes() == 4),
        f"a bias of PyTorch's static int8 takes {bias_bytes()} bytes",
        source="Section 4.5; static_quantization.ipynb, cell 10",
    )  # fmt: skip
    yield Claim(
        "E", "pictures and epochs of dynamic int8", "1,280 and 15",
        f"{BATCHES * BATCH:,} and {len(DYNAMIC_TRAIN)}",
        exact(BATCHES * BATCH == 1_280, len(DYNAMIC_TRAIN) == 15), f"{BATCHES} batches of {BATCH}",
        source="Section 4.5; dynamic_quantization.ipynb, cells 16 and 17", figures=2,
    )  # fmt: skip


def bias_bytes() -> int:
    """Bytes of a bias in the layer that PyTorch's static int8 puts in place of a dense one."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.ao.nn.quantized import Linear

        bias = Linear(4, 2).bias()
    return int(bias.element_size())


def measures_of_report_e() -> Iterator[Claim]:
    """Report E's measures as it words them."""
    shares = {name: size / BASE_MB for name, size in SIZES_MB.items()}
    yield Claim(
        "E", "compression measure", "compressed size to baseline's size", "1 - size / baseline",
        demonstration(
            printed=all(matches(100 * share, MEASURES[name]) for name, share in shares.items()),
            corrected=all(matches(100 * (1 - share), MEASURES[name]) for name, share in shares.items()),
        ),
        "by its words they would be " + ", ".join(percent(share, 2) for share in shares.values()),
        source="Section 4.7; Table 1",
    )  # fmt: skip
    left = 100 * shares["pruning"]
    yield Claim(
        "E", "the pruned network in parts of the dense network", "40 %", f"{left:.1f} %",
        exact(matches(left, "40")), "of its own sizes, of which 17.08 MB was never written",
        source="Section 5",
    )  # fmt: skip
    parts = [
        latency * TESTED / 1e3 / seconds for latency, seconds in zip(LATENCIES_MS, CELL_SECONDS, strict=True)
    ]
    yield Claim(
        "E", "what latency is", "time to predict a new point",
        f"the whole cell: {', '.join(f'{seconds}' for seconds in CELL_SECONDS)} s",
        demonstration(
            printed=max(parts) < 0.5, corrected=all(abs(part - 1) < 0.005 for part in parts)
        ),
        f"one pass over the loader in batches of {BATCH}, with reading and resizing, divided by {TESTED:,}",
        source="Section 4.7; training_CIFAR10.ipynb, static_quantization.ipynb and "
        "dynamic_quantization.ipynb, cell 8 each",
    )  # fmt: skip


PIPELINES: tuple[Callable[[], Iterator[Claim]], ...] = (
    pictures_of_report_e, training_of_report_e, pruning_of_report_e, integers_of_report_e,
    measures_of_report_e,
)  # fmt: skip
