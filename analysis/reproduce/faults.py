"""The faults of the five reports, each shown by a small computation that anyone can repeat."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from analysis.lab.measurement.verdict import demonstration, exact, matches
from analysis.lab.models import create
from analysis.reproduce.claim import Claim
from analysis.reproduce.exact import MIB
from capacity.columns import percent
from capacity.seeding import seed_generators
from compression.criteria import L1
from compression.dropout import neuron_dropout
from compression.evaluation import cohen_kappa
from compression.pruning import prune

EPOCHS = 100  # of report C's retraining


def kappa() -> Iterator[Claim]:
    """Report A printed (1 - po) / (1 - pe)."""
    perfect, chance = torch.tensor([[50, 0], [0, 50]]), torch.tensor([[25, 25], [25, 25]])

    sound = [(rule(perfect), rule(chance)) == (1, 0) for rule in (printed_kappa, cohen_kappa)]
    yield Claim(
        "A", "Cohen's kappa", "(1 - po) / (1 - pe)", "(po - pe) / (1 - pe)",
        demonstration(printed=sound[0], corrected=sound[1]),
        f"as printed, perfect agreement scores {printed_kappa(perfect):g} and chance "
        f"{printed_kappa(chance):g}; they are {cohen_kappa(perfect):g} and {cohen_kappa(chance):g}",
        source="Question 3",
    )  # fmt: skip


def printed_kappa(table: torch.Tensor) -> float:
    """The formula as printed, of a table of counts."""
    share = table.double() / table.sum()
    expected = float((share.sum(0) * share.sum(1)).sum())
    return (1 - float(share.diag().sum())) / (1 - expected)


def criteria_never_run() -> Iterator[Claim]:
    """Report A names three criteria; its code has one, on sums, and its six squeezes call none of them."""
    generator = torch.Generator().manual_seed(0)
    sums = torch.randn(4096, 64, generator=generator).sum(1)
    run = squeezed(sums)
    deviation = (sums - sums.mean()).abs()
    rules = {
        "L1": deviation.topk(100, largest=False)[1],
        "L2": deviation.square().topk(100, largest=False)[1],
        "reservoir": torch.randperm(len(sums), generator=generator)[:100],
    }
    shared = {name: len(run & set(units.tolist())) for name, units in rules.items()}
    smallest = {index for index, _ in sorted(enumerate(sums.tolist()), key=lambda pair: pair[1])[:100]}
    yield Claim(
        "A", "criteria: L1 and L2 norm, reservoir sampling", "used at each iteration",
        "the smallest sums of weights went",
        demonstration(printed=100 in shared.values(), corrected=run == smallest),
        "L2 and reservoir are empty branches; of 100 units removed among 4,096 random ones, "
        + ", ".join(f"{name} shares {count}" for name, count in shared.items()),
        source="Section 1; DeepCompressor.py, squeeze(); README.md, step 5", figures=3,
    )  # fmt: skip


def squeezed(sums: torch.Tensor) -> set[int]:
    """The units that report A's squeeze(100) removes, as its README calls it."""
    removed: list[int] = torch.mul(sums, -1).topk(100)[1].tolist()
    return set(removed)


def restored_dropout() -> Iterator[Claim]:
    """Report A's dropout put the old weights back after each training."""
    moved = [share_moved(restores=restores) for restores in (True, False)]
    yield Claim(
        "A", "dropout(100) of the first hidden layer", "trains the network", "its layer never learned",
        demonstration(printed=moved[0] > 0, corrected=moved[1] > 0),
        f"with the old weights put back after the training, {percent(moved[0])} of its weights differ; as "
        f"neuron dropout, {percent(moved[1])}",
        source="Section 3.1; DeepCompressor.py, train()",
    )  # fmt: skip


def share_moved(*, restores: bool) -> float:
    """Which part of a layer's weights a training with neuron dropout changes; `restores`: and puts back."""
    seed_generators(0)
    layer = nn.Linear(8, 40)
    model = nn.Sequential(layer, nn.ReLU(), nn.Linear(40, 3))
    x, y = torch.randn(64, 8), torch.randint(3, (64,))
    before = layer.weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with neuron_dropout(model, {"0": 10}, seed=0):
        for _ in range(20):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    if restores:
        layer.weight.data.copy_(before)
    return float((layer.weight != before).float().mean())


def best_epoch() -> Iterator[Claim]:
    """Report C chose its best epoch on the pictures that it is scored on."""
    error, pictures, trials = 0.2585, 10_000, 400
    generator = np.random.default_rng(0)
    test, validation = generator.binomial(pictures, error, (2, trials, EPOCHS)) / pictures
    rows = np.arange(trials)
    picked = {"test": test.min(1), "validation": test[rows, validation.argmin(1)]}
    gaps = {name: 100 * (scores.mean() - error) for name, scores in picked.items()}
    sound = {name: abs(gap) < 0.1 for name, gap in gaps.items()}
    yield Claim(
        "C", "best epoch", "chosen on the 10,000 test pictures",
        f"{gaps['test']:+.2f} points where {EPOCHS} epochs are all alike",
        demonstration(printed=sound["test"], corrected=sound["validation"]),
        f"chosen on other 10,000 pictures {gaps['validation']:+.2f}; {trials} simulated runs of independent "
        "epochs, so the most that it can be",
        source="its training loop",
    )  # fmt: skip


def theoretical_bytes() -> Iterator[Claim]:
    """Report E's size after pruning is a share, not a file."""
    from tempfile import TemporaryDirectory

    from analysis.lab.measurement.deployment import file_bytes
    from capacity.cloning import plain_copy
    from compression.codec import encode
    from compression.masks import masks_of
    from compression.targets import prunable

    model = create("cnn5", input_size=(3, 32, 32), classes=10)
    layers = [*prunable(model, None)]
    pruned = prune(model, L1(center="zero"), amount=0.6, scope="global", layers=layers).model
    before, after = file_bytes(model), file_bytes(plain_copy(pruned))
    with TemporaryDirectory() as folder:
        coded = encode(plain_copy(pruned), f"{folder}/net.dcz")
    dropped = sum(int((~mask).sum()) for mask in masks_of(pruned).values())
    assert dropped
    yield Claim(
        "E", "size after pruning 60 %", "17.08 MB", "42.69 MiB on disk, as before",
        demonstration(printed=matches(after / before, "0.4"), corrected=after == before),
        f"17.08 is 40 % of 42.69, which was never written: a five-layer network takes {before / MIB:.2f} MiB "
        f"before and {after / MIB:.2f} MiB after a mask of 60 %, and {coded / MIB:.2f} MiB with zeros coded",
        source="Table 1",
    )  # fmt: skip
    yield Claim(
        "E", "pruning masks weights and removes none", "without actually removing them",
        f"{before / MIB:.2f} MiB before and {after / MIB:.2f} MiB after", exact(after == before),
        "of a five-layer network's file", source="Section 4.4",
    )  # fmt: skip


FAULTS: tuple[Callable[[], Iterator[Claim]], ...] = (
    kappa, criteria_never_run, restored_dropout, best_epoch, theoretical_bytes,
)  # fmt: skip
