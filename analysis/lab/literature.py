"""What others published, to stand beside what is measured here; amounts and errors as fractions."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def report_of(source: str) -> str:
    """The letter of the report that a source names; empty for other sources.

    >>> report_of("report B, Table 6"), report_of("sparse momentum")
    ('B', '')
    """
    match = re.match(r"report ([A-E])\b", source)
    return "" if match is None else match[1]


@dataclass(frozen=True)
class Point:
    """One published result of pruning; `amount` is the fraction of weights (or channels) removed.

    item, preset: how `reproduce` calls it, and the preset of pruning_curve that trains it
    top5_error: where it is published (report C's two after pruning in the order of its top-1 errors)
    """

    source: str
    model: str
    dataset: str
    criterion: str
    amount: float
    top1_error: float
    unit: str = "weight"
    item: str = ""
    preset: str = ""
    top5_error: float | None = None


REPORT_E_PRUNED = (95.04, 94.92, 95.65, 94.63, 94.42, 92.8, 90.26, 80.95, 35.98, 13.34)  # by tenths pruned
PRUNING = (
    Point("report B, Table 6", "vgg16bn", "cifar100", "random", 0.1, 0.6559,
          item="error after 10 % random pruning", preset="report-b", top5_error=0.3878),
    Point("report B, Table 6", "vgg16bn", "cifar100", "l1", 0.1, 0.4242,
          item="error after 10 % L1 pruning", preset="report-b", top5_error=0.2037),
    Point("report B, dense", "vgg16bn", "cifar100", "dense", 0.0, 0.2887),
    Point("report C, retrained", "googlenet", "cifar100", "l2", 0.2, 0.2585, "neuron",
          item="error without 20 % of the channels", preset="report-c", top5_error=0.0661),
    Point("report C, masked", "googlenet", "cifar100", "l1", 0.2, 0.275,
          item="error after masking (amount not told; 20 % here)",
          preset="report-c-masked", top5_error=0.0691),
    Point("report C, dense", "googlenet", "cifar100", "dense", 0.0, 0.2296, "neuron",
          item="error of GoogLeNet", preset="report-c", top5_error=0.0619),
    Point("report E, Table 1", "resnet18", "cifar10", "l1", 0.6, 0.0974,
          item="error after 60 % pruning", preset="report-e"),
    Point("report E, dense", "resnet18", "cifar10", "dense", 0.0, 0.0576,
          item="error of ResNet-18", preset="report-e"),
    *(
        Point("report E, Figure 2", "resnet18", "cifar10",
              "l1" if tenths else "dense", tenths / 10, round(1 - accuracy / 100, 4), preset="report-e",
              item=f"error after {10 * tenths} % pruning, of validation pictures")
        for tenths, accuracy in enumerate(REPORT_E_PRUNED) if tenths != 6
    ),
    # Dettmers and Zettlemoyer 2019, arXiv:1907.04840; Molchanov et al. 2017, arXiv:1701.05369
    Point("sparse momentum", "lenet5", "mnist", "l1", 0.991, 0.0089),
    Point("variational dropout", "lenet5", "mnist", "l1", 0.996, 0.008),
    Point("sparse momentum", "lenet300", "mnist", "l1", 0.95, 0.0153),
    Point("variational dropout", "lenet300", "mnist", "l1", 0.985, 0.019),
)  # fmt: skip


@dataclass(frozen=True)
class Student:
    """One published result of distillation; variant "alone" is the same student without its teacher.

    item, preset: how `reproduce` calls it, and the preset of distillation_table that trains it
    """

    source: str
    student: str
    dataset: str
    variant: str
    top1_error: float
    item: str = ""
    preset: str = ""
    top5_error: float | None = None


REPORT_B = {  # Tables 2 and 3: top-1 and top-5 errors of its students
    "v1": (0.4159, 0.1553), "v2": (0.3743, 0.1640), "v3": (0.3828, 0.1502), "v4": (0.5191, 0.3781),
    "v5": (0.5352, 0.4143), "v6": (0.3763, 0.1640), "v7": (0.4150, 0.1711),
}  # fmt: skip
DISTILLATION = (
    *(
        Student("report B", f"student_v{number}", "cifar100", "report-b", REPORT_B[f"v{number}"][0],
                f"error of student v{number}", "report-b", REPORT_B[f"v{number}"][1])
        for number in range(1, 8)
    ),
    Student("report B", "student_v6", "cifar100", "report-b", 0.3728,
            "error of student v6, its second figure", "report-b", 0.1600),
    Student("report B", "student_v7", "cifar100", "report-b", 0.4059,
            "error of student v7, its second figure", "report-b", 0.1761),
    Student("report D", "cnn_teacher", "mnist", "teacher", 0.0222,
            "error of the teacher on MNIST", "report-d"),
    Student("report D", "cnn_student", "mnist", "distilled", 0.0250,
            "error of the student on MNIST", "report-d"),
    Student("report D", "cnn_teacher", "cifar10", "teacher", 0.3028,
            "error of the teacher on CIFAR-10", "report-d-cifar10"),
    Student("report D", "cnn_student", "cifar10", "distilled", 0.4145,
            "error of the student on CIFAR-10", "report-d-cifar10"),
    Student("report D, its ResNet 101x3", "torchvision:wide_resnet101_2", "flowers102", "teacher", 0.0182,
            "error of a wide ResNet-101 on Flowers-102", "report-d-flowers"),
    Student("report D, its ResNet 50x1", "torchvision:resnet50", "flowers102", "matching", 0.1898,
            "error of ResNet-50 after function matching", "report-d-flowers"),
    Student("report E", "resnet18", "cifar10", "teacher", 0.0576),
    Student("report E", "cnn5", "cifar10", "alone", 0.33925, "error of the student alone", "report-e"),
    Student("report E", "cnn5", "cifar10", "freezing", 0.323, "error of the student at T = 0.01", "report-e"),
)  # fmt: skip


@dataclass(frozen=True)
class Record:
    """One published compressed network: bytes in single precision over bytes of the file, and its error."""

    source: str
    model: str
    compression_ratio: float
    top1_error: float
    dataset: str = "mnist"


COMPRESSION = (
    # Han et al. 2016, arXiv:1510.00149; Ullrich et al. 2017, arXiv:1702.04008;
    # Guo et al. 2016, arXiv:1608.04493; Havasi et al. 2019, arXiv:1810.00440
    Record("Deep Compression", "lenet300", 40, 0.0158),
    Record("soft weight-sharing", "lenet300", 64, 0.0194),
    Record("dynamic surgery", "lenet300", 56, 0.0199),
    Record("Deep Compression", "lenet5", 39, 0.0074),
    Record("soft weight-sharing", "lenet5", 162, 0.0097),
    Record("MIRACLE, 3.03 kB", "lenet5", 555, 0.0069),
    Record("MIRACLE, 1.52 kB", "lenet5", 1110, 0.0096),
)


def compression_records(model: str, dataset: str) -> list[Record]:
    """The published compressed files of a network on a data set."""
    return [record for record in COMPRESSION if (record.model, record.dataset) == (model, dataset)]


def published_students(students: Sequence[str], dataset: str) -> list[Student]:
    """The published results of these networks on a data set."""
    return [point for point in DISTILLATION if point.student in students and point.dataset == dataset]


def published(model: str, dataset: str) -> "pd.DataFrame":
    """The published points of a network on a data set, a row each; empty where there are none."""
    import pandas as pd

    rows = [vars(point) for point in PRUNING if (point.model, point.dataset) == (model, dataset)]
    return pd.DataFrame(rows, columns=list(Point.__dataclass_fields__))


# Errors guaranteed on new data, with priors that do not depend on it: Lotfi et al. 2022, arXiv:2211.13609
CERTIFICATES = {"mnist": 0.116, "cifar10": 0.582}
