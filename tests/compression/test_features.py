"""Losses of features against their papers' formulas, and students that learn them."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from capacity import InputError
from compression import DistillationLoss, FeatureLoss, TensorBatches, TrainingSettings, distill
from compression.features import adapters_of, by_position, captured

SHAPES = st.tuples(st.integers(2, 5), st.integers(1, 6), st.integers(1, 6), st.integers(0, 10**6))


def oracle(kind: str, one: np.ndarray, two: np.ndarray) -> float:
    """As the papers print them, a sample at a time, in double precision."""
    if kind == "hint":
        return float(np.mean([np.mean((s - t) ** 2) for s, t in zip(one, two, strict=True)]))
    if kind == "attention":
        total = 0.0
        for s, t in zip(one, two, strict=True):
            q_s, q_t = ((x**2).sum(1) for x in (s, t))
            total += np.linalg.norm(q_s / np.linalg.norm(q_s) - q_t / np.linalg.norm(q_t))
        return total / len(one)
    grams = []
    for x in (one, two):
        flat = x.reshape(len(x), -1)
        gram = flat @ flat.T
        grams.append(gram / np.linalg.norm(gram, axis=1, keepdims=True))
    return float(((grams[0] - grams[1]) ** 2).sum() / len(one) ** 2)


@settings(max_examples=25)
@given(SHAPES, st.sampled_from(["hint", "attention", "similarity"]))
def test_each_kind_is_its_papers_formula(shape, kind) -> None:
    *sizes, seed = shape
    one, two = torch.randn(2, *sizes, generator=torch.Generator().manual_seed(seed))
    loss = FeatureLoss({"a": "b"}, kind=kind, weight=3.0)
    value = loss({"a": one}, {"b": two})
    assert float(value) == pytest.approx(
        3 * oracle(kind, one.double().numpy(), two.double().numpy()), rel=1e-4
    )
    assert float(loss({"a": one}, {"b": one})) == pytest.approx(0, abs=1e-5)


@settings(max_examples=10)
@given(st.floats(0.1, 10), st.integers(0, 1000))
def test_attention_and_similarity_do_not_depend_on_the_size_of_features(size: float, seed: int) -> None:
    one, two = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(seed))
    for kind in ("attention", "similarity"):
        values = [float(FeatureLoss({"a": "b"}, kind=kind)({"a": x}, {"b": two})) for x in (one, size * one)]
        assert values[0] == pytest.approx(values[1], rel=1e-3)


def test_several_pairs_add_up() -> None:
    a, b, c = torch.randn(3, 4, 3, 5, generator=torch.Generator().manual_seed(0))
    both = FeatureLoss({"x": "u", "y": "v"})({"x": a, "y": b}, {"u": c, "v": a})
    one, two = FeatureLoss({"x": "u"})({"x": a}, {"u": c}), FeatureLoss({"y": "v"})({"y": b}, {"v": a})
    assert float(both) == pytest.approx(float(one + two))


def test_channels_are_last_whatever_the_layer() -> None:
    assert by_position(nn.Conv2d(1, 1, 1), torch.zeros(2, 5, 3, 4), "").shape == (2, 12, 5)
    assert by_position(nn.Conv1d(1, 1, 1), torch.zeros(2, 5, 3), "").shape == (2, 3, 5)
    assert by_position(nn.Linear(1, 1), torch.zeros(2, 5, 3), "").shape == (2, 5, 3)
    lstm = nn.LSTM(4, 3, batch_first=True)
    assert by_position(lstm, lstm(torch.zeros(2, 5, 4)), "").shape == (2, 5, 3)


def net(channels: int) -> nn.Sequential:
    torch.manual_seed(channels)
    parts = [nn.Conv2d(1, channels, 3), nn.ReLU(), nn.Conv2d(channels, channels, 3), nn.ReLU()]
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(16 * channels, 3))


def data() -> TensorBatches:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(96, 1, 8, 8, generator=generator)
    return TensorBatches(x, x[:, 0, :3, :3].mean((1, 2)).mul(9).long().clamp(-1, 1) + 1, 32)


def apart(student: nn.Module, teacher: nn.Module, loss: FeatureLoss) -> float:
    x = data().inputs
    with torch.no_grad(), captured(student, [*loss.layers], "student") as ours:
        student.eval()(x)
    with torch.no_grad(), captured(teacher, [*loss.layers.values()], "teacher") as theirs:
        teacher.eval()(x)
    return float(loss(ours, theirs))


@pytest.mark.parametrize(
    ("kind", "channels"), [("hint", 6), ("hint", 4), ("attention", 4), ("similarity", 4)]
)
def test_a_student_learns_what_its_teachers_layers_put_out(kind, channels: int) -> None:
    teacher, student = net(6), net(channels)
    student[0].weight.data.mul_(-1)
    before = copy.deepcopy((teacher.state_dict(), student.state_dict()))
    features = FeatureLoss({"1": "1", "3": "3"}, kind=kind, weight=20.0)
    lessons = TrainingSettings(epochs=6, learning_rate=0.02)
    result = distill(
        student, teacher, data(), loss=DistillationLoss(1.0, 1.0), features=features, settings=lessons
    )
    plain = distill(student, teacher, data(), loss=DistillationLoss(1.0, 1.0), settings=lessons)
    assert list(result.model.state_dict()) == list(student.state_dict())
    assert adapters_of(result.model) is None
    for old, new in zip(before, (teacher, student), strict=True):
        assert all(torch.equal(value, new.state_dict()[name]) for name, value in old.items())
    if kind != "hint" or channels == 6:
        assert apart(result.model, teacher, features) < apart(plain.model, teacher, features)
    losses = [entry["training_loss_nats"] for entry in result.history]
    assert losses[-1] < losses[0]


class Tokens(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed, self.block, self.head = (
            nn.Embedding(7, width),
            nn.Linear(width, width),
            nn.Linear(width, 7),
        )

    def forward(self, ids: Tensor) -> dict[str, Tensor]:
        return {"logits": self.head(self.block(self.embed(ids)).tanh())}


def test_sequences_and_named_outputs() -> None:
    torch.manual_seed(0)
    ids = torch.randint(7, (24, 5))
    train = TensorBatches(ids, ids.roll(1, 1), 12)
    result = distill(
        Tokens(4),
        Tokens(8),
        train,
        features=FeatureLoss({"block": "block"}),
        settings=TrainingSettings(epochs=2),
    )
    assert len(result.history) == 2 and adapters_of(result.model) is None


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: FeatureLoss({}), "layers must map"),
        (lambda: FeatureLoss({"1": 1}), "layers must map"),
        (lambda: FeatureLoss({"1": "1"}, kind="hints"), "did you mean 'hint'"),
        (lambda: FeatureLoss({"1": "1"}, weight=0.0), "weight must be positive"),
        (lambda: distil({"9": "1"}), "layer of the student"),
        (lambda: distil({"1": "nine"}), "layer of the teacher"),
        (lambda: distil({"1": "3"}), "36 and 16 positions, which 'hint' cannot compare"),
        (lambda: distil({"1": "1"}, mixup=True), "without mixup"),
        (lambda: distil({"1": "1"}, cache="outputs.npy"), "without mixup, cache"),
        (lambda: distill(net(4), net(4), data(), features=3), "features"),
    ],
)
def test_what_cannot_be_is_refused(make, words) -> None:
    with pytest.raises(InputError, match=words):
        make()


def distil(layers: dict[str, str], **options):
    return distill(
        net(4), net(4), data(), features=FeatureLoss(layers), settings=TrainingSettings(epochs=1), **options
    )
