"""sort_units(): the same function with its hidden units in order."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from analysis.lab.models import create
from capacity import InputError
from compression.codec import decode, encode
from compression.codec.records import bit_patterns, sortable
from compression.codec.row_orders import are_sorted
from compression.criteria import L1
from compression.pruning import prune
from compression.rates import quantize_rate_distortion
from compression.shrinking.sorting import sort_units


def few_values(model: nn.Module, amount: float = 0.9) -> nn.Module:
    """Pruned, and its weights on grids."""
    pruned = prune(model, L1(center="zero"), amount=amount).model
    return quantize_rate_distortion(pruned).model.eval()


def alike(one: nn.Module, two: nn.Module) -> bool:
    """Whether all tensors are the same, in whatever order the state dicts name them."""
    first, second = one.state_dict(), two.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def outputs(model: nn.Module, size: tuple[int, ...]) -> torch.Tensor:
    given_ = torch.randn(5, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return model.eval()(given_)


@pytest.mark.parametrize(
    ("name", "size", "least"),
    [("lenet5", (1, 28, 28), 200), ("lenet300", (1, 28, 28), 120), ("resnet20", (3, 32, 32), 20)],
)
def test_files_become_smaller_and_outputs_stay(
    name: str, size: tuple[int, ...], least: int, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = few_values(create(name, input_size=size, classes=10))
    before = encode(model, tmp_path / "before.dcz")
    result = sort_units(model, size)
    assert torch.allclose(outputs(result.model, size), outputs(model, size), atol=1e-4)
    assert encode(result.model, tmp_path / "net.dcz") <= before - least
    assert not result.left_out and result.largest_difference < 1e-4
    read = decode(tmp_path / "net.dcz", create(name, input_size=size, classes=10))
    assert alike(read, result.model)
    assert "orders of units hold" in str(result)


def test_units_are_in_order_and_are_the_ones_they_were() -> None:
    torch.manual_seed(0)
    model = few_values(
        nn.Sequential(nn.Linear(40, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 3)), 0.8
    )
    sorted_ = sort_units(model, (40,)).model
    for place in (0, 2):
        weight = sorted_[place].weight.detach()
        patterns = bit_patterns(weight)
        assert patterns is not None and are_sorted(sortable(weight, patterns))

    def units(network: nn.Module) -> list[tuple[float, ...]]:
        first, second = network[0], network[2]
        parts = torch.cat([first.weight, first.bias[:, None], second.weight.t().sort(1).values], 1)
        return sorted(tuple(row) for row in parts.tolist())

    assert units(sorted_) == units(model)
    assert alike(sort_units(sorted_, (40,)).model, sorted_)


@given(
    st.lists(st.integers(24, 60), min_size=1, max_size=3),
    st.integers(0, 2**32),
    st.sampled_from([nn.ReLU, nn.Tanh, nn.GELU]),
    st.booleans(),
)
@settings(max_examples=15, deadline=None)
def test_any_chain_computes_the_same(
    widths: list[int], seed: int, activation: Callable[[], nn.Module], norms: bool
) -> None:
    torch.manual_seed(seed)
    parts: list[nn.Module] = []
    width = 12
    for wide in widths:
        parts += [nn.Linear(width, wide), *([nn.BatchNorm1d(wide)] if norms else []), activation()]
        width = wide
    model = nn.Sequential(*parts, nn.Linear(width, 4)).double()
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point():
                tensor.copy_((torch.randn(tensor.shape).abs() + 0.2).mul(4).ceil() / 4)
    result = sort_units(model, (12,))
    assert torch.allclose(outputs_double(result.model), outputs_double(model), rtol=1e-12, atol=1e-12)
    assert len(result.layers) == len(widths)


def outputs_double(model: nn.Module) -> torch.Tensor:
    given_ = torch.randn(5, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        return model.eval()(given_)


class Numbered(nn.Module):
    """Each hidden unit has a weight of its own that no parameter holds: none can be exchanged."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 40), nn.Linear(40, 3)

    def forward(self, given_: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.first(given_)) * torch.arange(1.0, 41.0, dtype=given_.dtype))


def test_units_that_differ_beyond_their_weights_keep_their_order() -> None:
    torch.manual_seed(0)
    model = few_values(Numbered(), 0.5)
    result = sort_units(model, (8,))
    assert list(result.left_out) == ["first"] and not result.layers
    assert alike(result.model, model)


def test_dense_layers_are_left_as_they_are() -> None:
    """Of what is stored number by number, no order is made use of."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 60), nn.ReLU(), nn.Linear(60, 4))
    result = sort_units(model, (20,))
    assert not result.layers and not result.left_out and alike(result.model, model)


def test_the_model_stays_as_it_is_and_masks_are_folded() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 60), nn.ReLU(), nn.Linear(60, 4))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_((parameter * 16).round() / 16)
    pruned = prune(model, L1(center="zero"), amount=0.8).model
    before = {name: tensor.clone() for name, tensor in pruned.state_dict().items()}
    result = sort_units(pruned.train(), (20,))
    assert (
        len(result.layers) == 1
        and result.model.training
        and result.model.state_dict().keys() == model.state_dict().keys()
    )
    assert all(torch.equal(before[name], tensor) for name, tensor in pruned.state_dict().items())


def test_a_wrong_input_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="Sequential cannot take an input of size"):
        sort_units(nn.Sequential(nn.Linear(20, 60), nn.ReLU(), nn.Linear(60, 4)), (21,))
