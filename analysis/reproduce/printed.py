"""Lines that the reports' own printed numbers decide: sums, shares, orders and units that must agree."""

from collections.abc import Callable, Iterator

from analysis.lab.literature import REPORT_B
from analysis.lab.measurement.verdict import demonstration, exact, matches
from analysis.reproduce.claim import Claim
from analysis.reproduce.exact import CIFAR, MIB, STUDENTS, on_meta
from capacity.columns import percent

FILE_SIZES = ("21.4", "30.2", "47", "96.6", "94.1", "35.4", "44.2")  # of the students v1 to v7
AXIS = (9250, 9600)  # of report A's Figure 1: correctly classified images


def kappa_of_the_report() -> Iterator[Claim]:
    """Report A calls its kappa large, and prints a formula by which it would be small."""
    agreed, by_chance = 0.95, 0.1  # of ten classes, drawn as often
    kappa = (agreed - by_chance) / (1 - by_chance)
    printed = (1 - agreed) / (1 - by_chance)
    yield Claim(
        "A", "its own kappa", "not calculated, rather large", f"{kappa:.3f}", exact(kappa > 0.8),
        f"from an accuracy of {agreed} and ten classes alike; by the formula printed it is {printed:.3f}",
        source="Question 3",
    )  # fmt: skip


def counted_points() -> Iterator[Claim]:
    """Report A's generalization counts images of its test set, not of both."""
    best, least = 0.9493, 0.9200
    within = [AXIS[0] - 51 <= least * n and best * n <= AXIS[1] for n in (70_000, 10_000)]
    yield Claim(
        "A", "images counted in its Figure 1", "60,000 + 10,000",
        f"10,000: {least * 10_000:,.0f} to {best * 10_000:,.0f} right",
        demonstration(printed=within[0], corrected=within[1]),
        f"its axis runs from {AXIS[0]:,} to {AXIS[1]:,}; of 70,000 the same accuracies would be "
        f"{least * 70_000:,.0f} to {best * 70_000:,.0f}, and its text counts a testing corpus",
        source="Figure 1; Trainer.py, test()", figures=2,
    )  # fmt: skip
    ratio = best * 10_000 / 90_227_992
    yield Claim(
        "A", "generalization ratio rho = N / C", "its Figure 1",
        f"{ratio:.3g} images a bit after the last squeeze", exact(ratio < 1),
        "far below one whatever the accuracy, as its Question 6 says", source="Sections 1 and 4",
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
    in_units = [abs(original / unit - 132.9) < 0.06 for unit in (MIB, 1e6, 1024 * 1000)]
    yield Claim(
        "B", "file of VGG16", "132.9 MB", f"{original / MIB:.2f} MiB, {original / 1e6:.2f} MB",
        demonstration(printed=in_units[0] or in_units[1], corrected=in_units[2]),
        f"{original / 1024:,.0f} KiB: thousands of 1,024 bytes, beside 129.8 MB in its own text",
        source="Table 2", figures=1,
    )  # fmt: skip


def _stored(name: str) -> int:
    return sum(t.numel() * t.element_size() for t in on_meta(name, 100).state_dict().values())


def times_of_report_b() -> Iterator[Claim]:
    """Report B's times agree with each other; its words about them do not all."""
    original, small = 53.756, 45.890
    saved = 1 - small / original
    yield Claim(
        "B", "time per test picture", "5.376 and 4.589 ms, around 15 % less",
        f"{original / 10:.3f} and {small / 10:.3f} ms, {percent(saved, 1)} less",
        exact(matches(original / 10, "5.376"), matches(small / 10, "4.589"), abs(saved - 0.15) < 0.005),
        "from its seconds for 10,000 pictures", source="Table 5", figures=5,
    )  # fmt: skip
    first = 1 - 45.054 / 123.578
    yield Claim(
        "B", "time for one random input", "no major reduction: 123.578 to 45.054 ms",
        f"{percent(first)} less",
        demonstration(printed=abs(first) < 0.15, corrected=first > 0.15),
        "each is the first call of its network, profiled: what is made ready once counts in the first",
        source="Table 5; Benchmark.ipynb, cells 6 and 9", figures=2,
    )  # fmt: skip


def words_of_report_b() -> Iterator[Claim]:
    """Report B's sentences about its own table."""
    top1 = {name: pair[0] for name, pair in REPORT_B.items()}
    first = dict(list(top1.items())[:5])
    sizes = dict(zip(top1, STUDENTS, strict=True))
    order = sorted(first, key=lambda name: -sizes[name])
    yield Claim(
        "B", "the fourth largest student is the best", "v2", min(first, key=lambda name: first[name]),
        exact(order[3] == "v2", min(first, key=lambda name: first[name]) == "v2"),
        "of the first five", source="Section 6.1.1",
    )  # fmt: skip
    yield Claim(
        "B", "error after quantization", "down a little: 0.2887 to 0.2889", "up by 0.02 points",
        demonstration(printed=0.2889 < 0.2887, corrected=0.2889 > 0.2887),
        "one or two pictures of 10,000; its notebook printed 0.2886", source="Section 6.2", figures=1,
    )  # fmt: skip
    chance = 0.99
    worst = max(0.6559, 0.4242)
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
    lost = 1 - 4.09 / 6.4
    yield Claim(
        "C", "parameters without 20 % of the channels", "20 % less", f"{percent(lost)} less",
        demonstration(printed=matches(lost, "0.20"), corrected=matches(lost, "0.36")),
        "20 % are the channels", source="its table",
    )  # fmt: skip
    original = sum(
        t.numel() * t.element_size() for t in on_meta("googlenet", 100, CIFAR).state_dict().values()
    )
    fits = [matches(original / unit, "25") for unit in (MIB, 1024 * 1000, 1e6)]
    yield Claim(
        "C", "file of GoogLeNet", "25 MB", f"{original / MIB:.2f} MiB, {original / 1e6:.2f} MB",
        exact(any(fits)), f"{original / 1024:,.0f} KiB" if fits[1] and not fits[0] else "",
        source="its table",
    )  # fmt: skip
    yield Claim(
        "C", "CUDA time without 20 % of the channels", "12.64 to 10.79 ms",
        f"{percent(1 - 10.79 / 12.64)} less, while its time per picture rises by {percent(16.7 / 15.74 - 1)}",
        demonstration(printed=(10.79 < 12.64) == (16.7 < 15.74), corrected=10.79 < 12.64),
        "the two disagree on which network is faster; here it is timed in one process by the command",
        "python -m analysis.speed", source="its table", figures=2,
    )  # fmt: skip


def students_of_report_d() -> Iterator[Claim]:
    """Report D's student on CIFAR-10 "nearest to the teacher"."""
    gap = 69.72 - 58.55
    yield Claim(
        "D", "the student's accuracy on CIFAR-10 is near the teacher's", "58.55 and 69.72 %",
        f"{gap:.2f} points below", demonstration(printed=gap < 1, corrected=gap > 1),
        "on MNIST it is 0.28 points", source="its table",
    )  # fmt: skip


PRINTED: tuple[Callable[[], Iterator[Claim]], ...] = (
    kappa_of_the_report, counted_points, file_sizes, times_of_report_b, words_of_report_b,
    shares_of_report_c, students_of_report_d,
)  # fmt: skip
