"""Each line of the reports that their printed numbers or public code decide: its verdict, and its reverse."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from analysis.lab.measurement.verdict import Verdict
from analysis.reproduce import notebooks, printed
from analysis.reproduce.claim import Claim
from analysis.reproduce.exact import EXACT
from analysis.reproduce.faults import FAULTS
from analysis.reproduce.losses import LOSSES
from analysis.reproduce.notebooks import NOTEBOOKS
from analysis.reproduce.printed import PRINTED
from analysis.reproduce.trained import recorded, trained_lines, untrained_lines

RUNS = Path(__file__).parents[2] / "paper/runs"
WRONG = (
    "images counted in its Figure 1", "file of VGG16", "time for one random input",
    "error after quantization", "after pruning it predicts randomly",
    "parameters without 20 % of the channels", "CUDA time without 20 % of the channels",
    "the student's accuracy on CIFAR-10 is near the teacher's", "hard term of the distillation loss",
    "soft term of the distillation loss", "temperature of the distillation", "hard loss",
    "accuracy of static int8", "order: pruning, static int8, distillation",
    "the teacher's soft targets",
)  # fmt: skip
EXACTLY = (
    "its own kappa", "generalization ratio rho = N / C", "files of students v1 to v7",
    "time per test picture",
    "the fourth largest student is the best", "students with few and with over 50 % Fire layers",
    "file of GoogLeNet", "cross-entropy of two softmaxes", "file of static int8", "compression measures",
)  # fmt: skip


@pytest.fixture(scope="module")
def lines() -> dict[tuple[str, str], Claim]:
    return {
        (line.report, line.item): line
        for function in (*PRINTED, *LOSSES, *NOTEBOOKS)
        for line in function()
    }  # fmt: skip


def test_verdicts_of_printed_numbers(lines) -> None:
    words = {item: line.verdict for (_, item), line in lines.items()}
    assert {item: words[item] for item in WRONG} == dict.fromkeys(WRONG, Verdict.WRONG)
    assert {item: words[item] for item in EXACTLY} == dict.fromkeys(EXACTLY, Verdict.EXACT)
    assert words["accuracy is flat to 60 % pruned"] == Verdict.WORSE
    assert words["the distilled student outperforms"] == Verdict.UNDECIDED
    assert words["latency of the pruned network"] == Verdict.UNDECIDED
    assert words["size of ResNet-18 in its text"] == Verdict.DIFFERENT


def test_what_they_say(lines) -> None:
    assert "349 of 3,200 and 667 of 6,400" in lines["E", "accuracy of static int8"].why
    assert lines["A", "its own kappa"].recomputed == "0.944"
    assert lines["B", "file of VGG16"].recomputed == "129.79 MiB, 136.10 MB"
    text = lines["D", "cross-entropy of two softmaxes"].why
    soft, divergence, entropy = map(float, re.findall(r"\d\.\d{6}", text))
    assert soft == pytest.approx(divergence + entropy, abs=2e-6)
    text = lines["B", "hard term of the distillation loss"].why
    falls, rises = map(float, re.findall(r"to (\d\.\d+)", text))
    assert falls < 0.01 and rises > 0.99


@pytest.mark.parametrize(
    ("module", "name", "value", "function", "item", "word"),
    [
        (notebooks, "PRUNED", (95.04,) * 10, notebooks.flat_to_sixty,
         "accuracy is flat to 60 % pruned", {Verdict.UNDECIDED, Verdict.EQUIVALENT}),
        (notebooks, "STATIC_TEST", 88.0, notebooks.static_accuracy, "accuracy of static int8",
         {Verdict.EXACT}),
        (notebooks, "DISTILLED_TEST", 0.71, notebooks.outperforming_student,
         "the distilled student outperforms", {Verdict.BETTER}),
        (notebooks, "DYNAMIC_TRAIN", (94.0, 94.02, 93.98), notebooks.dynamic_accuracy,
         "accuracy of dynamic int8", {Verdict.EQUIVALENT}),
        (notebooks, "LATENCIES_MS", (2.50, 2.50, 2.501), notebooks.latency_of_report_e,
         "latency of the pruned network", {Verdict.BETTER}),
        (printed, "FILE_SIZES", ("21.4", "30.2", "47", "96.6", "94.1", "35.4", "45.2"), printed.file_sizes,
         "files of students v1 to v7", {Verdict.DIFFERENT}),
        (printed, "AXIS", (64_000, 67_000), printed.counted_points, "images counted in its Figure 1",
         {Verdict.EXACT}),
        (printed, "REPORT_B", {f"v{n}": (0.5 - n / 100, 0.1) for n in range(1, 8)}, printed.words_of_report_b,
         "the fourth largest student is the best", {Verdict.DIFFERENT}),
    ],
)  # fmt: skip
def test_other_numbers_reverse_it(
    module, name: str, value, function: Callable[[], Iterator[Claim]], item: str, word, monkeypatch
) -> None:
    monkeypatch.setattr(module, name, value)
    assert {line.item: line.verdict for line in function()}[item] in word


COUNTED = {  # by hand, in the texts: figures, formulas and sentences about what was found
    "A": {"capacities": 11, "memories": 2, "kappa": 2, "criteria": 3, "dropout": 3, "its Figure 1": 3,
          "accuracies": 6},
    "B": {"parameters": 11, "bytes": 10, "top-1 errors": 13, "top-5 errors": 13, "times": 8, "sentences": 5,
          "loss": 3},
    "C": {"parameters": 2, "bytes": 2, "memory": 2, "times": 4, "top-1 errors": 3, "top-5 errors": 3,
          "sentences": 2},
    "D": {"errors": 6, "six-layer network": 2, "sentences": 1, "losses": 2},
    "E": {"bytes": 6, "compression measures": 5, "accuracies": 17, "times": 4, "sentences": 3, "loss": 3},
}  # fmt: skip


def test_every_published_figure_has_its_line(lines) -> None:
    computed = [*lines.values(), *(line for function in (*EXACT, *FAULTS) for line in function())]
    judged = dict.fromkeys(COUNTED, 0)
    for line in [*computed, *untrained_lines(), *trained_lines([])]:
        judged[line.report] += line.figures
    assert judged == {report: sum(parts.values()) for report, parts in COUNTED.items()}
    assert all(line.source for line in computed)


def test_two_thirds_of_the_lines_that_need_a_gpu_are_measured_at_reduced_scale_and_judged_by_none() -> None:
    everything = [line for line in trained_lines(recorded([RUNS])) if line.report in "BCE"]
    small = [line for line in everything if "at reduced scale" in line.why]
    assert len(small) >= 2 / 3 * len(everything) and all(" ± " in line.recomputed for line in small)
    assert {line.verdict for line in everything} == {Verdict.NOT_RUN}
    whys = {(line.report, line.item): line.why for line in small}
    samples = "googlenet_eighth, 2,000 samples of cifar10-jpeg at 16 pixels, 10 epochs"
    assert f"{samples})" in whys["C", "error of GoogLeNet"]
    assert "beside the whole network trained as long" in whys["C", "error without 20 % of the channels"]
    assert "points beside the student alone" in whys["B", "error of student v2"]
    assert not any("at reduced scale" in line.why for line in trained_lines([]))
