"""Layers aim at what they gave: least squares, means and variances; H about the mean is what is left."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from compression import Calibration, code_with_feedback, prune_with_feedback, round_with_feedback
from compression.feedback.aims import Means, Pairs, aimed_steps
from compression.feedback.coding import code_matrices
from compression.feedback.hessians import Curvature, Walk
from compression.feedback.sweeping import damped, output_error
from compression.feedback.worths import output_worths


def batches() -> list[tuple[Tensor, Tensor]]:
    """Pictures all of whose inputs have means."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(96, 2, 6, 6, generator=generator) + 1.5
    return [(x[:48], torch.arange(48) % 4), (x[48:], torch.arange(48) % 4)]


class Network(nn.Module):
    """A batch norm behind a convolution without a bias and one with; grouped; biases; no bias."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm = nn.Conv2d(2, 6, 3, bias=False), nn.BatchNorm2d(6)
        self.grouped, self.after = nn.Conv2d(6, 6, 3, groups=2, padding=1), nn.BatchNorm2d(6)
        self.dense, self.bare = nn.Linear(96, 12), nn.Linear(12, 12, bias=False)
        self.last = nn.Linear(12, 4)
        for norm in (self.norm, self.after):
            norm.running_mean = 0.3 * torch.randn(6)
            norm.running_var = 0.5 + torch.rand(6)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        x = torch.relu(self.after(self.grouped(x)))
        x = torch.relu(self.dense(x.flatten(1)))
        return self.last(torch.relu(self.bare(x)))


@torch.no_grad()
def outputs_of(model: nn.Module, name: str) -> Tensor:
    """What a module puts out over all batches, (units, positions)."""
    seen = []
    hook = model.get_submodule(name).register_forward_hook(lambda _, args, output: seen.append(output))
    for x, _ in batches():
        model(x)
    hook.remove()
    return torch.cat(seen).movedim(1, 0).flatten(1).double()


@pytest.mark.parametrize("sequential", [True, False])
@pytest.mark.parametrize(
    "compress",
    [
        partial(code_with_feedback, penalty=1e-10),
        partial(round_with_feedback, bits=2),
        partial(prune_with_feedback, amount=0.5),
    ],
)
def test_outputs_keep_their_means(compress, sequential: bool) -> None:
    model = Network().eval()
    result = compress(model, Calibration(batches(), sequential))
    assert not torch.equal(result.model.get_submodule("dense").weight, model.dense.weight)
    for name in ("norm", "after") if sequential else ("norm",):
        before, after = outputs_of(model, name), outputs_of(result.model, name)
        assert torch.allclose(before.mean(1), after.mean(1), atol=2e-3), name
        lives = after.std(1) > 0  # the others are written as constants
        assert int(lives.sum()) >= 4 and torch.allclose(before.std(1)[lives], after.std(1)[lives], rtol=2e-3)
        assert float((before - after).square().mean()) > 1e-3  # they err, but not on average
    for name in ("dense", "last") if sequential else ():
        before, after = outputs_of(model, name), outputs_of(result.model, name)
        assert torch.allclose(before.mean(1), after.mean(1), atol=2e-3), name
    assert result.model.get_submodule("bare").bias is None


def test_which_layers_have_means_that_can_be_kept() -> None:
    """Not without a bias, with one that is zero somewhere, or shared, or a batch norm with other inputs."""

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.norm = nn.Linear(4, 4, bias=False), nn.Linear(4, 4), nn.BatchNorm1d(4)
            self.three, self.four, self.five = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
            self.four.bias = self.three.bias
            self.tied = nn.Linear(4, 4)
            self.again = nn.Linear(4, 4)
            self.again.weight = self.tied.weight

        def forward(self, x: Tensor) -> Tensor:
            x = self.norm(self.one(x)) + self.norm(self.two(x))
            return self.again(self.tied(self.five(self.four(self.three(x)))))

    model = Odd().eval()
    with torch.no_grad():
        model.five.bias[1] = 0.0
    walk = Walk.through(model, Calibration.of([torch.randn(20, 4)]), None)
    means = Means.of(model, walk.choice.chosen, walk.calibration.batches)
    assert means.norms == {}
    assert [name for name in walk.choice.chosen if means.receives(name)] == ["two"]
    with torch.no_grad():
        model.five.bias[1] = 0.1
    assert means.receives("five")


def test_a_bias_that_is_zero_somewhere_stays() -> None:
    layer = nn.Sequential(nn.Linear(6, 5))
    with torch.no_grad():
        layer[0].bias.copy_(torch.tensor([0.5, 0.0, 0.25, -1.0, 2.0]))
    coded = code_with_feedback(layer, [torch.rand(50, 6)], penalty=1e-3).model
    assert torch.equal(coded[0].bias, layer[0].bias)


@settings(max_examples=20)
@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 1000))
def test_curvature_about_the_mean_is_the_error_left_by_the_best_shift(
    columns: int, rows: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(40, columns, generator=generator) + torch.rand(columns, generator=generator)
    seen = Curvature(torch.zeros(1, columns, columns).double(), torch.zeros(1, columns).double())
    for part in x.split(17):
        seen.add(nn.Linear(columns, rows), part)
    apart = torch.randn(1, rows, columns, generator=generator).double()
    errors = x.double() @ apart[0].t()
    assert torch.allclose(seen.mean[0], x.double().mean(0))
    left = errors.var(0, correction=0)
    assert torch.allclose(output_error(apart, seen.centred)[0] / 2, left, rtol=1e-4, atol=1e-6)
    assert bool((output_error(apart, seen.hessian)[0] / 2 >= left - 1e-6).all())


def test_a_layer_behind_a_rectifier_takes_fewer_bits_at_less_loss() -> None:
    """Against the same rule with the curvature about zero, and a bias that stays."""
    torch.manual_seed(0)
    layer, x = nn.Linear(24, 10), torch.relu(torch.randn(400, 24) + 1)
    walk = Walk.on_copy(layer, [x], None)
    worth = output_worths(walk.model, walk.choice.chosen, [x])[""] / 4
    ((_, plain),) = list(walk.steps())
    weights = layer.weight.detach().double()[None]
    ((_, _, centred),) = list(aimed_steps(walk))
    assert torch.allclose(centred[0], damped((2 * torch.cov(x.double().T, correction=0))[None])[0], atol=1e-5)
    stay, move = (code_matrices(weights, hessian, worth, 1e-6) for hessian in (plain, centred))
    coded = code_with_feedback(layer, [x], penalty=1e-6)
    assert coded.tensors[0].bits == pytest.approx(move.bits) and move.bits < stay.bits
    outputs = layer(x).detach().double()
    kept = x.double() @ (stay.levels * stay.step)[0].T + layer.bias.detach().double()
    worths = 2 * worth[0]

    def loss(other: Tensor) -> float:
        return float(((outputs - other).square().mean(0) * worths).sum())

    assert loss(coded.model(x).detach().double()) < loss(kept)


def test_inputs_that_do_not_vary_cost_nothing() -> None:
    layer = nn.Linear(3, 2)
    x = torch.tensor([[1.0, 2.0, -1.0]]).repeat(30, 1)
    coded = code_with_feedback(layer, [x], penalty=1.0).model
    assert torch.allclose(coded(x), layer(x), atol=2e-3)
    assert int(torch.count_nonzero(coded.weight)) == 0


def pairs(x: Tensor, now: Tensor) -> Pairs:
    """Of rows that were x and are now others."""
    columns = x.shape[1]
    given = Curvature(torch.zeros(1, columns, columns).double(), torch.zeros(1, columns).double())
    seen = Pairs(given, torch.zeros(1, columns, columns).double(), torch.zeros(1, columns).double())
    for then, here in zip(x.split(30), now.split(30), strict=True):
        seen.add(nn.Linear(columns, 1), here, then)
    return seen


@settings(max_examples=15)
@given(st.integers(2, 6), st.floats(0.05, 0.6), st.booleans(), st.booleans(), st.integers(0, 1000))
def test_aims_are_the_least_squares_for_what_is_given_now(
    columns: int, noise: float, centred: bool, sparse: bool, seed: int
) -> None:
    """By torch.linalg.lstsq, each row with the inputs that it has, and a constant where means are free."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(70, columns, generator=generator) + torch.rand(columns, generator=generator)
    now = x + noise * torch.randn(70, columns, generator=generator) + 0.1
    weights = torch.randn(1, 3, columns, generator=generator).double()
    if sparse:
        weights[0, 0, 0] = weights[0, 1, 1] = 0.0
    seen = pairs(x, now)
    hessian = seen.given.centred if centred else seen.given.hessian
    aims = seen.aim(weights, hessian, hessian, centred=centred)
    wanted = x.double() @ weights[0].T
    for row in range(3):
        alive = weights[0, row] != 0
        columns_now = now.double()[:, alive]
        if centred:
            columns_now = torch.cat([columns_now, torch.ones(70, 1).double()], 1)
        best = torch.linalg.lstsq(columns_now, wanted[:, row]).solution
        assert torch.allclose(aims[0, row, alive], best[: int(alive.sum())], rtol=1e-3, atol=1e-4)
        assert not bool(aims[0, row, ~alive].any())


def test_what_comes_as_it_came_is_aimed_at_already_and_what_is_another_sample_is_not() -> None:
    x, weights = torch.randn(60, 4), torch.randn(1, 3, 4).double()
    same = pairs(x, x)
    assert torch.allclose(same.aim(weights, *2 * [same.given.hessian], centred=False), weights)
    other = pairs(x, x[torch.randperm(60)])
    assert same.alike and not other.alike
    assert torch.equal(other.aim(weights, *2 * [other.given.hessian], centred=False), weights)


class Routed(nn.Module):
    """A layer that sees the samples that the one before sends it, and no others."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.gate, self.expert = nn.Linear(6, 1), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        chosen = self.gate(x)[:, 0] > 0
        outputs = torch.zeros(len(x), 5)
        outputs[chosen] = self.expert(x[chosen])
        return outputs + self.gate(x)


def test_layers_that_are_given_other_samples_by_then_are_coded_as_they_are() -> None:
    model = Routed()
    x = torch.randn(200, 6, generator=torch.Generator().manual_seed(1))
    walk = Walk.on_copy(model, [x], None)
    for target, aim, _ in aimed_steps(walk):
        if target.name == "gate":
            with torch.no_grad():
                target.value().neg_()  # sends the others
        assert torch.equal(aim[0], model.get_submodule(target.name).weight.detach().double())
    assert torch.equal(walk.model.get_submodule("expert").bias, model.expert.bias)


@pytest.mark.parametrize("seed", range(3))
def test_a_network_errs_less_where_layers_make_good_for_those_before(seed: int) -> None:
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Linear(20, 40)]
    for _ in range(3):
        layers += [nn.ReLU(), nn.Linear(40, 40)]
    model, x = nn.Sequential(*layers), torch.randn(1500, 20)
    errors, bits = [], []
    for sequential in (False, True):
        coded = code_with_feedback(model, Calibration([x[:1000]], sequential), penalty=1e-9)
        with torch.no_grad():
            errors.append(float((coded.model(x[1000:]) - model(x[1000:])).square().mean()))
        bits.append(sum(tensor.bits for tensor in coded.tensors))
    assert errors[1] < 0.8 * errors[0] and bits[1] < 1.01 * bits[0]
