"""Lines that the reports' own printed numbers decide: sums, shares, orders and units that must agree."""

from collections.abc import Callable, Iterator

from analysis.lab.literature import REPORT_B
from analysis.lab.measurement.verdict import demonstration, exact, matches
from analysis.reproduce.claim import Claim
from analysis.reproduce.exact import CIFAR, MIB, STUDENTS, on_meta
from capacity.columns import percent

FILE_SIZES = ("21.4", "30.2", "47", "96.6", "94.1", "35.4", "44.2")  # of the students v1 to v7
CORRECT, FIGURE_BITS = (9_265, 9_585), "8.22"  # of report A's Figure 1: images; its capacity, in 1e8
ACCURACIES, LEAST_BITS = (
    (0.9200, 0.9493),
    90_227_992,
)  # of report A's tests: least, best; after the last squeeze
VGG_FILE_MB = 132.9
SECONDS, NOTEBOOK_SECONDS = (
    ("53.756", "45.890"),
    (65.756, 59.890),
)  # of report B: 10,000 pictures, float and int8
MILLISECONDS, FIRST_MS = ("5.376", "4.589"), (123.578, 45.054)  # of a picture; of one random input
DENSE, QUANTIZED, PRUNED = 0.2887, 0.2889, (0.6559, 0.4242)  # errors of report B
GOOGLENET_MILLIONS = (6.4, 4.09)  # of report C, whole and without 20 % of its channels
GOOGLENET_FILE_MB = "25"
CIFAR_ACCURACIES = (69.72, 58.55)  # of report D's teacher and student


def kappa_of_the_report() -> Iterator[Claim]:
    """Report A calls its kappa large, and prints a formula by which it would be small."""
    agreed, by_chance = round(ACCURACIES[1], 2), 0.1  # of ten classes, drawn as often
    kappa = (agreed - by_chance) / (1 - by_chance)
    printed = (1 - agreed) / (1 - by_chance)
    yield Claim(
        "A", "its own kappa", "not calculated, rather large, from an accuracy of around 0.95", f"{kappa:.3f}",
        exact(kappa > 0.8, matches(ACCURACIES[1], "0.95")),
        f"from an accuracy of {agreed} and ten classes alike; by the formula printed it is {printed:.3f}",
        source="Question 3; FinalScript.pdf, cell 6", figures=2,
    )  # fmt: skip


def figure_of_report_a() -> Iterator[Claim]:
    """Report A's Figure 1: images of its test set, over eight times the bits."""
    from capacity import dense_capacity

    least, best = ACCURACIES
    shares = {total: (CORRECT[0] / total, CORRECT[1] / total) for total in (10_000, 70_000)}
    meets = {total: share[0] <= best and share[1] >= least for total, share in shares.items()}
    yield Claim(
        "A", "images counted in its Figure 1", "those of a testing corpus",
        f"{CORRECT[0]:,} to {CORRECT[1]:,} right: " + " or ".join(
            f"{percent(low, 1)} to {percent(high, 1)} of {total:,}" for total, (low, high) in shares.items()
        ),
        exact(meets[10_000], not meets[70_000]),
        f"its script prints accuracies of {least:.4f} to {best:.4f} on 10,000; the caption names all 70,000",
        source="Section 1; Figure 1; FinalScript.pdf, cell 6", figures=2,
    )  # fmt: skip
    head = dense_capacity(25_088, [4096, 4096, 256, 10])
    yield Claim(
        "A", "largest capacity in its Figure 1", f"{FIGURE_BITS} x 10^8",
        f"{head / 1e8:.4f} x 10^8 bits",
        demonstration(
            printed=matches(head / 1e8, FIGURE_BITS), corrected=matches(8 * head / 1e8, FIGURE_BITS)
        ),
        "8 times as much, as in its text", source="Figure 1",
    )  # fmt: skip
    ratio = best * 10_000 / LEAST_BITS
    yield Claim(
        "A", "generalization ratio rho = N / C", "very low, however high the accuracy",
        f"{ratio:.3g} images a bit after the last squeeze", exact(ratio < 1),
        "below one image a bit even where all 10,000 are right", source="Section 1; Question 6",
    )  # fmt: skip


def file_sizes() -> Iterator[Claim]:
    """Report B's files: the students' in units of 2^20 bytes, VGG16's in thousands of 2^10."""
    stored = [_stored(f"student_v{n}") for n in range(1, 8)]
    shown = ", ".join(f"{size / MIB:.2f}" for size in stored)
    fits = [abs(size / MIB - float(printed)) < 0.06 for size, printed in zip(stored, FILE_SIZES, strict=True)]
    yield Claim(
        "B", "files of students v1 to v7", ", ".join(FILE_SIZES) + " MB", f"{shown} MiB", exact(*fits),
        "within the header of a file", source="Tables 2 and 3", figures=7,
    )  # fmt: skip
    original = _stored("vgg16bn")
    in_units = [abs(original / unit - VGG_FILE_MB) < 0.06 for unit in (MIB, 1e6, 1024 * 1000)]
    yield Claim(
        "B", "file of VGG16", f"{VGG_FILE_MB} MB", f"{original / MIB:.2f} MiB, {original / 1e6:.2f} MB",
        demonstration(printed=in_units[0] or in_units[1], corrected=in_units[2]),
        f"{original / 1024:,.0f} KiB: thousands of 1,024 bytes, beside 129.8 MB in its own text",
        source="Table 2", figures=1,
    )  # fmt: skip


def _stored(name: str) -> int:
    return sum(t.numel() * t.element_size() for t in on_meta(name, 100).state_dict().values())


def times_of_report_b() -> Iterator[Claim]:
    """Report B's times agree with each other; its words about them and its notebook do not all."""
    original, small = map(float, SECONDS)
    saved = 1 - small / original
    ours = " and ".join(f"{seconds:.3f}" for seconds in NOTEBOOK_SECONDS)
    yield Claim(
        "B", "time for the 10,000 test pictures", " and ".join(SECONDS) + " s", f"{ours} s in its notebook",
        exact(*(matches(*pair) for pair in zip(NOTEBOOK_SECONDS, SECONDS, strict=True))),
        f"by the notebook {percent(1 - NOTEBOOK_SECONDS[1] / NOTEBOOK_SECONDS[0])} less",
        source="Table 5; Benchmark.ipynb, cells 12 and 13", figures=2,
    )  # fmt: skip
    yield Claim(
        "B", "time per test picture", " and ".join(MILLISECONDS) + " ms, around 15 % less",
        f"{original / 10:.3f} and {small / 10:.3f} ms, {percent(saved, 1)} less",
        exact(*(matches(float(a) / 10, b) for a, b in zip(SECONDS, MILLISECONDS, strict=True)),
              abs(saved - 0.15) < 0.005),
        "from its seconds for 10,000 pictures", source="Table 5", figures=3,
    )  # fmt: skip
    first = 1 - FIRST_MS[1] / FIRST_MS[0]
    yield Claim(
        "B", "time for one random input", f"no major reduction: {FIRST_MS[0]} to {FIRST_MS[1]} ms",
        f"{percent(first)} less",
        demonstration(printed=abs(first) < 0.15, corrected=first > 0.15),
        "each is the first call of its network, profiled: what is made ready once counts in the first",
        source="Table 5; Benchmark.ipynb, cells 6 to 10", figures=2,
    )  # fmt: skip


def words_of_report_b() -> Iterator[Claim]:
    """Report B's sentences about its own table."""
    top1 = {name: pair[0] for name, pair in REPORT_B.items()}
    first = dict(list(top1.items())[:5])
    sizes = dict(zip(top1, STUDENTS, strict=True))
    order = sorted(first, key=lambda name: -sizes[name])
    best = min(first, key=lambda name: first[name])
    yield Claim(
        "B", "the fourth largest student is the best", "v2", best, exact(order[3] == "v2", best == "v2"),
        "of the first five", source="Section 6.1.1",
    )  # fmt: skip
    gap = QUANTIZED - DENSE
    yield Claim(
        "B", "error after quantization", f"down a little: {DENSE} to {QUANTIZED}",
        f"{'up' if gap > 0 else 'down'} by {100 * abs(gap):.2f} points",
        demonstration(printed=gap < 0, corrected=gap > 0),
        "two pictures of 10,000; its notebook printed 0.2886, by which the sentence would hold",
        source="Section 6.2; QuantizationAndPruning.ipynb, cells 7 and 20",
    )  # fmt: skip
    chance = 0.99
    worst = max(PRUNED)
    yield Claim(
        "B", "after pruning it predicts randomly", f"{percent(worst, 2)} error",
        f"chance is {percent(chance)}",
        demonstration(printed=abs(worst - chance) < 0.05, corrected=worst < chance - 0.05),
        "a hundred classes: a third of the pictures are still right", source="Section 6.3",
    )  # fmt: skip
    fires = [_fire_share(f"student_v{n}") for n in (6, 7)]
    yield Claim(
        "B", "students with few and with over 50 % Fire layers", "v6 and v7",
        " and ".join(percent(share) for share in fires), exact(fires[0] < 0.5 < fires[1]),
        "of the blocks that convolve", source="Section 6.1.2", figures=2,
    )  # fmt: skip


def _fire_share(name: str) -> float:
    """Which part of a student's convolving blocks are Fire modules."""
    model = on_meta(name, 100)
    kinds = {module_name: type(module).__name__ for module_name, module in model.named_modules()}
    fires = [module_name for module_name, kind in kinds.items() if kind == "Fire"]
    plain = [
        module_name for module_name, kind in kinds.items()
        if kind == "Conv2d" and not any(module_name.startswith(f"{fire}.") for fire in fires)
    ]  # fmt: skip
    return len(fires) / (len(fires) + len(plain))


def shares_of_report_c() -> Iterator[Claim]:
    """Report C's "20 % less parameters"."""
    lost = 1 - GOOGLENET_MILLIONS[1] / GOOGLENET_MILLIONS[0]
    yield Claim(
        "C", "parameters without 20 % of the channels", "20 % less", f"{percent(lost)} less",
        demonstration(printed=matches(lost, "0.20"), corrected=matches(lost, "0.36")),
        "20 % are the channels", source="its table",
    )  # fmt: skip
    original = sum(
        t.numel() * t.element_size() for t in on_meta("googlenet", 100, CIFAR).state_dict().values()
    )
    fits = [matches(original / unit, GOOGLENET_FILE_MB) for unit in (MIB, 1024 * 1000, 1e6)]
    yield Claim(
        "C", "file of GoogLeNet", f"{GOOGLENET_FILE_MB} MB",
        f"{original / MIB:.2f} MiB, {original / 1e6:.2f} MB",
        exact(any(fits)),
        f"{original / 1024:,.0f} KiB" if fits[1] and not fits[0] else "", source="its table",
    )  # fmt: skip


def students_of_report_d() -> Iterator[Claim]:
    """Report D's student on CIFAR-10 "nearest to the teacher"."""
    gap = CIFAR_ACCURACIES[0] - CIFAR_ACCURACIES[1]
    yield Claim(
        "D", "the student's accuracy on CIFAR-10 is near the teacher's",
        f"{CIFAR_ACCURACIES[1]} and {CIFAR_ACCURACIES[0]} %",
        f"{gap:.2f} points below", demonstration(printed=gap < 1, corrected=gap > 1),
        "on MNIST it is 0.28 points", source="its table",
    )  # fmt: skip


PRINTED: tuple[Callable[[], Iterator[Claim]], ...] = (
    kappa_of_the_report, figure_of_report_a, file_sizes, times_of_report_b, words_of_report_b,
    shares_of_report_c, students_of_report_d,
)  # fmt: skip
