"""The loss under kept outputs: value and slope are those of the plain formula; where it does not apply."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from compression.batches import TensorBatches
from compression.distillation import FUSED, KINDS, MOST_CACHED, DistillationLoss, Taught, distill
from compression.soft_targets import SoftTargetLoss
from compression.training import TrainingSettings


def logits(count: int, classes: int, seed: int, scale: float = 3.0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (scale * torch.randn(count, classes, generator=generator) for _ in range(2))
    return student.requires_grad_(), teacher, torch.randint(classes, (count,), generator=generator)


@given(
    kind=st.sampled_from(list(FUSED)), temperature=st.sampled_from([0.5, 1.0, 4.0, 20.0]),
    alpha=st.sampled_from([0.1, 0.9, 1.0]), count=st.integers(1, 9), classes=st.integers(2, 12),
    seed=st.integers(0, 999), scale=st.sampled_from([0.1, 3.0, 60.0]),
)  # fmt: skip
def test_value_and_slope_are_those_of_the_formula(
    kind, temperature: float, alpha: float, count: int, classes: int, seed: int, scale: float
) -> None:
    student, teacher, labels = logits(count, classes, seed, scale)
    weight = FUSED[kind] / (classes if kind == "class-mean" else 1)
    log_p = torch.log_softmax(teacher / temperature, 1)
    found = SoftTargetLoss.apply(student, log_p, labels, (alpha * weight, temperature, 1 - alpha))
    wide = student.detach().double().requires_grad_()
    expected = DistillationLoss(temperature, alpha, kind)(wide, teacher.double(), labels)
    (slope,), (exact,) = torch.autograd.grad(3 * found, student), torch.autograd.grad(3 * expected, wide)
    assert found.item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-5 + 1e-6 * temperature**2)
    largest = float(exact.abs().max())
    torch.testing.assert_close(
        slope.double(), exact, rtol=1e-4, atol=1e-6 * (1 + temperature) + 1e-5 * largest
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("few", [True, False])
def test_kept_logits_are_shifted_by_what_no_kind_sees(kind, few: bool, monkeypatch) -> None:
    monkeypatch.setattr("compression.distillation.MOST_CACHED", MOST_CACHED if few else 0)
    student, teacher, labels = logits(40, 5, 1)
    taught = Taught(TensorBatches(student.detach(), labels, 16, shuffle=True), teacher.half().numpy(), 2.0)
    loss = DistillationLoss(2.0, 0.5, kind)
    seen = 0
    for rows, (inputs, (targets, given_)) in zip(taught.batches.rows(), taught, strict=True):
        torch.testing.assert_close((given_ / 2).exp().sum(1), torch.ones(len(rows)))
        expected = loss(inputs, teacher[rows].half().float(), labels[rows])
        torch.testing.assert_close(loss(inputs, given_, targets), expected, rtol=1e-4, atol=1e-5)
        seen += len(rows)
    assert seen == 40


class Halved(nn.Module):
    """Logits in double precision, which the written-out loss leaves to the formula."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).double()


def test_training_equals_the_formula_where_labels_are_left_out_and_in_double(tmp_path) -> None:
    x, _, labels = logits(60, 5, 3)
    x, master = x.detach(), nn.Linear(5, 5)
    settings = TrainingSettings(epochs=3, warmup_epochs=1)
    ignoring = labels.clone()
    ignoring[::7] = -100
    for student, given_ in ((nn.Linear(5, 5), labels), (nn.Linear(5, 5), ignoring), (Halved(), labels)):
        data = TensorBatches(x, given_, 16, shuffle=True)
        path = tmp_path / f"{id(given_)}.npy"
        kept = distill(student, master, data, settings=settings, cache=path).model
        live = distill(student, master, data, settings=settings).model
        for a, b in zip(kept.parameters(), live.parameters(), strict=True):
            torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)  # the cache is in half precision
