"""Networks trained together are the networks trained alone: seeds, orders, masks and rates of their own."""

import logging
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from capacity import InputError
from compression.batches import CropAndFlip, TensorBatches
from compression.criteria import L1
from compression.ensembles import _cross_entropy, _Ensemble, _groups, _Task, fit_together, why_alone
from compression.masks import masks_of
from compression.precision import fast_bf16
from compression.pruning import prune
from compression.stacks import ELEMENTWISE, Stack, chain_of
from compression.training import TrainingSettings, fit

GENERATOR = torch.Generator().manual_seed(0)
INPUTS = torch.randn(200, 1, 3, 4, generator=GENERATOR)
TARGETS = (INPUTS.flatten(1) @ torch.randn(12, 5, generator=GENERATOR)).argmax(1)

PRECISIONS = ["no", "bf16"] if fast_bf16(torch.device("cpu")) else ["no"]


def net(seed: int = 0, hidden: int = 16, activation: type[nn.Module] = nn.ReLU) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(12, hidden), activation(), nn.Linear(hidden, 7, bias=False), activation(),
        nn.Linear(7, 5),
    )  # fmt: skip


def batches(seed: int = 0, size: int = 32, **options) -> TensorBatches:
    return TensorBatches(INPUTS, TARGETS, size, shuffle=True, seed=seed, **options)


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def assert_alike(models, data, given, tolerance: float = 1e-5, **options) -> None:
    together = fit_together(models, data, settings=given, **options)
    for model, one, own, found in zip(models, data, given, together, strict=True):
        alone = fit(model, one, settings=own, **options)
        torch.testing.assert_close(weights(found.model), weights(alone.model), rtol=0, atol=tolerance)
        assert not found.model.training and len(found.history) == len(alone.history)
        for ours, theirs in zip(found.history, alone.history, strict=True):
            assert ours == pytest.approx(theirs, abs=tolerance)


def test_twenty_steps_of_each_are_those_of_training_it_alone() -> None:
    """200 samples in batches of 32 are 7 steps an epoch, the last of 8 samples: 21 steps."""
    models = [net(seed) for seed in range(4)]
    given = [
        TrainingSettings(epochs=3, learning_rate=0.05 * (1 + k), warmup_epochs=1, seed=k) for k in range(4)
    ]
    given[3] = replace(given[3], weight_decay=0.01, momentum=0.0, schedule="constant")
    data = [batches(seed) for seed in range(4)]
    assert why_alone(models[0], data[0], given[0]) is None
    assert_alike(models, data, given)


@pytest.mark.parametrize("activation", ELEMENTWISE)
def test_every_activation(activation: type[nn.Module]) -> None:
    models = [net(seed, activation=activation) for seed in range(2)]
    assert_alike(
        models, [batches(seed) for seed in range(2)], [TrainingSettings(epochs=1, learning_rate=0.02)] * 2
    )


def test_masks_of_each_stay_and_rates_of_the_other_optimizer() -> None:
    whole = [net(seed) for seed in range(3)]
    models = [whole[0], *(prune(model, L1(), amount=0.2 * k).model for k, model in enumerate(whole[1:], 1))]
    given = [TrainingSettings(epochs=3, learning_rate=0.003 * (k + 1), optimizer="adamw") for k in range(3)]
    assert_alike(models, [batches(seed) for seed in range(3)], given, 1e-4)
    found = fit_together(models, [batches()] * 3, settings=given)
    for model, trained in zip(models, found, strict=True):
        before, after = masks_of(model), masks_of(trained.model)
        assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)
        for name, mask in after.items():
            assert not trained.model.get_parameter(f"{_original(name)}").detach()[~mask].any()


def test_masked_and_whole_networks_are_one_stack() -> None:
    whole = net()
    masked = prune(net(1), L1(), amount=0.3).model
    tasks = [
        _Task(k, model, batches(), TrainingSettings())
        for k, model in enumerate((whole, masked, net(hidden=8)))
    ]
    assert [[task.number for task in group] for group in _groups(tasks, None)] == [[0, 1], [2]]


@pytest.mark.skipif(not fast_bf16(torch.device("cpu")), reason="this processor imitates bfloat16")
def test_products_in_bfloat16_are_those_of_training_alone_in_it() -> None:
    models, data = [net(seed) for seed in range(3)], [batches(seed) for seed in range(3)]
    given = [TrainingSettings(epochs=3, mixed_precision="bf16")] * 3
    assert_alike(models, data, given, 0.02)
    exact = fit_together(models, data, settings=TrainingSettings(epochs=3))
    rounded = fit_together(models, data, settings=given)
    for one, two in zip(exact, rounded, strict=True):
        assert 0 < float((weights(one.model) - weights(two.model)).abs().max()) < 0.05


def _original(name: str) -> str:
    layer, _, key = name.rpartition(".")
    return f"{layer}.parametrizations.{key}.original"


@settings(max_examples=20, deadline=None)
@given(
    st.sets(st.integers(0, 5), min_size=1),
    st.sampled_from([None, 0.01]),
    st.sampled_from(PRECISIONS),
    st.sampled_from([16, 250]),
    st.sampled_from([29, 32]),
)
def test_what_is_trained_beside_it_changes_no_bit(
    chosen: set[int], decay: float | None, precision: str, hidden: int, size: int
) -> None:
    models = [net(seed, hidden) for seed in range(6)]
    data = [batches(seed, size) for seed in range(6)]
    decays = [5e-4 if decay is None else decay * k for k in range(6)]
    given = [TrainingSettings(epochs=2, weight_decay=one, mixed_precision=precision) for one in decays]
    every = fit_together(models, data, settings=given)
    places = sorted(chosen)
    some = fit_together(
        *([held[k] for k in places] for held in (models, data)), settings=[given[k] for k in places]
    )
    for place, found in zip(places, some, strict=True):
        assert torch.equal(weights(found.model), weights(every[place].model))


def test_augmented_pictures_and_bytes_of_each_seed() -> None:
    pictures = (INPUTS.clamp(-1, 1) * 127 + 128).to(torch.uint8)
    for augment in (None, CropAndFlip(padding=1)):
        data = [
            TensorBatches(pictures, TARGETS, 64, True, (0.5,), (0.25,), augment=augment, seed=seed)
            for seed in range(3)
        ]
        assert_alike([net(seed) for seed in range(3)], data, [TrainingSettings(epochs=2)] * 3)


def test_data_of_its_own_for_each_and_an_objective() -> None:
    def squares(model, x: Tensor, y: Tensor) -> Tensor:
        return F.mse_loss(model(x), F.one_hot(y, 5).float())

    data = [TensorBatches(INPUTS + k, TARGETS.roll(k), 50, shuffle=bool(k)) for k in range(3)]
    assert_alike([net(seed) for seed in range(3)], data, [TrainingSettings(epochs=3)] * 3, objective=squares)


def test_several_architectures_keep_their_order() -> None:
    models = [net(0, 16), net(1, 8), net(2, 16), nn.Sequential(nn.Flatten(), nn.Linear(12, 5))]
    assert_alike(models, [batches(seed) for seed in range(4)], [TrainingSettings(epochs=2)] * 4)


class Forked(nn.Module):
    """Control that depends on data."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        found = self.one(x.flatten(1))
        return found if float(found.detach().sum()) > 0 else 2 * found


def patched() -> nn.Module:
    model = net()
    model[1].forward = lambda x: 2 * nn.Linear.forward(model[1], x)
    return model


def hooked_backward() -> nn.Module:
    model = net()
    model[1].register_full_backward_pre_hook(lambda module, gradients: (gradients[0] * 2,))
    return model


def holding_more() -> nn.Module:
    model = net()
    model.register_parameter("count", nn.Parameter(torch.tensor(3), requires_grad=False))
    return model


NORMED = nn.Sequential(nn.Flatten(), nn.Linear(12, 9), nn.BatchNorm1d(9), nn.Linear(9, 5))
DROPPED = nn.Sequential(nn.Flatten(), nn.Linear(12, 9), nn.Dropout(0.5), nn.Linear(9, 5))


@pytest.mark.parametrize(
    ("model", "options", "reason"),
    [
        (Forked(), {}, "a Forked is neither dense nor elementwise"),
        (NORMED, {}, "'2', a BatchNorm1d, is neither dense nor elementwise"),
        (DROPPED, {}, "'2', a Dropout, is neither dense nor elementwise"),
        (patched(), {}, "'1', a Linear, has a forward of its own"),
        (hooked_backward(), {}, "'1', a Linear, has hooks"),
        (holding_more(), {}, "it holds parameters beside its layers"),
        (net(), {"neuron_dropout": {"1": 2}}, "settings ask for neuron_dropout"),
        (net(), {"snapshot_epoch": 1}, "settings ask for snapshot_epoch"),
    ],
)
def test_what_cannot_be_stacked_trains_alone_and_says_so(model, options, reason, caplog) -> None:
    given = [TrainingSettings(epochs=1, seed=seed, **options) for seed in range(2)]
    assert why_alone(model, batches(), given[0]) == reason
    with caplog.at_level(logging.INFO, "compression"):
        assert_alike([model, model], [batches(seed) for seed in range(2)], given, 0)
    assert f"trained one by one: {reason}" in caplog.text


def test_more_that_cannot_be_stacked() -> None:
    shared = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5))
    shared[1].weight = shared[0].weight
    frozen = nn.Sequential(nn.Linear(5, 5).requires_grad_(False), nn.Linear(5, 5))
    hooked = nn.Sequential(nn.Linear(5, 5))
    hooked[0].register_forward_hook(lambda *_: None)
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(5, 5))
    for model, reason in (
        (shared, "layers share parameters"),
        (frozen, "some of its parameters are frozen"),
        (hooked, "'0', a Linear, has hooks"),
        (normed, "a ParametrizedLinear has parametrizations besides masks"),
        (nn.Sequential(nn.ReLU()), "it has no dense layer"),
        (nn.Sequential(nn.Linear(5, 5), nn.Flatten()), "'1', a Flatten, comes late"),
        (nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5).double()), "several number types or devices"),
    ):
        assert reason in str(chain_of(model))
    left_out = TensorBatches(INPUTS, TARGETS.where(TARGETS > 0, -100), 50)
    assert "one class index" in str(why_alone(net(), left_out, TrainingSettings()))
    assert "a list, not TensorBatches" in str(why_alone(net(), [], TrainingSettings()))


def test_bad_input() -> None:
    with pytest.raises(InputError, match="found 2 models, data for 1 and settings for 2"):
        fit_together([net(), net()], [batches()])
    with pytest.raises(InputError, match="labels run from 0 to 9"):
        fit_together([net()] * 2, [TensorBatches(INPUTS, torch.arange(200) % 10, 50)] * 2)
    with pytest.raises(InputError, match=r"of network 1 diverged: the loss is .* a lower learning rate"):
        fit_together(
            [net()] * 2, [batches()] * 2, settings=[TrainingSettings(), TrainingSettings(learning_rate=1e9)]
        )
    with pytest.raises(InputError, match="learning_rate must be positive"):
        fit_together([net()] * 2, [batches()] * 2, settings=TrainingSettings(learning_rate=0))


def test_gradients_are_those_of_torch() -> None:
    models = [net(seed, activation=nn.GELU).double() for seed in range(3)]
    stack = Stack(models)
    x = torch.randn(3, 8, 12, dtype=torch.float64)
    output, given_ = stack.forward(x)
    stack.backward(given_, output, torch.ones_like(output))
    for row, model in enumerate(models):
        model(x[row]).sum().backward()
        torch.testing.assert_close(output[row], model(x[row]))
        torch.testing.assert_close(stack.steps[0].weight_slope[row].T, model[1].weight.grad)
        torch.testing.assert_close(stack.steps[2].weight_slope[row].T, model[3].weight.grad)
        torch.testing.assert_close(stack.steps[4].bias_slope[row, 0], model[5].bias.grad)


@settings(max_examples=25)
@given(st.integers(1, 40), st.integers(2, 40), st.integers(1, 5), st.integers(0, 2**16))
def test_loss_and_slope_of_few_and_many_classes(samples: int, classes: int, networks: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = (5 * torch.randn(networks, samples, classes, generator=generator)).requires_grad_()
    targets = torch.randint(0, classes, (networks, samples), generator=generator)
    losses, slope = _cross_entropy(logits.detach(), targets)
    expected = torch.stack([F.cross_entropy(*one) for one in zip(logits, targets, strict=True)])
    torch.testing.assert_close(losses, expected.detach())
    (gradient,) = torch.autograd.grad(expected.sum(), logits)
    torch.testing.assert_close(slope, gradient)
    alone = [_cross_entropy(logits.detach()[k : k + 1], targets[k : k + 1])[1][0] for k in range(networks)]
    assert torch.equal(slope, torch.stack(alone))


def test_little_work_is_one_stack_and_the_bits_are_the_same(monkeypatch) -> None:
    models, data = [net(seed) for seed in range(4)], [batches(seed) for seed in range(4)]
    given = [TrainingSettings(epochs=2, learning_rate=0.05, seed=k) for k in range(4)]
    sizes: list[int] = []
    begin = _Ensemble.__init__

    def counted(self, tasks, *rest) -> None:
        sizes.append(len(tasks))
        begin(self, tasks, *rest)

    monkeypatch.setattr(_Ensemble, "__init__", counted)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        together = fit_together(models, data, settings=given)
        monkeypatch.setattr("compression.ensembles.THREADED", 0)
        apart = fit_together(models, data, settings=given)
    finally:
        torch.set_num_threads(threads)
    assert sizes == [4, 2, 2]
    for one, other in zip(together, apart, strict=True):
        assert torch.equal(weights(one.model), weights(other.model))
