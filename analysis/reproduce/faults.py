"""The faults of the five reports, each shown by a small computation that anyone can repeat."""

from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.nn import functional as F

from analysis.lab.measurement.verdict import demonstration, exact, matches
from analysis.lab.models import create
from analysis.reproduce.claim import Claim
from analysis.reproduce.exact import MIB
from compression.criteria import L1
from compression.dropout import neuron_dropout
from compression.evaluation import cohen_kappa
from compression.pruning import prune


def kappa() -> Iterator[Claim]:
    """Report A printed (1 - po) / (1 - pe)."""
    perfect, chance = torch.tensor([[50, 0], [0, 50]]), torch.tensor([[25, 25], [25, 25]])

    def printed(table: torch.Tensor) -> float:
        share = table.double() / table.sum()
        expected = float((share.sum(0) * share.sum(1)).sum())
        return (1 - float(share.diag().sum())) / (1 - expected)

    sound = [(rule(perfect), rule(chance)) == (1, 0) for rule in (printed, cohen_kappa)]
    yield Claim(
        "A", "Cohen's kappa", "(1 - po) / (1 - pe)", "(po - pe) / (1 - pe)",
        demonstration(printed=sound[0], corrected=sound[1]),
        f"as printed, perfect agreement scores {printed(perfect):g} and chance {printed(chance):g}; they are "
        f"{cohen_kappa(perfect):g} and {cohen_kappa(chance):g}",
    )  # fmt: skip


def one_scalar() -> Iterator[Claim]:
    """Report A's L1 and L2 were taken on the sum of a neuron's weights."""
    weights = torch.tensor([[0.9, -0.9, 0.0, 0.0], [0.5, 0.5, -0.5, 0.5], [0.1, 0.1, 0.1, 0.1]])
    sums = weights.sum(1)
    apart = (sums - sums.mean()).abs()
    same = apart.argsort().tolist() == apart.square().argsort().tolist()
    one = weights.abs().sum(1).argsort().tolist()
    two = weights.square().sum(1).argsort().tolist()
    yield Claim(
        "A", "criteria L1 and L2", "two criteria", "one, as they were applied",
        demonstration(printed=not same, corrected=one != two),
        f"on one number a neuron both rank alike ({'always' if same else 'not here'}); weight by weight they "
        f"differ: from least, {one} and {two}",
    )  # fmt: skip


def restored_dropout() -> Iterator[Claim]:
    """Report A's dropout put the old weights back after each batch."""
    torch.manual_seed(0)
    first = nn.Linear(8, 40)
    model = nn.Sequential(first, nn.ReLU(), nn.Linear(40, 3))
    x, y = torch.randn(64, 8), torch.randint(3, (64,))
    before = first.weight.detach().clone()
    moved = []
    for restores in (True, False):
        layer = nn.Linear(8, 40)
        trained = nn.Sequential(layer, nn.ReLU(), nn.Linear(40, 3))
        trained.load_state_dict(model.state_dict())
        optimizer = torch.optim.SGD(trained.parameters(), lr=0.1)
        with neuron_dropout(trained, {"0": 10}, seed=0):
            for _ in range(20):
                kept = layer.weight.detach().clone()
                optimizer.zero_grad()
                F.cross_entropy(trained(x), y).backward()
                optimizer.step()
                if restores:
                    layer.weight.data.copy_(kept)
        moved.append(float((layer.weight != before).float().mean()))
    yield Claim(
        "A", "dropout(100) of the first hidden layer", "trains the network", "its layer never learned",
        demonstration(printed=moved[0] > 0, corrected=moved[1] > 0),
        f"with the old weights put back, {moved[0]:.0%} of that layer's weights differ after 20 steps; as "
        f"neuron dropout, {moved[1]:.0%}",
    )  # fmt: skip


def misprinted_loss() -> Iterator[Claim]:
    """Report B printed the hard term as -Σ y·log(1 - ŷ)."""
    ends = []
    for printed in (True, False):
        logits = torch.zeros(1, 10, requires_grad=True)
        optimizer = torch.optim.SGD([logits], lr=1.0)
        for _ in range(200):
            optimizer.zero_grad()
            share = logits.softmax(1)[0, 3]
            (-torch.log1p(-share) if printed else -torch.log(share)).backward()
            optimizer.step()
        ends.append(float(logits.softmax(1)[0, 3].detach()))
    yield Claim(
        "B", "hard term of the distillation loss", "-Σ y log(1 - ŷ)", "-Σ y log ŷ",
        demonstration(printed=ends[0] > 0.1, corrected=ends[1] > 0.1),
        f"minimized as printed, the right class falls from 0.1 to {ends[0]:.4f}; by cross-entropy it rises "
        f"to {ends[1]:.4f}",
    )  # fmt: skip


def class_mean() -> Iterator[Claim]:
    """Report B's soft term was a mean over classes too."""
    from compression.distillation import DistillationLoss

    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(16, 100, generator=generator) for _ in range(2))
    targets = torch.zeros(16, dtype=torch.long)
    sound = float(DistillationLoss(1.0, 1.0)(student, teacher, targets))
    faulty = float(DistillationLoss(1.0, 1.0, "class-mean")(student, teacher, targets))
    divergence = F.kl_div(
        student.log_softmax(1), teacher.log_softmax(1), reduction="batchmean", log_target=True
    )
    fits = [abs(loss - float(divergence)) < 1e-4 for loss in (sound, faulty)]
    yield Claim(
        "B", "soft term of the distillation loss", "mean of 2T²α KL", f"{sound / faulty:.0f} times too weak",
        demonstration(printed=fits[1], corrected=fits[0]), "its code took the mean over the 100 classes too",
    )  # fmt: skip


def soft_cross_entropy() -> Iterator[Claim]:
    """Report D's soft loss and the divergence it is not."""
    from compression.distillation import DistillationLoss

    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(16, 10, generator=generator).double() for _ in range(2))
    targets = torch.zeros(16, dtype=torch.long)
    soft = float(DistillationLoss(1.0, 1.0, "soft-cross-entropy")(student, teacher, targets))
    divergence = float(DistillationLoss(1.0, 1.0)(student, teacher, targets))
    share = teacher.softmax(1)
    entropy = float(-(share * share.log()).sum(1).mean())
    yield Claim(
        "D", "cross-entropy of two softmaxes", "called the soft loss", "KL divergence + teacher's entropy",
        exact(matches(soft, f"{divergence + entropy:.6f}")),
        f"{soft:.6f} = {divergence:.6f} + {entropy:.6f} nats; the gradients are the same",
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
    )  # fmt: skip


FAULTS: tuple[Callable[[], Iterator[Claim]], ...] = (
    kappa, one_scalar, restored_dropout, misprinted_loss, class_mean, soft_cross_entropy, theoretical_bytes,
)  # fmt: skip
