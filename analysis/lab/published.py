"""What others published, to stand beside what is measured here; amounts and errors as fractions."""

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


def published(model: str, dataset: str) -> "pd.DataFrame":
    """The published points of a network on a data set, a row each; empty where there are none."""
    import pandas as pd

    rows = [vars(point) for point in PRUNING if (point.model, point.dataset) == (model, dataset)]
    return pd.DataFrame(rows, columns=list(Point.__dataclass_fields__))
