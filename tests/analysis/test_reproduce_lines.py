"""Each line of the reports that their printed numbers or public code decide: its verdict, and its reverse."""

import re
from collections import Counter
from pathlib import Path

import pytest
from published_items import published_items
from test_reproduce_reversed import REVERSALS, surrogates

from analysis.lab.measurement.verdict import Verdict
from analysis.reproduce.admitted import recorded
from analysis.reproduce.claim import Claim
from analysis.reproduce.effects import effect_lines
from analysis.reproduce.exact import EXACT
from analysis.reproduce.faults import FAULTS
from analysis.reproduce.losses import LOSSES
from analysis.reproduce.notebooks import NOTEBOOKS
from analysis.reproduce.pipelines import PIPELINES
from analysis.reproduce.printed import PRINTED
from analysis.reproduce.protocols import PROTOCOLS
from analysis.reproduce.sentences import SENTENCES
from analysis.reproduce.surrogates import surrogate_claims
from analysis.reproduce.theory import THEORY
from analysis.reproduce.trained import trained_lines, untrained_lines

RUNS = Path(__file__).parents[2] / "paper/runs"
COMPUTED = (
    *EXACT, *THEORY, *PROTOCOLS, *PRINTED, *SENTENCES, *FAULTS, *LOSSES, *NOTEBOOKS, *PIPELINES,
)  # fmt: skip
TIMED = {"time per picture without 20 % of the channels", "latency of the student"}  # by this machine's load


@pytest.fixture(scope="module")
def lines() -> dict[tuple[str, str], Claim]:
    return {
        (line.report, line.item): line
        for function in COMPUTED
        for line in function()
    }  # fmt: skip


def test_every_computed_line_has_its_verdict_and_is_reversed_by_another_measurement(lines) -> None:
    """Those of runs are reversed there too: of presets, of stand-ins, and differences of two errors."""
    words = {item: line.verdict for (_, item), line in lines.items() if item not in TIMED}
    natural = {item: word for *_, turned in REVERSALS for item, (word, _) in turned.items()}
    assert set(natural) == {item for _, item in lines}
    assert words == {item: word for item, word in natural.items() if item not in TIMED}


def test_the_golden_lines(lines) -> None:
    by_item = {item: line for (_, item), line in lines.items()}
    assert by_item["capacity of the VGG16 head"].recomputed == "102,772,992 bits"
    assert "822,183,936" in by_item["capacity of the VGG16 head"].why
    exact = [
        "capacity at six tests, 100 units squeezed between them", "capacity of four small networks",
        "memory of vgg16",
        "size of VGG16 with batch norm", "size of GoogLeNet", "size of ResNet-18 with 10 classes",
        "size of five-layer student", "parameters of students v1 to v7",
        "GoogLeNet without 20 % of its channels", "parameters left by 10 % pruning",
    ]  # fmt: skip
    assert {by_item[item].verdict for item in exact} == {"exact"}
    assert by_item["memory of alexnet"].verdict == "not reproduced"


def test_what_was_called_static_has_the_figures_of_dynamic_quantization(lines) -> None:
    line = lines["B", "static quantization of VGG16"]
    assert line.verdict == Verdict.WRONG and "those of dynamic quantization" in line.why


def test_what_they_say(lines) -> None:
    why = lines["E", "accuracy of static int8"].why
    assert "by 850: 667 of 6,400" in why and "times 810 (349 of 3,200)" in why
    assert lines["A", "its own kappa"].recomputed == "0.944"
    assert "1,049,088 bits" in lines["A", "layers that learn"].why
    assert lines["E", "layers of the student"].recomputed == "4 of the 5 that it owns"
    assert lines["B", "file of VGG16"].recomputed == "129.79 MiB, 136.10 MB"
    text = lines["D", "cross-entropy of two softmaxes"].why
    soft, divergence, entropy = map(float, re.findall(r"\d\.\d{6}", text))
    assert soft == pytest.approx(divergence + entropy, abs=2e-6)
    text = lines["B", "hard term of the distillation loss"].why
    falls, rises = map(float, re.findall(r"to (\d\.\d+)", text))
    assert falls < 0.01 and rises > 0.99


def test_every_published_item_has_its_line(lines) -> None:
    """The items counted by hand in the reports' texts, each by name, and the lines that judge them."""
    claims = [
        *lines.values(), *untrained_lines(), *trained_lines([]), *effect_lines([]),
        *surrogate_claims(surrogates(0.1, 0.002)),
    ]  # fmt: skip
    judged = {(line.report, line.item): line.figures for line in claims if line.figures}
    counted = Counter((report, line) for report, rows in published_items().items() for *_, line in rows)
    assert counted == judged
    for report, rows in published_items().items():
        assert len({(place, item) for place, item, _ in rows}) == len(rows), report
    totals = {report: len(rows) for report, rows in published_items().items()}
    assert totals == {"A": 46, "B": 87, "C": 21, "D": 11, "E": 72}
    assert not [line.item for line in claims if line.figures and not line.source]
    named = [(line.report, line.item) for line in claims]
    assert len(named) == len(set(named))


def test_two_thirds_of_the_lines_that_need_a_gpu_are_measured_at_reduced_scale_and_judged_by_none() -> None:
    everything = [line for line in trained_lines(recorded([RUNS])) if line.report in "BCE"]
    small = [line for line in everything if "at reduced scale" in line.why]
    for report in "BCE":
        wanted = [line for line in everything if line.report == report]
        assert len([line for line in small if line.report == report]) >= 2 / 3 * len(wanted), report
    assert all(" ± " in line.recomputed for line in small)
    assert {line.verdict for line in everything} == {Verdict.NOT_RUN}
    whys = {(line.report, line.item): line.why for line in small}
    samples = "googlenet_eighth, 2,000 samples of cifar10-jpeg at 16 pixels, 10 epochs"
    assert f"{samples})" in whys["C", "error of GoogLeNet"]
    assert "beside the whole network trained as long" in whys["C", "error without 20 % of the channels"]
    assert "points beside the student alone" in whys["B", "error of student v2"]
    assert not any("at reduced scale" in line.why for line in trained_lines([]))
