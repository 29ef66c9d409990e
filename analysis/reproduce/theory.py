"""Report A's rules of capacity and its sentences on memorizing, each by a computation of a second."""

import math
from collections.abc import Callable, Iterator
from itertools import product

from analysis.lab.measurement.verdict import demonstration, exact
from analysis.reproduce.claim import Claim
from capacity.seeding import seed_generators

CLASSES = 4  # outputs of the small network
DISTINCT = 200  # inputs, no two the same


def rules_of_a_perceptron() -> Iterator[Claim]:
    """Report A's second and third rule: a perceptron holds its parameters, and several hold the sum."""
    fits = [
        dichotomies(inputs + more, inputs) == 2 ** (inputs + more)
        for inputs in range(1, 20) for more in (0, 1)
    ]  # fmt: skip
    fits += [dichotomies(inputs + 2, inputs) < 2 ** (inputs + 2) for inputs in range(1, 20)]
    yield Claim(
        "A", "capacity of a perceptron, and of several in parallel", "its number of parameters; their sum",
        "all labelings of as many points, and of no more", exact(*fits),
        "by Cover's count of dichotomies, for 1 to 19 inputs and a bias; labels of two outputs are "
        "independent, so their bits add up",
        source="Section 2, second and third rule", figures=2,
    )  # fmt: skip


def dichotomies(points: int, inputs: int) -> int:
    """How many labelings of points in general position a perceptron with a bias realizes (Cover 1965)."""
    return 2 * sum(math.comb(points - 1, k) for k in range(inputs + 1))


def rules_of_layers() -> Iterator[Claim]:
    """Report A's first and fourth rule cap a layer by one bit for each unit before it."""
    from capacity import dense_capacity

    limit, stored = dense_capacity(1, [2, CLASSES]), math.log2(labelings())
    parameters = 4 + 3 * CLASSES
    yield Claim(
        "A", "a layer is limited by one bit of each unit before it",
        f"at most {limit} bits for 1-2-{CLASSES}", f"{stored:g} bits stored",
        demonstration(printed=stored <= limit, corrected=stored <= 32 * parameters),
        f"two points with {CLASSES} labels each, every one of the {2 ** (2 * CLASSES)} labelings fitted: the "
        "output of a rectified unit is no bit; the bound that holds is that of the bits stored",
        source="Section 2, first and fourth rule", figures=2,
    )  # fmt: skip


def labelings() -> int:
    """How many labelings of two points a dense 1-2-CLASSES network with rectified units fits."""
    import torch

    points = torch.tensor([[-1.0], [1.0]])
    hidden = torch.relu(points @ torch.tensor([[1.0, -1.0]]))  # from which x is the difference
    fitted = 0
    for signs in product((-1.0, 1.0), repeat=2 * CLASSES):
        wanted = torch.tensor(signs).view(2, CLASSES)
        slope, offset = (wanted[1] - wanted[0]) / 2, wanted.mean(0)
        output = hidden @ torch.stack([slope, -slope]) + offset
        fitted += bool((output.sign() == wanted).all())
    return fitted


def memorizing() -> Iterator[Claim]:
    """Report A concludes from pictures that all differ that nothing can have been memorized."""
    fitted = share_memorized()
    yield Claim(
        "A", "memorizing where no two images are the same", "impossible", f"{100 * fitted:.0f} % memorized",
        demonstration(printed=fitted < 0.9, corrected=fitted == 1),
        f"random labels of {DISTINCT} random inputs, no two alike, learned by a network of one hidden layer",
        source="Question 8",
    )  # fmt: skip


def share_memorized() -> float:
    """Which part of random labels of distinct random inputs a network of one hidden layer learns."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(DISTINCT, 20, generator=generator)
    labels = torch.randint(10, (DISTINCT,), generator=generator)
    with torch.random.fork_rng():
        seed_generators(0)
        model = nn.Sequential(nn.Linear(20, 200), nn.ReLU(), nn.Linear(200, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    return float((model(inputs).argmax(1) == labels).float().mean())


def chance_agreement() -> Iterator[Claim]:
    """Report A's term of chance agreement, beside the kappa of this package."""
    import torch

    from compression.evaluation import cohen_kappa

    table = torch.tensor([[40, 3, 7], [5, 20, 5], [2, 8, 10]])
    total = int(table.sum())
    agreed, chance = float(table.diag().sum()) / total, float((table.sum(0) * table.sum(1)).sum()) / total**2
    kappa = (agreed - chance) / (1 - chance)
    yield Claim(
        "A", "chance agreement of two raters", "pe = Σ nk1 nk2 / N²", f"{chance:.4f} of {total} points",
        exact(abs(cohen_kappa(table) - kappa) < 1e-6),
        "with it, and po - pe over 1 - pe, Cohen's kappa follows", source="Question 3",
    )  # fmt: skip


THEORY: tuple[Callable[[], Iterator[Claim]], ...] = (
    rules_of_a_perceptron, rules_of_layers, memorizing, chance_agreement,
)  # fmt: skip
