"""Distillation losses against independent formulas, their limits, and training under a teacher."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax, logsumexp, softmax
from scipy.stats import entropy
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from capacity import InputError
from compression.batches import CropAndFlip, TensorBatches
from compression.criteria import L1
from compression.distillation import KINDS, DistillationLoss, distill, objective, teacher_outputs
from compression.masks import masks_of, nested
from compression.pruning import prune
from compression.squeezing import squeeze
from compression.training import TrainingSettings, evaluate, fit

GENERATOR = torch.Generator().manual_seed(0)
STUDENT, TEACHER = (3 * torch.randn(6, 5, generator=GENERATOR) for _ in range(2))
TARGETS = torch.tensor([0, 1, 2, 3, 4, 0])


def oracle(kind: str, z_s: np.ndarray, z_t: np.ndarray, y: np.ndarray, t: float, beta: float) -> float:
    """The soft terms as their papers print them, in double precision, a sample at a time."""
    total = 0.0
    for s, v, label in zip(z_s.astype(float), z_t.astype(float), y, strict=True):
        if kind == "standardized":
            s, v = (s - s.mean()) / s.std(ddof=1), (v - v.mean()) / v.std(ddof=1)
        p, q = softmax(v / t), softmax(s / t)
        if kind == "soft-cross-entropy":
            total += -(p * log_softmax(s / t)).sum()
        elif kind == "decoupled":
            b_p, b_q = np.array([p[label], 1 - p[label]]), np.array([q[label], 1 - q[label]])
            rest = np.arange(len(p)) != label
            total += entropy(b_p, b_q) + beta * entropy(softmax(v[rest] / t), softmax(s[rest] / t))
        else:
            total += entropy(p, q) * {"doubled": 2, "class-mean": 1 / len(p)}.get(kind, 1)
    return t**2 * total / len(y)


@pytest.mark.parametrize("temperature", [1e-6, 30.0, 100.0])
def test_single_precision_holds_at_all_temperatures_allowed(temperature: float) -> None:
    loss = DistillationLoss(temperature, 1.0)
    exact = float(loss(STUDENT.double(), TEACHER.double(), TARGETS))
    assert float(loss(STUDENT, TEACHER, TARGETS)) == pytest.approx(exact, rel=2e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_each_kind_is_its_paper_s_formula(kind, temperature: float, alpha: float) -> None:
    found = DistillationLoss(temperature, alpha, kind, beta=2.0)(STUDENT, TEACHER, TARGETS)
    arrays = STUDENT.numpy(), TEACHER.numpy(), TARGETS.numpy()
    hard = np.mean([logsumexp(z) - z[y] for z, y in zip(arrays[0].astype(float), arrays[2], strict=True)])
    soft = oracle(kind, *arrays, temperature, 2.0)
    assert float(found) == pytest.approx(alpha * soft + (1 - alpha) * hard, rel=2e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", ["map", "sequence", "sequence with axis 1"])
@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_dense_logits_are_means_over_positions(kind, shape: str, alpha: float) -> None:
    generator = torch.Generator().manual_seed(3)
    rest = (3, 2) if shape == "map" else (4,)
    student, teacher = (2 * torch.randn(2, 5, *rest, generator=generator) for _ in range(2))
    labels = torch.randint(0, 5, (2, *rest), generator=generator)
    labels[0, 1] = -100
    rows = [x.movedim(1, -1).reshape(-1, 5)[labels.flatten() != -100].numpy() for x in (student, teacher)]
    truth = labels[labels != -100].numpy()
    hard = np.mean([logsumexp(z) - z[y] for z, y in zip(rows[0].astype(float), truth, strict=True)])
    soft = oracle(kind, *rows, truth, 2.0, 2.0)
    if shape == "sequence":
        student, teacher = student.movedim(1, -1), teacher.movedim(1, -1)
    found = DistillationLoss(2.0, alpha, kind, beta=2.0)(student, teacher, labels)
    assert float(found) == pytest.approx(alpha * soft + (1 - alpha) * hard, rel=2e-5)
    axis = {"map": 1, "sequence": 2, "sequence with axis 1": -2}[shape]
    again = DistillationLoss(2.0, alpha, kind, beta=2.0, class_axis=axis)(student, teacher, labels)
    assert float(again) == float(found)
    if alpha == 1 and kind != "decoupled":  # labels are not needed
        plain = DistillationLoss(2.0, 1.0, kind, class_axis=axis)(student, teacher, torch.zeros(2))
        assert plain.isfinite() and float(plain) != float(found)


def test_the_loss_does_not_grow_with_the_positions() -> None:
    loss = DistillationLoss(2.0, 1.0)
    maps = [x[:, :, None, None].expand(-1, -1, 4, 4) for x in (STUDENT, TEACHER)]
    sequences = [x[:, None].expand(-1, 7, -1) for x in (STUDENT, TEACHER)]
    one = loss(STUDENT, TEACHER, TARGETS)
    torch.testing.assert_close(loss(*maps, TARGETS), one)
    torch.testing.assert_close(loss(*sequences, TARGETS[:, None].expand(-1, 7)), one)


def test_where_the_classes_are_must_be_clear() -> None:
    square, labels = torch.randn(2, 4, 4), torch.zeros(2, 4, dtype=torch.int64)
    for alpha in (0.5, 1.0):
        with pytest.raises(InputError, match="may be their axis 1 or 2"):
            DistillationLoss(1.0, alpha)(square, square, labels)
        own = (1 - alpha) * F.cross_entropy(square.transpose(1, 2), labels)  # nothing is to learn of itself
        torch.testing.assert_close(DistillationLoss(1.0, alpha, class_axis=2)(square, square, labels), own)
    with pytest.raises(InputError, match=r"say which axis is the classes, DistillationLoss\(class_axis=2\)"):
        DistillationLoss(1.0, 1.0)(square, square, torch.zeros(2))
    with pytest.raises(InputError, match="single output"):
        DistillationLoss(1.0, 1.0)(torch.zeros(3, 1), torch.zeros(3, 1), TARGETS[:3])


def test_double_precision_is_kept() -> None:
    logits = (STUDENT.double(), TEACHER.double())
    found = DistillationLoss(4.0, 1.0)(*logits, TARGETS)
    expected = oracle("hinton", *(z.numpy() for z in logits), TARGETS.numpy(), 4.0, 1.0)
    assert found.dtype == torch.float64 and float(found) == pytest.approx(expected, rel=1e-12)


def test_hinton_s_gradient_is_t_times_the_difference_of_probabilities() -> None:
    student = STUDENT.clone().requires_grad_()
    DistillationLoss(3.0, 1.0)(student, TEACHER, TARGETS).backward()
    expected = 3.0 * (F.softmax(STUDENT / 3, 1) - F.softmax(TEACHER / 3, 1)) / len(TARGETS)
    torch.testing.assert_close(student.grad, expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_agree_with_finite_differences(kind) -> None:
    loss = DistillationLoss(2.0, 0.7, kind)
    student = STUDENT.clone().requires_grad_()
    loss(student, TEACHER, TARGETS).backward()
    step = torch.zeros_like(STUDENT)
    for place in ((0, 0), (2, 3), (5, 4)):
        step.zero_()[place] = 1e-2
        slope = (loss(STUDENT + step, TEACHER, TARGETS) - loss(STUDENT - step, TEACHER, TARGETS)) / 2e-2
        assert float(slope) == pytest.approx(float(student.grad[place]), abs=5e-3, rel=1e-2)


def test_at_high_temperature_logits_are_matched() -> None:
    student, teacher = (STUDENT / 3).requires_grad_(), TEACHER / 3
    DistillationLoss(100, 1.0)(student, teacher, TARGETS).backward()
    z, v = (x - x.mean(1, keepdim=True) for x in (STUDENT / 3, teacher))
    torch.testing.assert_close(student.grad, (z - v) / (5 * len(TARGETS)), rtol=2e-2, atol=7e-4)


def test_at_low_temperature_the_teacher_s_class_is_a_label() -> None:
    cold = DistillationLoss(0.01, 1.0)(STUDENT, TEACHER, TARGETS) / 0.01
    margin = STUDENT.max(1).values - STUDENT.gather(1, TEACHER.argmax(1, keepdim=True)).squeeze(1)
    assert float(cold) == pytest.approx(float(margin.mean()), rel=0.05)


@pytest.mark.parametrize("kind", KINDS)
@given(logits=st.lists(st.floats(-20, 20), min_size=3, max_size=8), temperature=st.floats(0.1, 50))
def test_equal_logits_cost_nothing_and_others_never_less(kind, logits, temperature) -> None:
    z = torch.tensor([logits])
    loss = DistillationLoss(temperature, 1.0, kind)
    y = torch.tensor([0])
    least = float(loss(z, z, y))
    tolerance = 1e-4 * (1 + temperature**2)
    if kind != "soft-cross-entropy":
        assert least == pytest.approx(0, abs=tolerance)
    assert float(loss(z.roll(1, 1), z, y)) >= least - tolerance


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_large_logits_in_half_precision_stay_finite(kind, dtype) -> None:
    z = torch.tensor([[1e4, -1e4, 0.0], [0.0, 1e4, -1e4]], dtype=dtype).requires_grad_()
    v = torch.tensor([[-1e4, 1e4, 0.0], [0.0, 1e4, -1e4]], dtype=dtype)
    value = DistillationLoss(1.0, 0.5, kind)(z, v, torch.tensor([0, 1]))
    value.backward()
    assert value.dtype == torch.float32 and torch.isfinite(value) and torch.isfinite(z.grad).all()


def test_the_teacher_s_entropy_is_all_that_soft_cross_entropy_adds() -> None:
    for kind in ("hinton", "soft-cross-entropy"):
        z = STUDENT.clone().requires_grad_()
        value = DistillationLoss(2.0, 1.0, kind)(z, TEACHER, TARGETS)
        value.backward()
        if kind == "hinton":
            first, gradient = value, z.grad
    p = F.softmax(TEACHER / 2, 1)
    own = -4 * (p * p.log()).sum(1).mean()
    assert float(value - first) == pytest.approx(float(own), rel=1e-4)
    torch.testing.assert_close(gradient, z.grad, atol=1e-6, rtol=1e-4)


def net(units: int, dropout: float = 0.0) -> nn.Sequential:
    torch.manual_seed(units)
    return nn.Sequential(
        nn.Linear(8, units), nn.BatchNorm1d(units), nn.ReLU(), nn.Dropout(dropout), nn.Linear(units, 4)
    )


INPUTS = torch.randn(400, 8, generator=torch.Generator().manual_seed(1))
LABELS = (INPUTS[:, 0] > 0).long() * 2 + (INPUTS[:, 1] * INPUTS[:, 2] > 0).long()
DATA = TensorBatches(INPUTS, LABELS, 50, shuffle=True)
WHOLE = TensorBatches(INPUTS, LABELS, 400)


def teacher() -> nn.Module:
    return fit(net(64, 0.2), DATA, settings=TrainingSettings(epochs=20)).model


def test_a_student_follows_its_teacher_and_neither_given_network_changes() -> None:
    master, student = teacher().train(), net(16)
    before = copy.deepcopy(master.state_dict()), copy.deepcopy(student.state_dict())
    found = distill(
        student, master, DATA, loss=DistillationLoss(2.0, 1.0), settings=TrainingSettings(epochs=20)
    )
    assert master.training
    for old, new in zip(before, (master, student), strict=True):
        assert all(torch.equal(old[key], value) for key, value in new.state_dict().items())
    agree = (found.model(INPUTS).argmax(1) == master.eval()(INPUTS).argmax(1)).float().mean()
    assert (
        agree > 0.9 and found.history[-1]["training_loss_nats"] < found.history[0]["training_loss_nats"] / 3
    )


def test_the_teacher_runs_in_evaluation_mode() -> None:
    master = teacher().train()
    one, two = (distill(net(4), master, DATA, settings=TrainingSettings(epochs=2)) for _ in range(2))
    assert one.history == two.history
    loss = objective(master, DistillationLoss(1.0, 1.0))
    value = loss(lambda x: master.eval()(x), INPUTS, LABELS)
    assert float(value) == pytest.approx(0, abs=1e-6)


def test_alpha_zero_is_plain_training() -> None:
    plain = fit(net(16), DATA, settings=TrainingSettings(epochs=2)).model
    under = distill(
        net(16), teacher(), DATA, loss=DistillationLoss(alpha=0.0), settings=TrainingSettings(epochs=2)
    ).model
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), under.parameters(), strict=True))


def test_cached_outputs_teach_as_those_computed_on_the_fly(tmp_path) -> None:
    master, settings = teacher(), TrainingSettings(epochs=3)
    live = distill(net(16), master, DATA, settings=settings)
    first = distill(net(16), master, DATA, settings=settings, cache=tmp_path / "outputs.npy")
    again = distill(net(16), master, DATA, settings=settings, cache=tmp_path / "outputs.npy")
    assert first.history == again.history
    for a, b in zip(live.history, first.history, strict=True):
        assert a["training_loss_nats"] == pytest.approx(b["training_loss_nats"], rel=5e-3)  # half precision
    kept = teacher_outputs(master, DATA, tmp_path / "outputs.npy")
    assert isinstance(kept, np.memmap) and kept.dtype == np.float16 and kept.shape == (400, 4)
    torch.testing.assert_close(torch.from_numpy(np.array(kept)).float(), master(INPUTS), atol=2e-2, rtol=2e-3)


def test_cached_outputs_of_another_teacher_or_data_set_are_refused(tmp_path) -> None:
    master, path = teacher(), tmp_path / "outputs.npy"
    distill(net(16), master, DATA, settings=TrainingSettings(epochs=1), cache=path)
    with pytest.raises(InputError, match="outputs of another teacher;"):
        distill(net(16), net(64), DATA, settings=TrainingSettings(epochs=1), cache=path)
    with pytest.raises(InputError, match="outputs of another data;"):
        distill(
            net(16),
            master,
            TensorBatches(-INPUTS, LABELS, 50),
            settings=TrainingSettings(epochs=1),
            cache=path,
        )
    with pytest.raises(InputError, match="each epoch sees other pictures"):
        pictures = TensorBatches(torch.zeros(4, 1, 8, 8), LABELS[:4], 2, augment=CropAndFlip())
        distill(net(16), master, pictures, cache=path)
    with pytest.raises(InputError, match="not mixed up"):
        distill(net(16), master, DATA, cache=path, mixup=True)
    path.with_suffix(".json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        distill(net(16), master, DATA, cache=path)


def test_function_matching_mixes_the_same_batch_for_both() -> None:
    master, seen = teacher(), []
    master.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    student_saw = []

    def student(x: torch.Tensor) -> torch.Tensor:
        student_saw.append(x)
        return torch.zeros(len(x), 4, requires_grad=True)

    loss = objective(master, DistillationLoss(1.0, 1.0), mixup=True, seed=3)
    loss(student, INPUTS, LABELS)
    loss(student, INPUTS, LABELS)
    assert len(seen) == 2 and all(torch.equal(a, b) for a, b in zip(seen, student_saw, strict=True))
    assert not torch.equal(seen[0], INPUTS) and not torch.equal(seen[0], seen[1])
    found = distill(
        net(16),
        teacher(),
        DATA,
        loss=DistillationLoss(1.0, 1.0),
        mixup=True,
        settings=TrainingSettings(epochs=20),
    )
    assert evaluate(found.model, WHOLE).top1_error < 0.5


def test_retraining_in_a_squeeze_under_the_dense_teacher() -> None:
    master = teacher()
    steps = list(
        squeeze(master, L1("zero"), amount=0.5, iterations=2, evaluate=lambda m: evaluate(m, WHOLE),
                retrain=lambda m: distill(m, master, DATA, settings=TrainingSettings(epochs=3)))
    )  # fmt: skip
    assert steps[2].density == pytest.approx(0.25, abs=0.01)
    masked = prune(master, L1(), amount=0.5).model
    after = distill(
        masked, master, DataLoader(TensorDataset(INPUTS, LABELS), 100), settings=TrainingSettings(epochs=1)
    ).model
    assert nested(masks_of(after), masks_of(masked))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature must lie between 1e-06 and 100,"),
        ({"temperature": 101}, "temperature must lie between 1e-06 and 100,"),
        ({"temperature": float("inf")}, "temperature must lie between"),
        ({"temperature": float("nan")}, "temperature must be a number"),
        ({"alpha": 1.1}, r"alpha must lie in \[0, 1\]"),
        ({"alpha": -0.1}, r"alpha must lie in \[0, 1\]"),
        ({"kind": "hinten"}, "did you mean 'hinton'"),
    ],
)
def test_bad_settings(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        DistillationLoss(**options)


def test_bad_networks(tmp_path) -> None:
    other = nn.Sequential(nn.Linear(8, 7))
    with pytest.raises(InputError, match=r"same classes: their logits have shapes \(50, 4\) and \(50, 7\)"):
        distill(net(16), other, DATA)
    broken = nn.Linear(8, 4)
    nn.init.constant_(broken.bias, float("nan"))
    for cache in (None, tmp_path / "outputs.npy"):
        with pytest.raises(InputError, match="teacher's outputs are not finite"):
            distill(net(16), broken, DATA, cache=cache)
    nn.init.constant_(broken.bias, 1e5)
    with pytest.raises(InputError, match="the most that half precision holds"):
        distill(net(16), broken, DATA, cache=tmp_path / "outputs.npy")
