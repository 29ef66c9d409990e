"""Each line of the reports that their printed numbers or public code decide: its verdict, and its reverse."""

import re
from pathlib import Path

import pytest
from test_reproduce_reversed import REVERSALS, surrogates

from analysis.lab.measurement.verdict import Verdict
from analysis.reproduce.admitted import recorded
from analysis.reproduce.claim import Claim
from analysis.reproduce.effects import effect_lines
from analysis.reproduce.exact import EXACT
from analysis.reproduce.faults import FAULTS
from analysis.reproduce.losses import LOSSES
from analysis.reproduce.notebooks import NOTEBOOKS
from analysis.reproduce.printed import PRINTED
from analysis.reproduce.protocols import PROTOCOLS
from analysis.reproduce.sentences import SENTENCES
from analysis.reproduce.surrogates import surrogate_claims
from analysis.reproduce.trained import trained_lines, untrained_lines

RUNS = Path(__file__).parents[2] / "paper/runs"
COMPUTED = (*EXACT, *PROTOCOLS, *PRINTED, *SENTENCES, *FAULTS, *LOSSES, *NOTEBOOKS)
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


COUNTED = {  # by hand, in the texts: figures, formulas and sentences about what was done and found
    "A": {"memories": 2, "capacities of the head, in text and figure": 2, "capacities of small networks": 4,
          "capacities at six tests": 6, "accuracies at six tests": 6, "criteria": 3, "rho": 1,
          "images in its figure and its caption": 2, "rise in its figure": 1, "kappa": 2, "dropout": 3,
          "how it trained": 4, "its data": 2},
    "B": {"parameters": 11, "bytes": 10, "epochs": 10, "top-1 errors": 13, "top-5 errors": 13, "times": 8,
          "loss": 3, "sentences on students": 6, "on quantization": 2, "on pruning": 4},
    "C": {"parameters": 2, "bytes": 2, "memory": 2, "times": 4, "top-1 errors": 3, "top-5 errors": 3,
          "sentences": 5},
    "D": {"errors": 6, "six-layer network": 2, "sentences": 1, "losses": 2},
    "E": {"bytes": 6, "compression measures and shares": 6, "accuracies": 17, "times": 4, "loss": 2,
          "sentences on pruning": 2, "on the student": 4, "on all techniques": 2},
}  # fmt: skip


def test_every_published_figure_has_its_line(lines) -> None:
    claims = [
        *lines.values(), *untrained_lines(), *trained_lines([]), *effect_lines([]),
        *surrogate_claims(surrogates(0.1, 0.002)),
    ]  # fmt: skip
    judged = dict.fromkeys(COUNTED, 0)
    for line in claims:
        judged[line.report] += line.figures
    assert judged == {report: sum(parts.values()) for report, parts in COUNTED.items()}
    assert not [line.item for line in claims if line.figures and not line.source]
    named = [(line.report, line.item) for line in claims]
    assert len(named) == len(set(named))


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
