"""What others published, to stand beside what is measured here; amounts and errors as fractions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Point:
    """One published result of pruning; `amount` is the fraction of weights (or channels) removed."""

    source: str
    model: str
    dataset: str
    criterion: str
    amount: float
    top1_error: float
    unit: str = "weight"


PRUNING = (
    Point("report B, Table 6", "vgg16bn", "cifar100", "random", 0.1, 0.6559),
    Point("report B, Table 6", "vgg16bn", "cifar100", "l1", 0.1, 0.4242),
    Point("report B, dense", "vgg16bn", "cifar100", "dense", 0.0, 0.2887),
    Point("report C, retrained", "googlenet", "cifar100", "l2", 0.2, 0.2585, "neuron"),
    Point("report C, dense", "googlenet", "cifar100", "dense", 0.0, 0.2296, "neuron"),
    Point("report E, Table 1", "resnet18", "cifar10", "l1", 0.6, 0.0974),
    Point("report E, dense", "resnet18", "cifar10", "dense", 0.0, 0.0576),
    # Dettmers and Zettlemoyer 2019, arXiv:1907.04840; Molchanov et al. 2017, arXiv:1701.05369
    Point("sparse momentum", "lenet5", "mnist", "l1", 0.991, 0.0089),
    Point("variational dropout", "lenet5", "mnist", "l1", 0.996, 0.008),
    Point("sparse momentum", "lenet300", "mnist", "l1", 0.95, 0.0153),
    Point("variational dropout", "lenet300", "mnist", "l1", 0.985, 0.019),
)


@dataclass(frozen=True)
class Student:
    """One published result of distillation; variant "alone" is the same student without its teacher."""

    source: str
    student: str
    dataset: str
    variant: str
    top1_error: float


DISTILLATION = (
    *(
        Student("report B", f"student_v{number}", "cifar100", "report-b", error)
        for number, error in enumerate((0.4159, 0.3743, 0.3828, 0.5191, 0.5352, 0.3763, 0.4150), 1)
    ),
    Student("report D", "cnn_teacher", "mnist", "teacher", 0.0222),
    Student("report D", "cnn_student", "mnist", "distilled", 0.0250),
    Student("report D", "cnn_teacher", "cifar10", "teacher", 0.3028),
    Student("report D", "cnn_student", "cifar10", "distilled", 0.4145),
    Student("report E", "resnet18", "cifar10", "teacher", 0.0576),
    Student("report E", "cnn5", "cifar10", "alone", 0.33925),
    Student("report E", "cnn5", "cifar10", "freezing", 0.323),
)


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
