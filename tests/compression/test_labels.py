"""Labels of every type and form are right or refused, with a line to write that works."""

import re
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from capacity import InputError
from compression.batches import TensorBatches
from compression.distillation import DistillationLoss, distill
from compression.evaluation import evaluate
from compression.labels import class_axis_of, cross_entropy, matched
from compression.training import TrainingSettings, fit

X = torch.randn(24, 4, generator=torch.Generator().manual_seed(0))
Y = X[:, :2].argmax(1)
ONCE = TrainingSettings(epochs=1)
INTEGERS = (
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.uint16,
    torch.uint32,
    torch.bool,
)


def net(outputs: int = 2) -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(4, outputs)


def same(one: nn.Module, two: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_every_integer_type(dtype: torch.dtype) -> None:
    expected, scores = fit(net(), [(X, Y)], settings=ONCE).model, evaluate(net(), [(X, Y)])
    data = [(X, Y.to(dtype))]
    assert evaluate(net(), data) == scores
    assert same(fit(net(), data, settings=ONCE).model, expected)
    assert same(fit(net(), TensorBatches(X, Y.to(dtype), 24), settings=ONCE).model, expected)
    one, two = (distill(net(), net(), d, settings=ONCE).model for d in (data, [(X, Y)]))
    assert same(one, two)


@given(st.sampled_from(INTEGERS[:-1]), st.integers(2, 120))
@settings(deadline=None, max_examples=40)
def test_small_types_do_not_overflow(dtype: torch.dtype, classes: int) -> None:
    labels = torch.arange(3 * classes) % classes
    found = evaluate(nn.Identity(), [(torch.eye(classes)[labels], labels.to(dtype))])
    assert found.top1_error == 0 and found.kappa == 1 and found.total == 3 * classes


def test_one_hot_rows_and_columns_are_class_indices() -> None:
    expected = fit(net(), [(X, Y)], settings=ONCE).model
    for labels in (F.one_hot(Y), F.one_hot(Y).bool(), F.one_hot(Y).to(torch.uint8), Y[:, None]):
        assert same(fit(net(), [(X, labels)], settings=ONCE).model, expected)
        assert evaluate(net(), [(X, labels)]) == evaluate(net(), [(X, Y)])


def test_ignored_labels_count_nowhere() -> None:
    part = torch.where(torch.arange(24) % 3 == 0, -100, Y)
    kept = part != -100
    assert evaluate(net(), [(X, part)]) == evaluate(net(), [(X[kept], Y[kept])])
    one, two = (fit(net(), [d], settings=ONCE).model for d in ((X, part), (X[kept], Y[kept])))
    torch.testing.assert_close(one.weight, two.weight)
    teacher = net(2).requires_grad_(False)
    nn.init.ones_(teacher.weight)
    for kind in ("hinton", "decoupled", "standardized"):
        loss = DistillationLoss(2.0, 0.5, kind)
        torch.testing.assert_close(
            loss(net()(X), teacher(X), part), loss(net()(X[kept]), teacher(X[kept]), Y[kept])
        )


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (Y + 1, r"labels run from 1 to 2, but the model has 2 outputs: they count from 1, so subtract 1"),
        (Y + 7, "labels run from 7 to 8"),
        (Y - 1, "labels run from -1 to 0.*the label -100"),
        (torch.full_like(Y, -100), "all labels.*-100"),
        (Y[:-1], r"logits \(24, 2\) and targets \(23,\) do not belong together"),
        (torch.ones(24, 2, dtype=torch.int64), "not one 1 in each row"),
        (torch.full((24,), float("nan")), "no class indices"),
    ],
)
def test_what_is_no_label_is_refused(labels: torch.Tensor, message: str) -> None:
    for data in ([(X, labels)], *([TensorBatches(X, labels, 24)] if len(labels) == 24 else [])):
        for call in (fit, evaluate):
            with pytest.raises(InputError, match=message):
                call(net(), data)
    if "-100" not in message:
        with pytest.raises(InputError, match=message):
            distill(net(), net(), [(X, labels)])


@pytest.mark.parametrize(
    ("outputs", "targets", "loss"),
    [
        (1, torch.randn(24), '"mse"'),
        (1, torch.randn(24, 1), '"mse"'),
        (1, Y, '"bce"'),
        (1, Y.float(), '"bce"'),
        (3, torch.randn(24, 3), '"mse"'),
        (3, torch.rand(24, 3).round(), '"bce"'),
        (3, (X[:, :3].argmax(1) > 5).long()[:, None].repeat(1, 3), '"bce"'),
        (3, torch.softmax(X[:, :3], 1), r"F\.cross_entropy\(model\(x\), y\)"),
        (3, X[:, :3].argmax(1).float(), r"y\.long\(\)"),
    ],
)
def test_the_wrong_loss_is_refused_with_a_line_that_trains(outputs: int, targets, loss: str) -> None:
    data = [(X, targets)]
    with pytest.raises(InputError, match=loss) as refused:
        fit(net(outputs), data)
    with pytest.raises(InputError, match=r"single output|class indices|one 1 in each row"):
        evaluate(net(outputs), data)
    with pytest.raises(InputError, match=r"single output|class indices|one 1 in each row"):
        distill(net(outputs), net(outputs), data)
    line = re.search(r"objective=(.*)$", str(refused.value)).group(1)
    history = fit(net(outputs), data, settings=TrainingSettings(epochs=30), objective=eval(line)).history
    assert history[-1]["training_loss_nats"] < history[0]["training_loss_nats"]


@pytest.mark.parametrize(
    "targets", [torch.rand(24), torch.rand(24, 1), torch.rand(24, 2), torch.rand(24, 3, 2)]
)
def test_floats_of_another_shape_than_the_outputs_are_refused(targets: torch.Tensor) -> None:
    data = [(X, targets)]
    for call in (fit, evaluate, partial(distill, net(3))):
        with pytest.raises(InputError, match="no class indices: for regression give the model outputs"):
            call(net(3), data)
    with pytest.raises(
        InputError, match="no class indices: for regression give the model outputs"
    ) as refused:
        fit(net(3), data)
    line = re.search(r"objective=(.*)$", str(refused.value)).group(1)
    model = nn.Sequential(net(targets[0].numel()), nn.Unflatten(1, targets.shape[1:] or (1,)))
    history = fit(model, data, settings=TrainingSettings(epochs=30), objective=eval(line)).history
    assert history[-1]["training_loss_nats"] < history[0]["training_loss_nats"]


def test_labels_of_three_classes_need_three_outputs() -> None:
    with pytest.raises(InputError, match="give it one output per class"):
        fit(net(1), [(X, Y + 1)])


@given(
    st.integers(2, 5), st.lists(st.integers(1, 4), min_size=0, max_size=2), st.booleans(), st.integers(0, 99)
)
@settings(deadline=None, max_examples=60)
def test_dense_maps_and_sequences_are_torchmetrics_and_torch_s(classes, rest, last: bool, seed: int) -> None:
    from torchmetrics.functional.classification import multiclass_accuracy

    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, classes, *rest, generator=generator)
    labels = torch.randint(0, classes, (3, *rest), generator=generator)
    given_logits = logits.movedim(1, -1) if last else logits
    axis = (logits.dim() - 1 if last else 1) if rest else None
    found = evaluate(nn.Identity(), [(given_logits, labels)], class_axis=axis)
    assert found.cross_entropy_nats == pytest.approx(float(F.cross_entropy(logits, labels)), rel=1e-5)
    right = multiclass_accuracy(logits, labels, classes, average="micro")
    assert 1 - found.top1_error == pytest.approx(float(right), abs=1e-6)


def test_the_class_axis_is_told_by_the_labels() -> None:
    assert class_axis_of(torch.zeros(2, 5, 7), torch.zeros(2, 5)) == 2
    assert class_axis_of(torch.zeros(2, 5, 7), torch.zeros(2, 7)) == 1
    assert class_axis_of(torch.zeros(2, 4, 4), torch.zeros(2, 4), -1) == 2
    assert matched(torch.zeros(2, 5, 3, 3), torch.zeros(2, 1, 3, 3).byte())[1].shape == (2, 3, 3)
    for targets, axis, message in (
        (torch.zeros(2, 4), None, "may be their axis 1 or 2"),
        (torch.zeros(2, 3), None, "do not belong together"),
        (torch.zeros(2, 4), 0, "no class axis"),
        (torch.zeros(2, 4), 3, "no class axis"),
    ):
        with pytest.raises(InputError, match=message):
            class_axis_of(torch.zeros(2, 4, 4), targets, axis)


def test_integer_logits_are_no_logits() -> None:
    with pytest.raises(InputError, match="floating-point"):
        evaluate(nn.Identity(), [(torch.zeros(2, 3, dtype=torch.int64), torch.tensor([0, 1]))])


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        (torch.Tensor.to_sparse, "sparse_coo"),
        (torch.Tensor.to_sparse_csr, "sparse_csr"),
        (torch.Tensor.to_mkldnn, "mkldnn"),
        (lambda logits: torch.nested.nested_tensor(list(logits)), "nested"),
    ],
)
def test_logits_that_are_not_dense_are_refused(made, kind: str) -> None:
    labels = torch.arange(6) % 3
    with pytest.raises(InputError, match=f"logits must be a dense tensor, found {kind}"):
        evaluate(nn.Identity(), [(made(torch.eye(3)[labels]), labels)])


def test_half_precision_logits_do_not_overflow_the_loss() -> None:
    logits = torch.full((4, 3), 6e4, dtype=torch.float16)
    assert float(cross_entropy(logits, torch.tensor([0, 1, 2, 0]))) == pytest.approx(np.log(3), rel=1e-3)


def test_one_hot_floats_are_told_how_they_become_class_indices() -> None:
    model, labels = nn.Linear(4, 3), torch.tensor([0, 2, 1])
    x = torch.randn(3, 4)
    with pytest.raises(InputError, match=r"one-hot rows are class indices as targets\.argmax\(1\)"):
        evaluate(model, [(x, F.one_hot(labels).float())])
    assert evaluate(model, [(x, F.one_hot(labels).float().argmax(1))]).total == 3
