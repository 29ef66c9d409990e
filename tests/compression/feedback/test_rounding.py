"""round_with_feedback(): grids, the order of columns, less error than plain rounding, integers as stored."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from capacity import InputError
from compression import quantize, round_with_feedback
from compression.feedback.grids import Grid, grid_of, group_columns
from compression.feedback.rounding import round_matrices
from compression.feedback.sweeping import output_error
from compression.quantization.quantizers import blocks_of, own_scale


def problem(rows: int, columns: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Weights, and H of inputs that depend on each other."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, 80, columns, generator=generator).double()
    x = (x + 2 * x.mean(2, keepdim=True)) * torch.rand(columns, generator=generator).double().add(0.2)
    return torch.randn(1, rows, columns, generator=generator).double(), 2 * x.transpose(1, 2) @ x / 80


@settings(max_examples=15)
@given(st.integers(2, 8), st.sampled_from([1, 4, 12]), st.integers(0, 100))
def test_weights_lie_on_their_grids_and_err_less(bits: int, size: int, seed: int) -> None:
    weights, hessian = problem(40, 12, seed)
    grid = grid_of(weights, hessian.diagonal(dim1=1, dim2=2), bits, size)
    scales, rounded = grid.scales, round_matrices(weights, hessian, grid)
    levels = rounded / scales
    assert torch.allclose(levels, levels.round(), atol=1e-9)
    assert levels.min() >= -(2 ** (bits - 1)) and levels.max() <= 2 ** (bits - 1) - 1
    assert scales.unflatten(2, (-1, size)).diff(dim=3).abs().max() == 0 if size > 1 else True
    plain = (weights / scales).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * scales
    if size > 1:
        errors = [float(output_error(weights - values, hessian).sum()) for values in (rounded, plain)]
        assert errors[0] < errors[1]


def test_columns_go_by_curvature_and_each_error_is_made_good() -> None:
    weights = torch.tensor([[[0.6, 0.4]]]).double()
    grid = Grid(torch.ones_like(weights), torch.full_like(weights, -128), 8)
    hessian = torch.tensor([[[1.0, 2.0], [2.0, 5.0]]]).double()  # the second goes first
    second = round(0.4)
    first = round(0.6 + (0.4 - second) * 2.0 / 1.0)  # w_1 + e·H_12/H_11
    assert round_matrices(weights, hessian, grid)[0, 0].tolist() == [first, second] == [1, 0]
    turned = round_matrices(weights.flip(2), hessian.flip(1, 2), grid)
    assert turned[0, 0].tolist() == [second, first]


def test_ranges_are_narrowed_where_that_errs_less() -> None:
    weights = torch.cat([torch.full((1, 1, 20), 0.3), torch.ones(1, 1, 1)], 2).double()
    energy = torch.ones(1, 21).double()
    assert grid_of(weights, energy, 2, 21).scales[0, 0, 0] == 0.5  # 0.2 twenty times instead of 0.3
    energy[0, 20] = 1000
    assert grid_of(weights, energy, 2, 21).scales[0, 0, 0] == 1.0


@pytest.mark.parametrize(
    ("shape", "group"), [((8, 12), 5), ((8, 12), 4), ((6, 4, 3, 3), 20), ((6, 4, 3, 3), 2)]
)
def test_groups_are_those_of_quantize(shape: tuple[int, ...], group: int) -> None:
    columns = torch.Size(shape[1:]).numel()
    assert group_columns(torch.Size(shape), group, columns) == torch.Size(blocks_of(shape, group)).numel()
    assert group_columns(torch.Size(shape), None, columns) == columns


@settings(max_examples=15)
@given(st.integers(2, 8), st.sampled_from([1, 4, 12]), st.floats(-3, 3), st.integers(0, 100))
def test_asymmetric_grids_have_a_zero_and_as_many_steps(
    bits: int, size: int, shift: float, seed: int
) -> None:
    weights, hessian = problem(40, 12, seed)
    weights = weights + shift
    energy = hessian.diagonal(dim1=1, dim2=2)
    grid, plain = (grid_of(weights, energy, bits, size, asymmetric=flag) for flag in (True, False))
    levels = grid.nearest(weights) / grid.scales - grid.lowest
    assert torch.allclose(levels, levels.round(), atol=1e-9)
    assert levels.min() >= 0 and levels.max() <= 2**bits - 1
    assert torch.equal(grid.lowest, grid.lowest.round())
    assert grid.nearest(torch.zeros_like(weights)).abs().max() == 0
    if abs(shift) > 2 and size > 1 and bits > 2:  # all on one side of zero, or nearly
        errors = [
            float(((one.nearest(weights) - weights).square() * energy[:, None]).sum())
            for one in (grid, plain)
        ]
        assert errors[0] < errors[1]


def test_an_asymmetric_grid_by_hand() -> None:
    weights = torch.tensor([[[-0.4, 0.8, 0.4, 0.0]]]).double()
    energy = torch.ones(1, 4).double()
    grid = grid_of(weights, energy, 2, 4, asymmetric=True)
    assert grid.scales[0, 0, 0] == pytest.approx(0.4) and grid.lowest[0, 0, 0] == -1
    assert torch.allclose(grid.nearest(weights), weights, atol=1e-6)  # -1, 2, 1 and 0 steps
    assert not torch.allclose(grid_of(weights, energy, 2, 4).nearest(weights), weights, atol=0.1)


def test_asymmetric_rounding_counts_where_grids_begin() -> None:
    model = network()
    with torch.no_grad():
        model[5].weight.add_(0.3)
    both = [round_with_feedback(model, batches(), bits={"5": 3}, asymmetric=flag) for flag in (True, False)]
    assert both[0].layers[0].output_error < both[1].layers[0].output_error
    assert both[0].average_bits == pytest.approx(both[1].average_bits + 3 * 16 / (32 * 16))


def batches() -> list[tuple[Tensor, Tensor]]:
    x = torch.randn(60, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return [(x + x.mean((2, 3), keepdim=True), torch.arange(60) % 4)]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    stem = [nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 8, 3, groups=2, stride=2), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*stem, nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 4)).eval()


def change(model: nn.Module, other: nn.Module) -> float:
    with torch.no_grad():
        return float((model(batches()[0][0]) - other(batches()[0][0])).square().sum())


@pytest.mark.parametrize("group", [None, 16])
def test_the_integers_of_a_graph_are_these(group: int | None) -> None:
    model = network()
    result = round_with_feedback(model, batches(), bits=4, group_size=group)
    stored = quantize(
        result.model, scheme="weight-only", input_size=(1, 8, 8), weight_bits=4, group_size=group
    )
    assert change(stored.model, result.model) < 1e-8
    plain = quantize(model, scheme="weight-only", input_size=(1, 8, 8), weight_bits=4, group_size=group)
    assert change(stored.model, model) < 0.7 * change(plain.model, model)
    assert stored.bytes_after == plain.bytes_after
    for layer in result.layers:
        assert layer.output_error < layer.plain_error
    assert "bits for each weight" in str(result)


def test_bits_by_layer_zeros_and_what_is_left() -> None:
    model = network()
    with torch.no_grad():
        model[5].weight[:, ::3] = 0
    result = round_with_feedback(model, batches(), bits={"2": 8, "5": 3})
    assert [(layer.name, layer.bits) for layer in result.layers] == [("2", 8), ("5", 3)]
    assert torch.equal(result.model[0].weight, model[0].weight)
    assert not result.model[5].weight[:, ::3].any()
    assert all(len(row.unique()) <= 8 for row in result.model[5].weight)
    scales = [layer.scales for layer in result.layers]
    assert scales == [8, 16]
    elements = [layer.elements for layer in result.layers]
    bits = 8 * elements[0] + 3 * elements[1] + 16 * sum(scales)
    assert result.average_bits == pytest.approx(bits / sum(elements))
    assert set(result.left) == {"0", "7"}


def test_weights_off_a_grid_keep_the_scale_that_they_had() -> None:
    rows = torch.randn(5, 30, generator=torch.Generator().manual_seed(0))
    scale = rows.abs().amax(1) / 7.5
    assert torch.equal(own_scale(rows, scale, (-8, 7)), scale)
    grid = torch.arange(-8, 8)[None] * scale[:, None]
    assert torch.allclose(own_scale(grid, torch.ones(5), (-8, 7)), scale)
    assert torch.equal(own_scale(grid * 2, torch.ones(5), (-4, 3)), torch.ones(5))
    assert torch.equal(own_scale(torch.zeros(2, 3), torch.ones(2), (-8, 7)), torch.ones(2))


@given(st.integers(0, 10_000), st.sampled_from([(-8, 7), (-128, 127)]), st.integers(1, 5))
def test_a_row_has_the_coarsest_scale_that_it_is_multiples_of(
    seed: int, ends: tuple[int, int], rows: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    multiples = torch.randint(ends[0], ends[1] + 1, (rows, 8), generator=draw)
    multiples = multiples * torch.randint(1, 3, (rows, 1), generator=draw)  # some rows leave the ends
    step = torch.rand(rows, generator=draw) + 0.5
    scales = own_scale(multiples * step[:, None], torch.full((rows,), -1.0), ends)
    for row, own, scale in zip(multiples.tolist(), step.tolist(), scales.tolist(), strict=True):
        sizes = [abs(value) for value in row if value]
        parts = [Fraction(min(sizes), part) for part in range(1, 6)] if sizes else []
        fits = [
            part for part in parts
            if all((value / part).denominator == 1 and ends[0] <= value / part <= ends[1] for value in row)
        ]  # fmt: skip
        assert scale == pytest.approx(own * float(fits[0]) if fits else -1.0, rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"bits": 1}, "bits must lie between 2 and 8"),
        ({"bits": {"5": 9}}, "bits must lie between 2 and 8"),
        ({"bits": {"nine": 4}}, "nine"),
        ({"group_size": 0}, "group_size"),
        ({"layers": "5"}, "list of names"),
        ({"asymmetric": "yes"}, "asymmetric"),
    ],
)
def test_what_cannot_be_is_refused(arguments, words) -> None:
    with pytest.raises(InputError, match=words):
        round_with_feedback(network(), batches(), **arguments)
