"""The reports' losses of distillation, as printed and as run, each shown by a small computation."""

from collections.abc import Callable, Iterator

import torch
from torch.nn import functional as F

from analysis.lab.measurement.verdict import demonstration, exact, matches
from analysis.reproduce.claim import Claim

COLD = 0.01  # the temperature in the code of reports B and E
ALPHAS = (0.9, 0.9)  # in the code of reports B and E


def misprinted_loss() -> Iterator[Claim]:
    """Reports B and E printed the hard term as -Σ y·log(1 - ŷ)."""
    ends = [share_of_right_class(printed=printed) for printed in (True, False)]
    for report, source in (("B", "Figure 5"), ("E", "Figure 4")):
        yield Claim(
            report, "hard term of the distillation loss", "-Σ y log(1 - ŷ)", "-Σ y log ŷ",
            demonstration(printed=ends[0] > 0.1, corrected=ends[1] > 0.1),
            f"minimized as printed, the right class falls from 0.1 to {ends[0]:.4f}; by cross-entropy it "
            f"rises to {ends[1]:.4f}",
            source=source,
        )  # fmt: skip


def share_of_right_class(*, printed: bool) -> float:
    """The right class's probability, from 0.1, after 200 steps on the hard term."""
    logits = torch.zeros(1, 10, requires_grad=True)
    optimizer = torch.optim.SGD([logits], lr=1.0)
    for _ in range(200):
        optimizer.zero_grad()
        share = logits.softmax(1)[0, 3]
        (-torch.log1p(-share) if printed else -torch.log(share)).backward()
        optimizer.step()
    return float(logits.softmax(1)[0, 3].detach())


def class_mean() -> Iterator[Claim]:
    """The soft term of reports B and E was a mean over classes too."""
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
    for report, source in (
        ("B", "Figure 5; KnowledgeDistillation.ipynb, cell 11"),
        ("E", "Figure 4; Knowledge_Distillation.ipynb, cell 4"),
    ):
        yield Claim(
            report, "soft term of the distillation loss", "mean of 2T²α KL",
            f"{sound / faulty:.0f} times too weak for 100 classes",
            demonstration(printed=fits[1], corrected=fits[0]), "its code took the mean over the classes too",
            source=source,
        )  # fmt: skip
    yield Claim(
        "B", "alpha of its first experiment", "0.9, as in report E", f"{ALPHAS[0]} and {ALPHAS[1]}",
        exact(matches(ALPHAS[0], "0.9"), ALPHAS[0] == ALPHAS[1]), "in the code of both",
        source="Section 6.1.1; train.py; report E's Knowledge_Distillation.ipynb, cell 4",
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
        source="its soft loss",
    )  # fmt: skip


def cold_teacher() -> Iterator[Claim]:
    """Reports B and E set the temperature to 0.01 in code and weigh the soft term by its square."""
    alpha, generator = ALPHAS[0], torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(64, 10, generator=generator).double() for _ in range(2))
    targets = torch.randint(10, (64,), generator=generator)
    parts = {}
    for temperature in (COLD, 1.0):
        logits = student.clone().requires_grad_()
        soft = F.kl_div(
            (logits / temperature).log_softmax(1), (teacher / temperature).softmax(1), reduction="none"
        ).mean()
        (drawn,) = torch.autograd.grad(alpha * temperature**2 * soft, logits)
        hard = (1 - alpha) * F.cross_entropy(logits, targets)
        (taught,) = torch.autograd.grad(hard, logits)
        parts[temperature] = float(drawn.norm() / taught.norm())
    weight = alpha * COLD**2
    for report, published, source in (
        ("B", "T = 1", "Section 6.1.1; KnowledgeDistillation.ipynb, cell 11"),
        (
            "E",
            "T = 0.01 lets the teacher influence mildly",
            "Section 4.6; Knowledge_Distillation.ipynb, cell 4",
        ),
    ):
        yield Claim(
            report, "temperature of the distillation", published, f"T = {COLD:g}: a weight of {weight:.0e}",
            demonstration(printed=parts[COLD] > 0.1, corrected=parts[1.0] > 0.1),
            f"by its code the teacher's part of the gradient is {parts[COLD]:.3f} of the labels' part; at "
            f"T = 1 it would be {parts[1.0]:.2f}",
            source=source,
        )  # fmt: skip
    yield Claim(
        "E", "weight of the teacher at T = 1", "very high", f"{parts[1.0]:.2f} of the labels' weight",
        exact(parts[1.0] > 1), "by the gradients of its code, whose soft term is a mean over classes",
        source="Section 4.6",
    )  # fmt: skip


def hard(logits: torch.Tensor) -> torch.Tensor:
    """A prediction as 1, the rest 0."""
    return F.one_hot(logits.argmax(1), logits.shape[1]).float()


def hard_prediction() -> Iterator[Claim]:
    """Report D's hard loss takes the student's prediction as 1 and the rest as 0."""
    logits = torch.tensor([[2.0, 1.0, 0.0]], requires_grad=True)
    prediction = hard(logits)
    wrong = float(-(F.one_hot(torch.tensor([1]), 3) * prediction.detach().log()).nansum())
    F.cross_entropy(logits, torch.tensor([1])).backward()
    slope = 0.0 if logits.grad is None else float(logits.grad.abs().sum())
    yield Claim(
        "D", "hard loss", "cross-entropy of the hard prediction", "cross-entropy of the probabilities",
        demonstration(printed=prediction.requires_grad, corrected=slope > 0),
        f"an argmax has no gradient, and where it errs the loss is {wrong}",
        source="its hard loss",
    )  # fmt: skip


LOSSES: tuple[Callable[[], Iterator[Claim]], ...] = (
    misprinted_loss, class_mean, soft_cross_entropy, cold_teacher, hard_prediction,
)  # fmt: skip
