"""What reports B and E conclude in words, judged from the numbers that they print."""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

from analysis.lab.literature import REPORT_B
from analysis.lab.measurement.verdict import Estimate, compare, demonstration, exact, matches, together
from analysis.lab.models import create
from analysis.reproduce.claim import Claim
from analysis.reproduce.notebooks import BASE_MB, PRUNED, SHARES
from analysis.reproduce.printed import DENSE, QUANTIZED
from analysis.reproduce.printed import PRUNED as PRUNED_B
from capacity.columns import percent

SECOND_FIGURES = {"v6": 0.3728, "v7": 0.4059}  # report B: errors at alpha 0.5, beside 0.9
ACCURACIES_E = {"base": 94.24, "pruning": 90.26, "static": 88.44, "distillation": 67.7}  # its Table 1
SIZES_E, LATENCY_CHANGES = (17.08, 10.79, 5.19), (2.05 / 2.27 - 1, 2.49 / 2.27 - 1)  # its Table 1
PICTURES = 10_000  # of CIFAR-100's test


def students_of_report_b() -> Iterator[Claim]:
    """Report B's conclusions about its students; the intervals are those of 10,000 pictures."""
    errors = {name: pair[0] for name, pair in REPORT_B.items()}
    best = min((name for name in ("v6", "v7")), key=lambda name: SECOND_FIGURES[name])
    yield Claim(
        "B", "Fire layers bring no significant increase", f"{best} {SECOND_FIGURES[best]}, v2 {errors['v2']}",
        _gap_in_points(SECOND_FIGURES[best], errors["v2"]),
        compare(_counted(SECOND_FIGURES[best]), _counted(errors["v2"])),
        "the better of its four trainings; one each", source="Section 6.1.2",
    )  # fmt: skip
    yield Claim(
        "B", "an alpha of 0.5 fits no better than 0.9",
        ", ".join(f"{name} {errors[name]} to {SECOND_FIGURES[name]}" for name in SECOND_FIGURES),
        " and ".join(_gap_in_points(SECOND_FIGURES[name], errors[name]) for name in SECOND_FIGURES),
        together(
            *(compare(_counted(error), _counted(errors[name])) for name, error in SECOND_FIGURES.items())
        ),
        "one training each", source="Section 6.1.2",
    )  # fmt: skip
    largest, smaller = errors["v4"], max(errors[name] for name in ("v1", "v2", "v3"))
    yield Claim(
        "B", "the largest student disappoints", "disappointing", _gap_in_points(largest, smaller),
        compare(_counted(largest), _counted(smaller)),
        "v4 beside the worst of the three smaller ones of the first experiment", source="Section 6.1.1",
    )  # fmt: skip
    least = min(*errors.values(), *SECOND_FIGURES.values())
    yield Claim(
        "B", "no student stays within 4 points of VGG16", "a failure", f"{100 * (least - DENSE):+.2f} points",
        exact(least - DENSE > 0.04), "of the best student", source="Section 7",
    )  # fmt: skip


def _counted(error: float) -> Estimate:
    """An error and the half-width that the number of test pictures gives it."""
    return Estimate(error, 1.96 * math.sqrt(error * (1 - error) / PICTURES))


def _gap_in_points(error: float, reference: float) -> str:
    half = math.hypot(_counted(error).half_width, _counted(reference).half_width)
    return f"{100 * (error - reference):+.2f} ± {100 * half:.2f} points"


def techniques_of_report_b() -> Iterator[Claim]:
    """Report B's order of its three techniques."""
    students = [*(pair[0] for pair in REPORT_B.values()), *SECOND_FIGURES.values()]
    yield Claim(
        "B", "quantization performs best", "best of the three techniques",
        f"{percent(QUANTIZED, 2)}; students from {percent(min(students), 2)}, "
        f"pruned from {percent(min(PRUNED_B), 2)} error",
        exact(min(students) > QUANTIZED < min(PRUNED_B)), "by its own errors", source="Abstract; Section 7",
    )  # fmt: skip
    yield Claim(
        "B", "L1 pruning is as bad as some students", f"{percent(min(PRUNED_B), 2)} error",
        f"students: {percent(min(students), 2)} to {percent(max(students), 2)}",
        exact(min(students) < min(PRUNED_B) < max(students)), "by its own errors", source="Section 6.3",
    )  # fmt: skip


def sizes_of_report_e() -> Iterator[Claim]:
    """Report E's sentences about sizes, and the layers of its student."""
    shares = [100 * SHARES[name] / BASE_MB for name in ("74.72 %", "87.84 %")]
    yield Claim(
        "E", "static int8 in parts of the dense network", "one fourth, 25 %", f"{shares[0]:.1f} %",
        exact(matches(shares[0], "25")), "of its own sizes", source="Sections 4.5 and 5",
    )  # fmt: skip
    yield Claim(
        "E", "the student in parts of its teacher", "12 %", f"{shares[1]:.1f} %",
        exact(matches(shares[1], "12")), "of its own sizes", source="Section 4.6",
    )  # fmt: skip
    owned, used = layers_of_student()
    yield Claim(
        "E", "layers of the student", "five", f"{used} of the {owned} that it owns",
        demonstration(printed=used == 5, corrected=owned == 5),
        "three convolutions and one dense layer answer; a dense layer of 2048 to 128 is never called",
        source="Section 4.6; Knowledge_Distillation.ipynb, cell 4",
    )  # fmt: skip


def layers_of_student() -> tuple[int, int]:
    """How many layers with a matrix of weights the five-layer student owns, and how many a picture passes."""
    import torch
    from torch import nn

    model = create("cnn5", input_size=(3, 32, 32), classes=10).eval()
    layers = [layer for layer in model.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    called: set[nn.Module] = set()
    hooks = [layer.register_forward_hook(lambda layer, *_: called.add(layer)) for layer in layers]
    with torch.no_grad():
        model(torch.zeros(1, 3, 32, 32))
    for hook in hooks:
        hook.remove()
    return len(layers), len(called)


def accuracies_of_report_e() -> Iterator[Claim]:
    """Report E's sentences about its accuracies."""
    base, *others = ACCURACIES_E.values()
    yield Claim(
        "E", "every technique loses accuracy", "all decreased",
        ", ".join(f"{value - base:+.2f}" for value in others) + " points",
        exact(all(value < base for value in others)), "of its own accuracies", source="Section 5; Table 1",
    )  # fmt: skip
    changes = [
        *(size / BASE_MB - 1 for size in SIZES_E),
        *(value / base - 1 for value in others),
        *LATENCY_CHANGES,
    ]
    yield Claim(
        "E", "changes of size, accuracy and latency", "slight, in all three techniques",
        f"up to {percent(max(map(abs, changes)))}", exact(all(abs(change) < 0.1 for change in changes)),
        f"sizes by {percent(1 - max(SIZES_E) / BASE_MB)} at least; slight were a tenth, by its numbers",
        source="Section 5; Table 1",
    )  # fmt: skip
    steps = [before - after for before, after in pairwise(PRUNED)]
    early, late = max(steps[:6]), steps[6]
    yield Claim(
        "E", "accuracy falls sharply only after 60 % pruned", "a sharp fall",
        f"{late:.2f} points from 60 to 70 %, at most {early:.2f} a tenth before",
        exact(late > 2 * early), "more than twice as steep", source="Section 4.4; Figure 2",
    )  # fmt: skip


SENTENCES: tuple[Callable[[], Iterator[Claim]], ...] = (
    students_of_report_b, techniques_of_report_b, sizes_of_report_e, accuracies_of_report_e,
)  # fmt: skip
