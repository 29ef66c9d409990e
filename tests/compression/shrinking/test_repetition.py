"""A pass that is repeated step by step sees what a pass that notes everything sees."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from compression.shrinking.emission import Axis, Record
from compression.shrinking.repetition import Diverged, Network, Repetition


class Mixed(nn.Module):
    """A convolution, a norm, attention, recurrence, a bag of embeddings and a product written by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.cells, self.bag = nn.LSTM(8, 6, batch_first=True), nn.EmbeddingBag(5, 6)
        self.weight = nn.Parameter(torch.randn(6, 3))

    def forward(self, x: Tensor) -> Tensor:
        maps = F.relu(self.norm(self.conv(x))).flatten(2).transpose(1, 2)
        mixed = self.attention(maps, maps, maps, need_weights=False)[0]
        last = self.cells(mixed)[0][:, -1]
        counted = torch.arange(4).reshape(1, 4).expand(len(x), 4)
        return (last + self.bag(counted)) @ self.weight


class Routed(nn.Module):
    """Which of two layers is called hangs on the data."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.one, self.two = nn.Linear(4, 6), nn.Linear(6, 5), nn.Linear(6, 5)
        self.last = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = self.one(x) if float(x[0, 0]) < 0.7 else F.relu(self.two(x)) + 1
        return self.last(x)


MIXED = Network(Mixed().eval(), (torch.randn(2, 2, 4, 4),), {})


def seen_by_both(network: Network, changed: dict[Axis, Tensor]) -> list[Tensor]:
    """What moves, as a pass that notes everything sees it; compared with what `hits` says."""
    slow = network._pass(changed, network.plain).hits
    if len(slow) == len(network.plain.reads):
        assert all(map(torch.equal, network.hits(changed), slow))
    return slow


@settings(max_examples=25)
@given(st.data())
def test_the_same_channels_move(data: st.DataObject) -> None:
    axes = sorted((axis, width) for axis, width in MIXED.plain.written.items() if axis.name != "weight")
    chosen = data.draw(st.lists(st.sampled_from(axes), min_size=1, max_size=3, unique=True))
    seed = data.draw(st.integers(0, 99))
    generator = torch.Generator().manual_seed(seed)
    changed = {axis: torch.rand(width, generator=generator) < 0.3 for axis, width in chosen}
    slow = seen_by_both(MIXED, changed)
    assert any(bool(hit.any()) for hit in slow) or not any(bool(units.any()) for units in changed.values())


def test_the_kinds_of_products_are_all_there() -> None:
    names = {axis.name for axis in MIXED.plain.written}
    assert {"conv.weight", "bag.weight", "weight", "cells.weight_hh_l0"} <= names
    assert any(not step.emitted.alone for step in MIXED.plain.steps if step.emitted)  # a bag gives a tuple


def test_another_course_is_noticed_and_all_counts_as_moved() -> None:
    network = Network(Routed().eval(), (torch.randn(3, 4),), {})
    axis = Axis("first.weight", 0)
    drawn = network.drawn[1]
    low, high = sorted((float(drawn.plain[0, 0]), float(drawn.other[0, 0])))
    network.drawn[1] = drawn._replace(plain=drawn.plain.clone(), other=drawn.other.clone())
    network.drawn[1].plain[0, 0], network.drawn[1].other[0, 0] = low / 2, high + 0.7
    network.plain = network._pass({}, None)
    repetition = Repetition(network.plain, network.drawn, {axis: torch.ones(6, dtype=torch.bool)})
    with pytest.raises(Diverged):
        network._run(repetition)
    hits = network.hits({axis: torch.ones(6, dtype=torch.bool)})
    assert len(hits) == len(network.plain.reads) and all(bool(hit.all()) for hit in hits[1:])


def test_nothing_changed_moves_nothing() -> None:
    assert isinstance(MIXED.plain, Record) and len(MIXED.plain.steps) > len(MIXED.plain.reads) > 8
    assert not any(bool(hit.any()) for hit in MIXED.hits({}))
