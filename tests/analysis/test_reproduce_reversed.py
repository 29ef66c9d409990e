"""Every line of the reports that has a verdict gets another one where its measurement is another."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from analysis import capacity_curve, comparison, distillation_table, quantization_table
from analysis.lab.literature import REPORT_B
from analysis.lab.measurement.verdict import Estimate, Verdict
from analysis.lab.models import create
from analysis.lab.runs.loading import Run
from analysis.reproduce import (
    exact,
    faults,
    losses,
    notebooks,
    pipelines,
    printed,
    protocols,
    sentences,
    theory,
    trained,
)
from analysis.reproduce.effects import EFFECTS, effect_lines
from analysis.reproduce.surrogates import surrogate_claims
from analysis.reproduce.trained import TRAINED, preset_of, trained_lines
from compression.distillation import DistillationLoss

EXACT, EQUIVALENT, BETTER, WORSE = Verdict.EXACT, Verdict.EQUIVALENT, Verdict.BETTER, Verdict.WORSE
UNDECIDED, DIFFERENT, WRONG = Verdict.UNDECIDED, Verdict.DIFFERENT, Verdict.WRONG
SMALL = create("lenet5", input_size=(3, 32, 32), classes=10)
MIB = 2**20


def small(*_: object, **__: object) -> torch.nn.Module:
    """A network in place of any other."""
    return SMALL


def one_of(*values: Any) -> Any:
    """A measurement that gives these values in turn, whatever it measures."""
    turns = cycle(values)
    return lambda *_, **__: next(turns)


def quantized(*_: object, scheme: str, **__: object) -> Any:
    """Static int8 with the figures of report B, and a dynamic one that halves the file."""
    float_parameters = 14_723_136 if scheme == "static" else 7
    return SimpleNamespace(
        float_parameters=float_parameters, bytes_after=74.7 * MIB, bytes_before=149.4 * MIB,
        layers=tuple(SimpleNamespace(name=name) for name in "ab"), left_in_float=("b",),
    )  # fmt: skip


class OfXml:
    """A data set that is read from XML files."""


# A function of lines; what is measured in place of what it measures; and each line with its verdict, and with
# that of the other measurement. A second entry of a function reverses what the first left.
REVERSALS: list[tuple[Any, Mapping[str, Any], dict[str, tuple[Verdict, Verdict]]]] = [
    (exact.capacities,
     {"capacity.dense_capacity": one_of(822_000_000), "capacity.measure": one_of(SimpleNamespace(
         total_parameters=60_000_000))},
     {"capacity of the VGG16 head": (WRONG, EXACT),
      "capacity at six tests, 100 units squeezed between them": (EXACT, DIFFERENT),
      "capacity of four small networks": (EXACT, DIFFERENT), "memory of vgg16": (EXACT, DIFFERENT),
      "memory of alexnet": (DIFFERENT, EXACT)}),
    (exact.parameter_counts, {"analysis.reproduce.exact.on_meta": lambda *_: nn.Sequential(
        OrderedDict(features=nn.Sequential(nn.Conv2d(3, 4, 3))))},
     {"size of VGG16 with batch norm": (EXACT, DIFFERENT), "size of GoogLeNet": (EXACT, DIFFERENT),
      "size of ResNet-18 with 10 classes": (EXACT, DIFFERENT),
      "size of five-layer student": (EXACT, DIFFERENT),
      "parameters of students v1 to v7": (EXACT, DIFFERENT),
      "parameters left by 10 % pruning": (EXACT, DIFFERENT)}),
    (exact.removed_channels,
     {"analysis.reproduce.exact.googlenets": one_of((SMALL, SMALL)),
      "compression.costs.peak_memory_bytes": one_of(58.66 * MIB, 46.98 * MIB)},
     {"GoogLeNet without 20 % of its channels": (EXACT, DIFFERENT),
      "runtime memory without 20 % of the channels": (DIFFERENT, EXACT)}),
    (exact.time_without_channels,
     {"analysis.reproduce.exact.googlenets": one_of((SMALL, SMALL)),
      "analysis.reproduce.exact.relative_time": one_of(Estimate(16.7 / 15.74, 0.01))},
     {"time per picture without 20 % of the channels": (BETTER, EQUIVALENT)}),
    (exact.integers, {"analysis.lab.models.create": small, "compression.quantization.quantize": quantized},
     {"static quantization of VGG16": (WRONG, EXACT),
      "dynamic quantization of ResNet-18": (EQUIVALENT, BETTER),
      "layers that dynamic quantization converts": (EXACT, DIFFERENT)}),
    (theory.rules_of_a_perceptron, {"analysis.reproduce.theory.dichotomies": one_of(3)},
     {"capacity of a perceptron, and of several in parallel": (EXACT, DIFFERENT)}),
    (theory.rules_of_layers, {"analysis.reproduce.theory.labelings": one_of(4)},
     {"a layer is limited by one bit of each unit before it": (WRONG, EXACT)}),
    (theory.memorizing, {"analysis.reproduce.theory.share_memorized": one_of(0.3)},
     {"memorizing where no two images are the same": (WRONG, EXACT)}),
    (theory.chance_agreement, {"compression.evaluation.cohen_kappa": one_of(0.2)},
     {"chance agreement of two raters": (EXACT, DIFFERENT)}),
    (protocols.layers_that_learn,
     {"analysis.reproduce.protocols._head_of_report_a": one_of(
         protocols._head_of_report_a().requires_grad_(True))},
     {"layers that learn": (WRONG, EXACT)}),
    (protocols.training_of_report_a,
     {"analysis.reproduce.protocols.LOADED": 20, "analysis.reproduce.protocols.EPOCHS": 6,
      "analysis.reproduce.protocols.TESTS": 3},
     {"pictures a batch": (WRONG, EXACT), "epochs of a training": (EXACT, DIFFERENT),
      "times that it is trained, tested and squeezed": (EXACT, DIFFERENT)}),
    (protocols.data_of_report_a,
     {"numpy.iinfo": one_of(SimpleNamespace(max=225)), "analysis.reproduce.protocols.CLASSES": (100, 900)},
     {"grey values of MNIST": (WRONG, EXACT), "classes of MNIST are balanced": (EXACT, DIFFERENT)}),
    (protocols.pruned_network, {"analysis.reproduce.protocols.LEFT_B": (14_000_000, 13_000_000)},
     {"network that is pruned": (WRONG, EXACT)}),
    (protocols.cut_by_report_b,
     {"analysis.reproduce.protocols.shares_cut": one_of((0.1, 0.1)),
      "analysis.reproduce.protocols.left_of_a_tenth": one_of(7),
      "analysis.reproduce.protocols.LEFT_B": (7, 7)},
     {"what pruning cuts": (WRONG, EXACT), "layers that are pruned": (WRONG, EXACT)}),
    (protocols.epochs_of_report_b, {"analysis.reproduce.protocols.WEIGHTS_OF_B": ("v1-80-best",)},
     {"epochs of VGG16 and of its students": (EXACT, DIFFERENT),
      "validation samples": (EXACT, DIFFERENT)}),
    (printed.kappa_of_the_report, {"analysis.reproduce.printed.ACCURACIES": (0.2, 0.5)},
     {"its own kappa": (EXACT, DIFFERENT)}),
    (printed.figure_of_report_a,
     {"analysis.reproduce.printed.CORRECT": (65_000, 67_000), "capacity.dense_capacity": one_of(822_000_000),
      "analysis.reproduce.printed.LEAST_BITS": 100},
     {"images counted in its Figure 1": (EXACT, DIFFERENT),
      "largest capacity in its Figure 1": (WRONG, EXACT),
      "generalization ratio rho = N / C": (EXACT, DIFFERENT)}),
    (printed.file_sizes,
     {"analysis.reproduce.printed.FILE_SIZES": ("21.4", "30.2", "47", "96.6", "94.1", "35.4", "45.2"),
      "analysis.reproduce.printed.VGG_FILE_MB": 129.8},
     {"files of students v1 to v7": (EXACT, DIFFERENT), "file of VGG16": (WRONG, EXACT)}),
    (printed.times_of_report_b,
     {"analysis.reproduce.printed.NOTEBOOK_SECONDS": (53.756, 45.890),
      "analysis.reproduce.printed.MILLISECONDS": ("5.4", "9.9"),
      "analysis.reproduce.printed.FIRST_MS": (46.0, 45.0)},
     {"time for the 10,000 test pictures": (DIFFERENT, EXACT), "time per test picture": (EXACT, DIFFERENT),
      "time for one random input": (WRONG, EXACT)}),
    (printed.words_of_report_b,
     {"analysis.reproduce.printed.REPORT_B": {f"v{n}": (0.5 - n / 100, 0.1) for n in range(1, 8)},
      "analysis.reproduce.printed.QUANTIZED": 0.2880, "analysis.reproduce.printed.PRUNED": (0.98, 0.4),
      "analysis.reproduce.printed._fire_share": one_of(0.6)},
     {"the fourth largest student is the best": (EXACT, DIFFERENT),
      "error after quantization": (WRONG, EXACT),
      "after pruning it predicts randomly": (WRONG, EXACT),
      "students with few and with over 50 % Fire layers": (EXACT, DIFFERENT)}),
    (printed.shares_of_report_c,
     {"analysis.reproduce.printed.GOOGLENET_MILLIONS": (6.4, 5.12),
      "analysis.reproduce.printed.GOOGLENET_FILE_MB": "16"},
     {"parameters without 20 % of the channels": (WRONG, EXACT), "file of GoogLeNet": (EXACT, DIFFERENT)}),
    (printed.students_of_report_d, {"analysis.reproduce.printed.CIFAR_ACCURACIES": (69.72, 69.0)},
     {"the student's accuracy on CIFAR-10 is near the teacher's": (WRONG, EXACT)}),
    (sentences.students_of_report_b,
     {"analysis.reproduce.sentences.SECOND_FIGURES": {"v6": 0.25, "v7": 0.30},
      "analysis.reproduce.sentences.REPORT_B": REPORT_B | {"v4": (0.30, 0.1)}},
     {"Fire layers bring no significant increase": (UNDECIDED, BETTER),
      "an alpha of 0.5 fits no better than 0.9": (UNDECIDED, BETTER),
      "the largest student disappoints": (WORSE, BETTER),
      "no student stays within 4 points of VGG16": (EXACT, DIFFERENT)}),
    (sentences.techniques_of_report_b,
     {"analysis.reproduce.sentences.QUANTIZED": 0.4, "analysis.reproduce.sentences.PRUNED_B": (0.7, 0.6)},
     {"quantization performs best": (EXACT, DIFFERENT),
      "L1 pruning is as bad as some students": (EXACT, DIFFERENT)}),
    (sentences.sizes_of_report_e,
     {"analysis.reproduce.sentences.SHARES": {"74.72 %": 20, "87.84 %": 20},
      "analysis.reproduce.sentences.layers_of_student": one_of((5, 5))},
     {"static int8 in parts of the dense network": (EXACT, DIFFERENT),
      "the student in parts of its teacher": (EXACT, DIFFERENT), "layers of the student": (WRONG, EXACT)}),
    (sentences.accuracies_of_report_e,
     {"analysis.reproduce.sentences.ACCURACIES_E": {"base": 90, "pruning": 91},
      "analysis.reproduce.sentences.SIZES_E": (42.0, 42.5),
      "analysis.reproduce.sentences.LATENCY_CHANGES": (0.01,),
      "analysis.reproduce.sentences.PRUNED": tuple(range(100, 0, -10))},
     {"every technique loses accuracy": (EXACT, DIFFERENT),
      "changes of size, accuracy and latency": (DIFFERENT, EXACT),
      "accuracy falls sharply only after 60 % pruned": (EXACT, DIFFERENT)}),
    (faults.kappa, {"analysis.reproduce.faults.printed_kappa": faults.cohen_kappa},
     {"Cohen's kappa": (WRONG, EXACT)}),
    (faults.criteria_never_run,
     {"analysis.reproduce.faults.squeezed":
         lambda sums: set((sums - sums.mean()).abs().topk(100, largest=False)[1].tolist())},
     {"criteria: L1 and L2 norm, reservoir sampling": (WRONG, EXACT)}),
    (faults.restored_dropout, {"analysis.reproduce.faults.share_moved": one_of(1.0)},
     {"dropout(100) of the first hidden layer": (WRONG, EXACT)}),
    (faults.best_epoch, {"analysis.reproduce.faults.EPOCHS": 1}, {"best epoch": (WRONG, EXACT)}),
    (faults.theoretical_bytes, {"analysis.lab.measurement.deployment.file_bytes": one_of(100, 40)},
     {"size after pruning 60 %": (WRONG, EXACT),
      "pruning masks weights and removes none": (EXACT, DIFFERENT)}),
    (losses.misprinted_loss, {"analysis.reproduce.losses.share_of_right_class": one_of(0.9)},
     {"hard term of the distillation loss": (WRONG, EXACT)}),
    (losses.class_mean,
     {"compression.distillation.DistillationLoss": lambda *_: DistillationLoss(1.0, 1.0),
      "analysis.reproduce.losses.ALPHAS": (0.9, 0.5)},
     {"soft term of the distillation loss": (WRONG, EXACT),
      "alpha of its first experiment": (EXACT, DIFFERENT)}),
    (losses.soft_cross_entropy,
     {"compression.distillation.DistillationLoss": lambda *_: DistillationLoss(1.0, 1.0)},
     {"cross-entropy of two softmaxes": (EXACT, DIFFERENT)}),
    (losses.cold_teacher, {"analysis.reproduce.losses.COLD": 1.0},
     {"temperature of the distillation": (WRONG, EXACT)}),
    (losses.cold_teacher, {"analysis.reproduce.losses.ALPHAS": (0.99, 0.99)},
     {"weight of the teacher at T = 1": (DIFFERENT, EXACT)}),
    (losses.hard_prediction, {"analysis.reproduce.losses.hard": lambda logits: F.softmax(logits, 1)},
     {"hard loss": (WRONG, EXACT)}),
    (notebooks.static_accuracy, {"analysis.reproduce.notebooks.STATIC_TEST": 88.0},
     {"accuracy of static int8": (WRONG, EXACT)}),
    (notebooks.integer_bytes,
     {"analysis.reproduce.notebooks.on_meta": small, "analysis.reproduce.notebooks.SHARES": {"10 %": 5}},
     {"file of static int8": (EXACT, DIFFERENT), "compression measures": (EXACT, DIFFERENT)}),
    (notebooks.integer_bytes, {"analysis.reproduce.notebooks.BASE_MB_IN_TEXT": "42.691"},
     {"size of ResNet-18 in its text": (DIFFERENT, EXACT)}),
    (notebooks.flat_to_sixty, {"analysis.reproduce.notebooks.PRUNED": (95.04,) * 10},
     {"accuracy is flat to 60 % pruned": (WORSE, UNDECIDED)}),
    (notebooks.order_of_techniques, {"analysis.reproduce.notebooks.STATIC_TEST": 760.0},
     {"order: pruning, static int8, distillation": (WRONG, EXACT)}),
    (notebooks.outperforming_student,
     {"analysis.reproduce.notebooks.DISTILLED_TEST": 0.71,
      "analysis.reproduce.notebooks._met_own": one_of(1.0)},
     {"the distilled student outperforms": (UNDECIDED, BETTER),
      "the teacher's soft targets": (WRONG, EXACT)}),
    (notebooks.dynamic_accuracy, {"analysis.reproduce.notebooks.DYNAMIC_TRAIN": (94.0, 94.02, 93.98)},
     {"accuracy of dynamic int8": (WORSE, EQUIVALENT)}),
    (notebooks.latency_of_report_e, {"analysis.reproduce.notebooks.LATENCIES_MS": (2.50, 2.50, 2.501)},
     {"latency of the pruned network": (UNDECIDED, BETTER)}),
    (notebooks.latency_of_the_student,
     {"analysis.reproduce.notebooks.relative_time": one_of(Estimate(2.49 / 2.27, 0.01)),
      "analysis.reproduce.notebooks.flops": one_of(100)},
     {"latency of the student": (BETTER, EQUIVALENT)}),
    (notebooks.minutes_of_ten_epochs, {"analysis.reproduce.notebooks.MINUTES": (20.0, 35.0)},
     {"time of ten epochs": (EXACT, DIFFERENT)}),
    (pipelines.pictures_of_report_e,
     {"analysis.reproduce.pipelines.TESTED": 10_001, "analysis.reproduce.pipelines.DOWNLOADED": 162_000_000,
      "torchvision.datasets.CIFAR10": OfXml, "analysis.reproduce.pipelines.operations_at": one_of(1, 2),
      "analysis.reproduce.pipelines.trained_on": one_of(0.0)},
     {"pictures of CIFAR-10": (WRONG, EXACT), "size of CIFAR-10": (EXACT, DIFFERENT),
      "labels of its pictures": (WRONG, EXACT), "pictures resized to 224": (WRONG, EXACT),
      "validation pictures": (WRONG, EXACT)}),
    (pipelines.training_of_report_e,
     {"analysis.reproduce.pipelines.GROUPS": ("final",), "analysis.reproduce.pipelines.FACTOR": 0.9,
      "analysis.reproduce.pipelines.STUDENT": pipelines.TEACHER},
     {"training of ResNet-18": (EXACT, DIFFERENT), "the learning rate decays gradually": (DIFFERENT, EXACT),
      "pipelines of student and teacher": (DIFFERENT, EXACT)}),
    (pipelines.pruning_of_report_e,
     {"analysis.reproduce.pipelines.PRUNING": "l1_unstructured",
      "analysis.reproduce.pipelines.on_meta": lambda *_: nn.Conv2d(3, 4, 3, bias=False)},
     {"what is pruned, and within what": (WRONG, EXACT)}),
    (pipelines.integers_of_report_e,
     {"analysis.reproduce.pipelines.bias_bytes": one_of(1), "analysis.reproduce.pipelines.BATCHES": 10},
     {"what static int8 converts": (WRONG, EXACT),
      "pictures and epochs of dynamic int8": (EXACT, DIFFERENT)}),
    (pipelines.measures_of_report_e,
     {"analysis.reproduce.pipelines.BASE_MB": 50,
      "analysis.reproduce.pipelines.MEASURES": {"pruning": "34.16", "static int8": "21.58",
                                                "distillation": "10.38"},
      "analysis.reproduce.pipelines.CELL_SECONDS": (90.0, 90.0, 90.0)},
     {"compression measure": (WRONG, EXACT),
      "the pruned network in parts of the dense network": (EXACT, DIFFERENT),
      "what latency is": (WRONG, EXACT)}),
]  # fmt: skip


@pytest.mark.parametrize("case", REVERSALS, ids=lambda case: case[0].__name__)
def test_another_measurement_reverses_the_verdict(case, monkeypatch) -> None:
    function, measured, lines = case
    for place, value in measured.items():
        monkeypatch.setattr(place, value)
    found = {line.item: line.verdict for line in function()}
    assert all(natural != other for natural, other in lines.values())
    assert {item: found[item] for item in lines} == {item: other for item, (_, other) in lines.items()}


@dataclass(frozen=True)
class Told(Run):
    """A run whose summary is given."""

    means: pd.DataFrame = field(default_factory=pd.DataFrame)
    name: str = ""

    @property
    def preset(self) -> str:
        return self.name

    @property
    def call(self) -> str:
        return self.name

    def summary(self) -> pd.DataFrame:
        return self.means


def told(
    command: str, config: Any, rows: list[dict], *, frame: list[dict] | None = None, name: str = ""
) -> Told:
    means = pd.DataFrame(rows)
    return Told(Path("none"), command, config, pd.DataFrame(frame or rows), means, name)


GAPS = {-0.1: BETTER, 0.001: EQUIVALENT, 0.1: WORSE, 0.0: EXACT}


@pytest.mark.parametrize("gap", GAPS)
def test_every_trained_line_turns_with_its_run(gap: float, monkeypatch) -> None:
    found = {}
    for row in TRAINED:
        error = gap if isinstance(row.published, str) else row.published + gap
        rows = [dict(row.where) | {f"{row.column}_mean": error, f"{row.column}_half_width": abs(gap) / 2}]
        run = told(row.command, preset_of(row.command, row.preset), rows, name=row.preset)
        monkeypatch.setattr(trained, "TRAINED", (row,))
        (line,) = trained_lines([run])
        found[line.report, line.item] = line.verdict
    assert len(found) == len(TRAINED) and set(found.values()) == {GAPS[gap]}


@pytest.mark.parametrize("gap", [-0.1, 0.001, 0.1, 0.0])
@pytest.mark.parametrize("scale", ["", "-reduced"])
def test_every_effect_turns_with_its_run(gap: float, scale: str) -> None:
    runs = []
    for effect in EFFECTS:
        rows = [
            dict(where) | {"seed": seed, "top1_error": error + 1e-5 * seed * (gap != 0 and error > 0.4)}
            for seed in range(3) for where, error in ((effect.rows, 0.4 + gap), (effect.beside, 0.4))
        ]  # fmt: skip
        config = replace(preset_of(effect.command, effect.preset), limit=2_000 if scale else None)
        runs.append(told(effect.command, config, rows, name=effect.preset + scale))
    for effect, run in zip(EFFECTS, runs, strict=True):
        lines = [
            line
            for line in effect_lines([run])
            if line.item.removesuffix(", at reduced scale") == effect.item
        ]
        judged = [line for line in lines if line.verdict != Verdict.NOT_RUN]
        assert [line.verdict for line in judged] == [GAPS[gap]]
        assert [line.figures for line in judged] == [0 if scale else effect.figures]
        assert sum(line.figures for line in lines) == effect.figures, "counted once, whatever the scale"
        assert (judged[0].item != effect.item) == bool(scale)


def surrogates(
    gap: float, half: float, *, same_file: bool = True, smoke: bool = False, itself: float = 1.0
) -> dict[str, Told]:
    """Runs of the stand-ins where errors lie `gap` above their references, and speed-ups are 1 + 5 gap.

    itself: the speed-up of the whole network beside itself
    """
    alone = [{"technique": "baseline", "speedup_1": 1.0, "speedup_32": itself}]
    error = {"top1_error_difference_mean": gap, "top1_error_difference_half_width": half}
    time = {"speedup_32_mean": 1 + 5 * gap, "speedup_32_half_width": half}
    size = {"file_bytes_mean": 100.0, "flops_mean": 100.0} | time | error
    masked = size | {"technique": "masked", "file_bytes_mean": 100.0 if same_file else 50.0}
    means = [size | {"technique": name} for name in ("baseline", "static-int8")]
    schemes = [error | {"scheme": name} for name in ("uncalibrated", "static")]
    seeds = [
        {"seed": seed, "scheme": name, "top1_error": 0.4 + gap * (name == "uncalibrated") + half * seed * 0.1}
        for seed in range(3) for name in ("uncalibrated", "static")
    ]  # fmt: skip
    students = [
        {"variant": name, "error_minus_distilled_mean": gap, "error_minus_distilled_half_width": half}
        for name in ("distilled", "class-mean", "dropout-on", "cold", "report-b")
    ]
    return {
        "capacity_curve": told("capacity_curve", capacity_curve.Config(smoke=smoke),
                               [error | {"criterion": "l1", "step": 5}]),
        "comparison": told("comparison", comparison.Config(smoke=smoke), [*means, masked],
                           frame=alone),
        "quantization_table": told("quantization_table", quantization_table.Config(smoke=smoke), schemes,
                                   frame=seeds),
        "distillation_table": told("distillation_table", distillation_table.Config(smoke=smoke), students),
    }  # fmt: skip


def test_every_line_of_a_stand_in_turns_with_its_run() -> None:
    verdicts = {
        gap: {line.item: line.verdict for line in surrogate_claims(surrogates(gap, 0.002))}
        for gap in (-0.1, 0.0, 0.1)
    }  # fmt: skip
    assert len({*map(tuple, verdicts.values())}) == 1 and len(verdicts[0.1]) == 9
    for item in verdicts[0.1]:
        timed = "time" in item or "latency" in item
        assert verdicts[0.1][item] == (BETTER if timed else WORSE), item
        assert verdicts[-0.1][item] == (WORSE if timed else BETTER), item
    for itself, count in ((1.1, 0), (2.39, 2)):
        lines = surrogate_claims(surrogates(0.0, 0.002, itself=itself, smoke=True))
        said = "the whole network differs from itself by a factor of 2.4; take them again"
        assert sum(said in line.why for line in lines) == count
    changed = {line.item: line.verdict for line in surrogate_claims(surrogates(0.0, 0.002, same_file=False))}
    assert changed["unstructured pruning leaves size and time unchanged"] == DIFFERENT
    quick = {line.verdict for line in surrogate_claims(surrogates(0.1, 0.002, smoke=True))}
    assert quick == {Verdict.QUICK_PASS}
