"""Several teachers: the mean of their softened probabilities, by another library; what is refused."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from torch import nn

from capacity import InputError
from compression import (
    DistillationLoss,
    FeatureLoss,
    TeacherEnsemble,
    TensorBatches,
    TrainingSettings,
    distill,
)
from compression.distillation import teacher_outputs


def dense(outputs: int = 3, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, outputs))


def rows(seed: int = 0) -> TensorBatches:
    generator = torch.Generator().manual_seed(seed)
    return TensorBatches(
        torch.randn(40, 4, generator=generator), torch.randint(0, 3, (40,), generator=generator), batch_size=8
    )


@settings(max_examples=20)
@given(
    st.lists(st.floats(0.01, 100), min_size=2, max_size=4),
    st.floats(0.2, 20),
    st.sampled_from([(5, 3), (2, 3, 4, 5), (2, 4, 3)]),
    st.integers(0, 99),
)
def test_the_softened_mean_by_scipy(weights: list[float], temperature: float, shape, seed: int) -> None:
    torch.manual_seed(seed)
    axis = {2: 1, 4: 1, 3: 2}[len(shape)]
    scale = nn.Parameter(torch.ones(()), requires_grad=False)
    teachers = [Fixed(4 * torch.randn(shape), scale) for _ in weights]
    together = TeacherEnsemble(
        teachers, temperature=temperature, weights=weights, class_axis=2 if axis == 2 else None
    )
    found = softmax(together(torch.zeros(shape)).double().numpy() / temperature, axis)
    each = [softmax(teacher.logits.double().numpy() / temperature, axis) for teacher in teachers]
    wanted = np.average(each, axis=0, weights=weights)
    np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=1e-7)


class Fixed(nn.Module):
    """A teacher that says the same of all inputs."""

    def __init__(self, logits: torch.Tensor, scale: nn.Parameter) -> None:
        super().__init__()
        self.register_buffer("logits", logits)
        self.scale = scale

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": self.scale * self.logits}


@pytest.mark.parametrize("kind", ["hinton", "soft-cross-entropy"])
@pytest.mark.parametrize("weights", [None, [3.0, 1.0]])
def test_a_step_is_that_under_the_weighted_mean_of_the_losses(kind, weights: list[float] | None) -> None:
    loss, teachers = DistillationLoss(3.0, 0.7, kind), [dense(seed=1), dense(seed=2)]
    student, (x, y) = dense(seed=3), next(iter(rows()))
    shares = [0.5, 0.5] if weights is None else [0.75, 0.25]
    outputs = [teacher(x).detach() for teacher in teachers]
    apart = sum(share * loss(student(x), given, y) for share, given in zip(shares, outputs, strict=True))
    together = TeacherEnsemble(teachers, temperature=3.0, weights=weights)(x).detach()
    one, two = (
        torch.autograd.grad(value, [*student.parameters()])
        for value in (apart, loss(student(x), together, y))
    )
    for first, second in zip(one, two, strict=True):
        torch.testing.assert_close(first, second)


def test_a_list_is_the_ensemble_at_the_loss_s_temperature_and_no_teacher_changes() -> None:
    teachers, lessons = [dense(seed=1).train(), dense(seed=2)], TrainingSettings(epochs=2)
    before, loss = copy.deepcopy([t.state_dict() for t in teachers]), DistillationLoss(2.0, 1.0)
    taught = distill(dense(seed=3), teachers, rows(), loss=loss, settings=lessons).model
    ensemble = TeacherEnsemble(teachers, temperature=2.0)
    same = distill(dense(seed=3), ensemble, rows(), loss=loss, settings=lessons).model
    other = distill(dense(seed=3), teachers[0], rows(), loss=loss, settings=lessons).model
    x = rows().inputs
    torch.testing.assert_close(taught(x), same(x))
    assert not torch.allclose(taught(x), other(x))
    assert teachers[0].training
    for state, teacher in zip(before, teachers, strict=True):
        assert all(torch.equal(state[key], value) for key, value in teacher.state_dict().items())


def test_cached_outputs_know_each_teacher_weight_and_temperature(tmp_path) -> None:
    teachers = [dense(seed=1), dense(seed=2)]
    path, ensemble = tmp_path / "taught.npy", TeacherEnsemble(teachers, temperature=2.0)
    stored = teacher_outputs(ensemble, rows(), path)
    with torch.no_grad():
        np.testing.assert_allclose(stored, ensemble(rows().inputs).numpy(), atol=2e-3)
    for other in (
        TeacherEnsemble(teachers, temperature=3.0),
        TeacherEnsemble(teachers, temperature=2.0, weights=[2, 1]),
        TeacherEnsemble([teachers[0], dense(seed=4)], temperature=2.0),
    ):
        with pytest.raises(InputError, match="outputs of another teacher"):
            teacher_outputs(other, rows(), path)


def test_features_of_one_of_several() -> None:
    features = FeatureLoss({"0": "teachers.1.0"}, kind="hint")
    lessons = TrainingSettings(epochs=1)
    result = distill(
        dense(seed=3), [dense(seed=1), dense(seed=2)], rows(), features=features, settings=lessons
    )
    assert set(result.model.state_dict()) == set(dense().state_dict())


@pytest.mark.parametrize(
    ("teachers", "options", "message"),
    [
        ([dense()], {}, "teachers must be two or more, found 1"),
        (dense(), {}, "teachers must be a list of networks, found one Sequential"),
        ([dense(), dense()], {"weights": [1, 2, 3]}, "weights must be 2 positive numbers"),
        ([dense(), "large"], {}, "teachers"),
        ([dense(), dense()], {"weights": [1, -1]}, "weights must be 2 positive numbers"),
        ([dense(), dense()], {"weights": [1, float("inf")]}, "weights must be 2 positive numbers"),
        ([dense(), dense()], {"temperature": 0}, "temperature must lie between"),
        ([dense(), dense()], {"class_axis": 1.5}, "class_axis"),
    ],
)
def test_what_is_no_ensemble_is_refused(teachers, options, message: str) -> None:
    with pytest.raises(InputError, match=message):
        TeacherEnsemble(teachers, **options)


def test_teachers_of_other_classes_or_without_a_common_form_are_refused() -> None:
    with pytest.raises(InputError, match=r"same classes: their logits have shapes \(2, 3\) and \(2, 4\)"):
        TeacherEnsemble([dense(3), dense(4)])(torch.zeros(2, 4))
    with pytest.raises(InputError, match="class_axis=2 for sequences"):
        TeacherEnsemble([dense(), dense()])(torch.zeros(2, 5, 4))
    with pytest.raises(InputError, match="axis 0 of the teachers' logits"):
        TeacherEnsemble([dense(), dense()], class_axis=0)(torch.zeros(2, 4))
    with pytest.raises(InputError, match="standardized logits of several teachers"):
        distill(dense(), [dense(), dense()], rows(), loss=DistillationLoss(kind="standardized"))
