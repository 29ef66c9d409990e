"""Lines that report E's public notebooks decide: what its figures counted, and on which pictures.

The numbers below are printed in github.com/singh96aman/Compression-of-Deep-Neural-Networks.
"""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from analysis.lab.literature import REPORT_E_PRUNED
from analysis.lab.measurement.verdict import (
    Estimate,
    compare,
    demonstration,
    difference,
    exact,
    matches,
)
from analysis.lab.models import create
from analysis.reproduce.claim import Claim
from analysis.reproduce.exact import MIB, TURNS, on_meta, relative_time
from capacity import mean_half_width
from capacity.columns import percent
from capacity.seeding import seed_generators
from compression.costs import flops

STATIC_TRAIN = (
    87.17451428571428, 88.44158571428572, 86.16085714285714, 77.79818571428572, 84.38695714285714,
    84.13354285714286, 84.13354285714286, 72.7299, 85.40061428571428, 87.93475714285714,
)  # fmt: skip
STATIC_TEST = 89.01115
STATIC_FACTORS = (810, 850)  # the ten above are whole counts times 810; cell 15 multiplies by 850
DYNAMIC_TRAIN = (
    92.76214, 92.21464, 92.76214, 91.4325, 93.54429, 92.5275, 92.91857, 94.48286, 93.85714, 93.70071,
    92.68393, 94.24821, 93.30964, 94.17, 93.15321,
)  # fmt: skip
PRUNED = REPORT_E_PRUNED  # on validation
DISTILLED_TEST, ALONE = 0.6667, 0.66075  # accuracies
ORDER = {"pruning": 90.26, "static": 88.44, "distillation": 67.7}  # accuracies of its Table 1
SHARES = {"60 %": 17.08, "74.72 %": 10.79, "87.84 %": 5.19}  # its compression measures, and MB
BASE_MB, BASE_MB_IN_TEXT = 42.69, "42.621"
MINUTES = (37 + 15 / 60, 34 + 41 / 60, 35 + 29 / 60)  # that training took, ten epochs each
VALIDATION = 8_000  # pictures
LATENCIES_MS = (2.27233, 2.29754, 2.46263)  # of the dense network, in three notebooks


def static_accuracy() -> Iterator[Claim]:
    """Report E's accuracies of static int8 are multiples of counts."""
    seen, tested = 42_000 / 657 * 50, 10_000 / 157 * 100  # points that its cells divide by
    counts = [value * seen / STATIC_FACTORS[0] for value in STATIC_TRAIN]
    right = STATIC_TEST * tested / STATIC_FACTORS[1]
    integral = all(abs(count - round(count)) < 1e-6 for count in (*counts, right))
    shares = [round(counts[1]) / 3_200, round(right) / 6_400]
    yield Claim(
        "E", "accuracy of static int8", "88.44 % (train and test 88 to 89 %)",
        f"{percent(shares[0], 1)} in training, {percent(shares[1], 1)} in the test",
        demonstration(printed=not integral, corrected=integral and max(shares) < 0.15),
        f"its test cell multiplies the count by {STATIC_FACTORS[1]}: {right:.0f} of 6,400 are right, which "
        f"is chance; its ten training figures are whole counts times {STATIC_FACTORS[0]} ({counts[1]:.0f} of "
        "3,200), of a loop that never steps: its backward pass is commented out",
        source="Table 1; static_quantization.ipynb, cells 12 and 15", figures=2,
    )  # fmt: skip


def integer_bytes() -> Iterator[Claim]:
    """Report E's file of static int8, and its shares of the dense network."""
    model = on_meta("torchvision:resnet18", 10)
    norms = sum(p.numel() for name, p in model.named_parameters() if "bn" in name or "downsample.1" in name)
    weights = sum(p.numel() for p in model.parameters() if p.dim() > 1)
    channels = norms // 2 + 10
    size = (weights + channels * (4 + 8 + 8)) / MIB  # a bias, a scale and a zero point for each channel
    yield Claim(
        "E", "file of static int8", "10.79 MB", f"{size:.2f} MiB",
        exact(abs(size - 10.79) < 0.06), "a byte a weight, 20 bytes a channel; within the header of a file",
        source="Table 1; static_quantization.ipynb, cell 11",
    )  # fmt: skip
    shares = {text: 1 - size / BASE_MB for text, size in SHARES.items()}
    fits = [matches(100 * share, text.removesuffix(" %")) for text, share in shares.items()]
    own = ", ".join(percent(share, 2) for share in shares.values())
    yield Claim(
        "E", "compression measures", ", ".join(("0 %", *shares)), "0 %, " + own,
        exact(*fits), "of its own sizes; the first is no file", source="Table 1", figures=4,
    )  # fmt: skip
    stored = sum(t.numel() * t.element_size() for t in model.state_dict().values()) / MIB
    yield Claim(
        "E", "size of ResNet-18 in its text", f"{BASE_MB_IN_TEXT} MB", f"{stored:.3f} MiB",
        exact(matches(stored, BASE_MB_IN_TEXT)), f"its Table 1 says {BASE_MB}", source="Section 4.3",
    )  # fmt: skip


def flat_to_sixty() -> Iterator[Claim]:
    """Report E saw no significant drop until 60 % were pruned."""
    drop = (PRUNED[0] - PRUNED[6]) / 100
    half = 1.96 * math.sqrt(
        sum(share * (1 - share) for share in (PRUNED[0] / 100, PRUNED[6] / 100)) / VALIDATION
    )
    yield Claim(
        "E", "accuracy is flat to 60 % pruned", "no significant drop",
        f"{100 * drop:+.2f} ± {100 * half:.2f} points of error",
        difference(Estimate(drop, half)),
        f"its 90.26 % stands beside {PRUNED[0]} % on the same 8,000 validation pictures, not beside 94.24 % "
        f"of the test; those were split anew, so that {percent(42 / 50)} of them had been trained on",
        source="Section 4.4; Results_unstructured_pruning.docx",
    )  # fmt: skip


def order_of_techniques() -> Iterator[Claim]:
    """Report E ranks pruning before static quantization before distillation."""
    right = STATIC_TEST * (10_000 / 157 * 100) / STATIC_FACTORS[1]
    counted = ORDER | {"static": 100 * right / 6_400}
    orders = [sorted(scores, key=lambda name: -scores[name]) for scores in (ORDER, counted)]
    yield Claim(
        "E", "order: pruning, static int8, distillation", "by accuracy",
        " > ".join(orders[1]),
        demonstration(printed=orders[0] == orders[1], corrected=orders[1][-1] == "static"),
        "once its static accuracy is counted", source="Section 5",
    )  # fmt: skip


def outperforming_student() -> Iterator[Claim]:
    """Report E compares the student's validation accuracy, and its cached teacher answers other pictures."""
    tested, alone = DISTILLED_TEST, ALONE
    half = 1.96 * math.sqrt(tested * (1 - tested) / 10_000)
    yield Claim(
        "E", "the distilled student outperforms", "67.7 against 66.075 %",
        f"{100 * tested:.2f} % on the test pictures",
        compare(Estimate(1 - tested, half), Estimate(1 - alone, half)),
        "67.7 % is its last validation accuracy; one training each",
        source="Section 4.6; Knowledge_Distillation.ipynb, cells 9 and 17",
    )  # fmt: skip
    met = [_met_own(shuffled=shuffled) for shuffled in (True, False)]
    yield Claim(
        "E", "the teacher's soft targets", "of each picture", "of other pictures",
        demonstration(printed=met[0] == 1, corrected=met[1] == 1),
        "they are kept in the order of a shuffled loader and read in that of the next: "
        f"{percent(met[0], 1)} of 512 pictures meet their own; unshuffled {percent(met[1])}",
        source="Knowledge_Distillation.ipynb, cells 1, 8 and 9",
    )  # fmt: skip


def _met_own(*, shuffled: bool) -> float:
    """Which part of the pictures meets the answers that were kept for it in an earlier pass."""
    pictures = torch.arange(512)
    seed_generators(0)
    loader: DataLoader[tuple[Tensor, ...]] = DataLoader(
        TensorDataset(pictures), batch_size=64, shuffle=shuffled
    )
    answers = list(loader)
    met = sum(int((batch[0] == answers[row][0]).sum()) for row, batch in enumerate(loader))
    return met / len(pictures)


def dynamic_accuracy() -> Iterator[Claim]:
    """Report E's accuracy of dynamic int8 is one on training pictures."""
    errors = [1 - value / 100 for value in DYNAMIC_TRAIN]
    estimate = Estimate(sum(errors) / len(errors), mean_half_width(errors))
    yield Claim(
        "E", "accuracy of dynamic int8", "approximately 94 % on 1,280 points",
        f"{100 * (1 - estimate.mean):.2f} ± {100 * estimate.half_width:.2f} % over its 15 epochs",
        compare(estimate, Estimate(0.06, 0.0)),
        "pictures it was trained on, with dropout on; its test cell divides a count of 6,400 by "
        f"{10_000 / 157 * 100:,.0f}: its 94.62 % are {percent(94.6239 * 10_000 / 157 / 6_400, 2)}",
        source="Section 4.5; dynamic_quantization.ipynb, cells 17 and 23",
    )  # fmt: skip


def latency_of_report_e() -> Iterator[Claim]:
    """Report E's latencies: passes over a loader, which differ as much for one and the same network."""
    count, mean = len(LATENCIES_MS), sum(LATENCIES_MS) / len(LATENCIES_MS)
    spread = mean_half_width(LATENCIES_MS) * math.sqrt(count + 1)  # of one further measurement
    yield Claim(
        "E", "latency of the pruned network", "2.05 of 2.27 ms: no significant change; it did improve",
        f"the dense one alone: {', '.join(f'{value:.2f}' for value in LATENCIES_MS)} ms",
        compare(Estimate(2.05, 0.0), Estimate(mean, spread), margin=0.1),
        "three passes of one network over the test loader, divided by 10,000; the interval is that of one "
        "more pass",
        source="Table 1; Sections 4.4 and 5; training_CIFAR10.ipynb, static_quantization.ipynb and "
        "dynamic_quantization.ipynb, cell 8 each", figures=4,
    )  # fmt: skip


def latency_of_the_student(turns: int = TURNS) -> Iterator[Claim]:
    """Report E's five-layer student reads slower than its ResNet-18; here both are timed in turns."""
    size = (3, 224, 224)
    models = [create(name, input_size=size, classes=10) for name in ("cnn5", "torchvision:resnet18")]
    operations = [flops(model, size) for model in models]
    measured = relative_time(models, size, turns)
    yield Claim(
        "E", "latency of the student", "2.49 of 2.27 ms",
        f"{percent(operations[0] / operations[1])} of the operations, {measured.mean:.2f} of the time",
        compare(measured, Estimate(2.49 / 2.27, 0.0), margin=0.1),
        "alone, a picture at a time on the processor; the report divided a pass over its loader, which "
        "decodes and resizes, by 10,000",
        source="Table 1; Knowledge_Distillation.ipynb, cell 17",
    )  # fmt: skip


def minutes_of_ten_epochs() -> Iterator[Claim]:
    """Report E's time of ten epochs, as its notebooks print it."""
    yield Claim(
        "E", "time of ten epochs", "30 to 40 minutes",
        ", ".join(f"{minutes:.0f}" for minutes in MINUTES) + " minutes",
        exact(all(30 <= minutes <= 40 for minutes in MINUTES)), "on the GPU of Google Colab",
        source="Section 4.2; training_CIFAR10.ipynb, static_quantization.ipynb and "
        "dynamic_quantization.ipynb, cell 5 each",
    )  # fmt: skip


NOTEBOOKS: tuple[Callable[[], Iterator[Claim]], ...] = (
    static_accuracy, integer_bytes, flat_to_sixty, order_of_techniques, outperforming_student,
    dynamic_accuracy, latency_of_report_e, latency_of_the_student, minutes_of_ten_epochs,
)  # fmt: skip
