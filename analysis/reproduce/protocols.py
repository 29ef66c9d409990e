"""How the reports say they trained, beside what their public code does.

The settings below stand in github.com/Murthy1999/CS294-082 and github.com/hoangbros03/pytorch-cifar100.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from analysis.lab.measurement.verdict import demonstration, exact, matches
from analysis.reproduce.claim import Claim
from analysis.reproduce.exact import left_of_a_tenth, parameters_by_layer
from capacity.columns import percent
from capacity.seeding import seed_generators

if TYPE_CHECKING:
    from torch import nn

LOADED, ASKED = 100, 10  # report A's pictures a batch: of its loaders, and as its README asks
EPOCHS = 3  # of report A's published run; its README sets 6
TRAININGS, TESTS, SQUEEZED = 6, 6, 5  # times, in report A's published run
WEIGHTS_OF_B = ("vgg16-200-regular", "v1-200regular", "v4-200-regular", "v5-200-regular", "v6-200-regular")
FLOAT_B, INTEGER_B, LEFT_B = 34_015_396, 14_723_136, (33_989_482, 33_723_294)  # parameters of its Tables 4, 6
MIDDLE_B = (20, 21, 24, 25, 28, 31)  # features that its notebook lists
CLASSES = (
    5_923,
    6_742,
    5_958,
    6_131,
    5_842,
    5_421,
    5_918,
    6_265,
    5_851,
    5_949,
)  # of MNIST's training pictures


def layers_that_learn() -> Iterator[Claim]:
    """Report A counts the capacity of layers that its code freezes."""
    from capacity import dense_capacity

    head = _head_of_report_a()
    learns = {name: parameter.requires_grad for name, parameter in head.named_parameters()}
    frozen = [name for name in ("0.weight", "3.weight") if not learns[name]]
    bits = dense_capacity(4096, [256, 10])
    yield Claim(
        "A", "layers that learn", "back-propagation in all of 25088-4096-4096-256-10",
        "4096-256-10" if len(frozen) == 2 else "all",
        demonstration(printed=not frozen, corrected=learns["6.0.weight"] and learns["6.3.weight"]),
        "all parameters are frozen before the last layer is replaced by two new ones, and the copy put back "
        f"after dropout is not the optimizer's; by the same rules what learns has {bits:,} bits",
        source="Section 2; Model.py, __init__(); DeepCompressor.py, train()",
    )  # fmt: skip


def _head_of_report_a() -> "nn.Sequential":
    """VGG16's head as its code makes it: frozen whole, then its last layer replaced."""
    import torch
    from torch import nn

    with torch.device("meta"):
        head = nn.Sequential(
            nn.Linear(25_088, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(),
            nn.Linear(4096, 1000),
        )  # fmt: skip
        for parameter in head.parameters():
            parameter.requires_grad = False
        head[6] = nn.Sequential(
            nn.Linear(4096, 256), nn.ReLU(), nn.Dropout(0.4), nn.Linear(256, 10), nn.LogSoftmax(dim=1)
        )
    return head


def training_of_report_a() -> Iterator[Claim]:
    """Report A's batches, epochs and repetitions."""
    yield Claim(
        "A", "pictures a batch", "under 25", f"{LOADED}",
        demonstration(printed=LOADED < 25, corrected=ASKED < 25),
        f"its README asks for {ASKED}, which reaches the trainer and no loader",
        source="Section 3.2; Model.py, prepare_dataset(); README.md, step 3",
    )  # fmt: skip
    yield Claim(
        "A", "epochs of a training", "under 6", f"{EPOCHS}", exact(EPOCHS < 6), "its README sets 6",
        source="Section 3.2; FinalScript.pdf, cell 3; README.md, step 3",
    )  # fmt: skip
    yield Claim(
        "A", "times that it is trained, tested and squeezed", "about 6",
        f"{TRAININGS}, {TESTS} and {SQUEEZED}",
        exact(TRAININGS == TESTS == 6, abs(SQUEEZED - 6) <= 1), "the last test ends it",
        source="Section 3.1; FinalScript.pdf, cell 5",
    )  # fmt: skip


def data_of_report_a() -> Iterator[Claim]:
    """Report A's sentences about MNIST."""
    import numpy as np

    largest = int(np.iinfo(np.uint8).max)
    yield Claim(
        "A", "grey values of MNIST", "0-225", f"0 to {largest}",
        demonstration(printed=largest == 225, corrected=largest == 255),
        "a byte each", source="Question 2",
    )  # fmt: skip
    share = np.array(CLASSES) / sum(CLASSES)
    bits = float(-(share * np.log2(share)).sum())
    even = float(np.log2(len(CLASSES)))
    yield Claim(
        "A", "classes of MNIST are balanced", "even distribution",
        f"{percent(share.min(), 1)} to {percent(share.max(), 1)} of the training pictures",
        exact(bits / even > 0.995), f"a label has {bits:.3f} of {even:.3f} bits", source="Question 2",
    )  # fmt: skip


def pruned_network() -> Iterator[Claim]:
    """Report B says that it pruned the quantized network."""
    yield Claim(
        "B", "network that is pruned", "the quantized one", "the float one",
        demonstration(printed=max(LEFT_B) <= INTEGER_B, corrected=INTEGER_B < min(LEFT_B) < FLOAT_B),
        f"{LEFT_B[0]:,} parameters are left of {FLOAT_B:,}; the quantized one counts {INTEGER_B:,}, and its "
        "notebook copies the teacher",
        source="Section 6.3; QuantizationAndPruning.ipynb, cell 9",
    )  # fmt: skip


def cut_by_report_b() -> Iterator[Claim]:
    """What report B says that it cut, and in which layers."""
    nodes, weights = shares_cut()
    yield Claim(
        "B", "what pruning cuts", "10 % of nodes",
        f"{percent(weights)} of the weights, {percent(nodes)} of the nodes",
        demonstration(printed=matches(10 * nodes, "1"), corrected=matches(10 * weights, "1")),
        "single weights are masked; counted on one layer of 64 filters",
        source="Section 6.3; QuantizationAndPruning.ipynb, cells 17 and 18",
    )  # fmt: skip
    convolutions, norms = parameters_by_layer()
    first = {left_of_a_tenth(sum(convolutions[:last])) for last in range(1, 13)}
    middle = left_of_a_tenth(sum(convolutions[place] + norms[place] for place in MIDDLE_B))
    counted = (
        left_of_a_tenth(sum(convolutions[1:12]) + sum(norms[1:12])),
        left_of_a_tenth(sum(convolutions[:25]) + sum(norms[:32])),
    )
    yield Claim(
        "B", "layers that are pruned", "few first convolutions (random), middle layers (L1)",
        "features 1 to 11 without the first convolution, norms too; features 0 to 31",
        demonstration(printed=LEFT_B[0] in first and LEFT_B[1] == middle, corrected=counted == LEFT_B),
        f"by the counts in its Table 6; by the middle layers that its notebook lists it were {middle:,}",
        source="Section 6.3; QuantizationAndPruning.ipynb, cells 14 and 19", figures=2,
    )  # fmt: skip


def shares_cut() -> tuple[float, float]:
    """Which part of a layer's filters, and of its weights, unstructured pruning of 10 % removes."""
    import torch
    from torch import nn
    from torch.nn.utils.prune import random_unstructured

    with torch.random.fork_rng():
        seed_generators(0)
        layer = random_unstructured(nn.Conv2d(64, 64, 3), "weight", amount=0.1)
    gone = layer.weight.detach().flatten(1) == 0
    return float(gone.all(1).float().mean()), float(gone.float().mean())


def epochs_of_report_b() -> Iterator[Claim]:
    """Report B's epochs, by the names of the weights that its notebooks load."""
    fits = [matches(200, name.split("-")[1].removesuffix("regular")) for name in WEIGHTS_OF_B]
    yield Claim(
        "B", "epochs of VGG16 and of its students", "200 each",
        f"200 in the names of {sum(fits)} of {len(fits)} weights that its notebooks load", exact(*fits),
        "its settings were left at 80",
        source="Tables 2 and 3; conf/global_settings.py; Benchmark.ipynb, cells 1, 15 and 16; Testing.ipynb, "
        "cell 5; KnowledgeDistillation.ipynb, cell 12",
        figures=10,
    )  # fmt: skip
    regular = [name.endswith("regular") for name in WEIGHTS_OF_B]
    yield Claim(
        "B", "validation samples", "not in use",
        f"{sum(regular)} of {len(regular)} weights are those of the last epoch", exact(*regular),
        "its script also keeps the weights that are best on the test, named so: those are not loaded",
        source="Section 3.2; train.py; Benchmark.ipynb, cells 1, 15 and 16",
    )  # fmt: skip


PROTOCOLS: tuple[Callable[[], Iterator[Claim]], ...] = (
    layers_that_learn, training_of_report_a, data_of_report_a, pruned_network, cut_by_report_b,
    epochs_of_report_b,
)  # fmt: skip
