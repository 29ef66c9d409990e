"""Proven bounds: by hand for one hidden layer, what is covered, what is not, never below what was stored."""

from itertools import pairwise
from math import e, floor, log2

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from capacity import InputError, bounds, measure, memorization
from capacity.proven import piece_bits


def dense(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@given(st.integers(1, 30), st.integers(1, 30))
@settings(deadline=None, max_examples=8)
def test_one_hidden_layer_by_hand(d: int, h: int) -> None:
    """W1 = (d + 1)h, W2 = W1 + h + 1, R = h + 2: at most 2 + (W1 + W2) log2(4e R log2(2e R)) points."""
    first, r = (d + 1) * h, h + 2
    by_hand = floor(2 + (2 * first + h + 1) * log2(4 * e * r * log2(2 * e * r)))
    assert bounds(dense(d, h, 1), (d,)).piece_bits == by_hand


def test_golden() -> None:
    """2-3-1: R = 5, 22 weights over both layers, 2 + 22 · log2(54.37 · 4.765) = 178.4."""
    found = bounds(dense(2, 3, 1), (2,))
    assert (found.piece_bits, found.storage_bits, found.capacity_bits, found.bits) == (178, 416, 12, 178)
    assert bounds(nn.Linear(5, 1), (5,)).piece_bits == 6  # a perceptron's VC dimension, exactly
    assert bounds(dense(2, 3, 4), (2,)).piece_bits == piece_bits([(3, 1, 9), (6, 2, 25)])


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(F.relu(self.a(x) + x))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.a(self.a(x).relu_()).relu_())


def test_convolutions_residuals_and_shared_weights() -> None:
    assert bounds(Residual(), (4,)).piece_bits == piece_bits([(4, 1, 20), (1, 2, 25)])
    assert bounds(Tied(), (4,)).piece_bits == piece_bits([(4, 1, 20), (4, 2, 20), (1, 3, 25)])
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 10)
    )
    layers = [(8 * 36, 2, 96), (72 * 6, 2, 96), (45, 3, 826)]  # a maximum of four: six comparisons
    assert bounds(network, (1, 8, 8)).piece_bits == piece_bits(layers)


@pytest.mark.parametrize(
    ("network", "size", "named"),
    [
        (nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)), (4,), "tanh"),
        (nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 1)), (4,), "layer_norm"),
        (nn.TransformerEncoderLayer(8, 2, 16), (5, 8), "softmax"),
        (nn.Conv2d(1, 2, 3), (1, 8, 8), "shape (B, classes)"),
    ],
)
def test_what_is_not_covered_is_named(network: nn.Module, size: tuple[int, ...], named: str) -> None:
    found = bounds(network, size)
    assert found.piece_bits is None and named in found.reason and found.bits == found.storage_bits
    assert "none" in str(found) and "is a convention and no bound" in " ".join(str(found).split())


def test_storage_is_as_stored() -> None:
    network = dense(4, 8, 1)
    assert bounds(network.half(), (4,)).storage_bits * 2 == measure(dense(4, 8, 1), (4,)).storage_bits
    with pytest.raises(InputError):
        bounds(nn.ReLU(), (4,))


@pytest.mark.parametrize("widths", [(3, 2, 1), (3, 3, 3, 1)])
def test_never_below_what_was_stored(widths: tuple[int, ...]) -> None:
    found = bounds(dense(*widths), (widths[0],))
    points = [found.capacity_bits // 2, 3 * found.capacity_bits // 2]
    done = memorization(lambda: dense(*widths), widths[0], points, trials=3, restarts=0)
    stored = max([point.points for point in done.curve if point.possible], default=0)
    assert 0 < stored <= found.bits


def test_random_labels_stored_beyond_the_capacity_stay_below_the_bounds() -> None:
    """120 random labels of ten classes, 399 bits, in a network whose capacity is counted as 200 bits."""
    torch.manual_seed(0)
    network, x, y = dense(2, 48, 8, 10), torch.randn(120, 2), torch.randint(10, (120,))
    found = bounds(network, (2,))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(1500):
        loss = F.cross_entropy(network(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if bool((network(x).argmax(1) == y).all()):
            break
    stored = int((network(x).argmax(1) == y).sum()) * log2(10)
    assert found.capacity_bits < stored <= found.bits
