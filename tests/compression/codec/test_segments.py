"""Files of networks with sorted rows: the same weights, in fewer bytes."""

import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compression.codec import coding_report, decode, encode
from compression.codec.context_model import Encoder, _shortest
from compression.codec.records import bit_patterns, sortable
from compression.codec.row_orders import row_order


def layers(*widths: int) -> nn.Sequential:
    return nn.Sequential(*(part for pair in pairwise(widths) for part in (nn.Linear(*pair), nn.ReLU())))


@torch.no_grad()
def sort_rows(matrix: torch.Tensor) -> None:
    patterns = bit_patterns(matrix)
    assert patterns is not None
    matrix.copy_(matrix[torch.from_numpy(row_order(sortable(matrix, patterns)))])


@torch.no_grad()
def sparse(model: nn.Module, density: float, seed: int, *, in_order: bool) -> nn.Module:
    """Multiples of a step, few of them not zero, in place; rows of each matrix sorted or as they fell."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        there = torch.rand(parameter.shape, generator=generator) < density
        levels = torch.randint(-2, 3, parameter.shape, generator=generator)
        parameter.copy_(0.25 * levels * there)
        if parameter.dim() > 1 and in_order:
            sort_rows(parameter)
    return model


def equal(one: nn.Module, two: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_an_order_is_worth_the_logarithm_of_how_many_there_are(tmp_path: Path) -> None:
    """Of some 190 and 120 different rows: 146 and 82 bytes; the three streams' ends take back a few."""
    widths = (100, 200, 120, 40)
    as_they_fell = encode(sparse(layers(*widths), 0.05, 0, in_order=False), tmp_path / "fell.dcz")
    model = sparse(layers(*widths), 0.05, 0, in_order=True)
    written = encode(model, tmp_path / "net.dcz")
    assert (tmp_path / "net.dcz").read_bytes()[3] == 5 and (tmp_path / "fell.dcz").read_bytes()[3] == 1
    rows = [len(model[place].weight.unique(dim=0)) for place in (0, 2)]
    free = sum(math.lgamma(count) / math.log(2) / 8 for count in rows)  # one of them without any weight
    assert free - 10 < as_they_fell - written < free + 10
    assert equal(decode(tmp_path / "net.dcz", layers(*widths)), model)
    assert coding_report(model).file_bytes == pytest.approx(written, abs=12)


@given(
    st.lists(st.integers(1, 70), min_size=2, max_size=5),
    st.floats(0.0, 1.0),
    st.integers(0, 2**32),
)
@settings(max_examples=60, deadline=None)
def test_any_sorted_network_comes_back(
    tmp_path_factory: pytest.TempPathFactory, widths: list[int], density: float, seed: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "sorted.dcz"
    model = sparse(layers(*widths), density, seed, in_order=True)
    encode(model, path)
    assert equal(decode(path, layers(*widths)), model)


def written_model() -> nn.Sequential:
    """The weights of the file beside this test, by a formula: rows sorted, one element of five a quarter."""
    model = layers(23, 41, 29)
    with torch.no_grad():
        for parameter in model.parameters():
            place = torch.arange(parameter.numel()).view(parameter.shape)
            chance = place * 7919 % 10_007
            levels = torch.where(chance % 5 == 0, chance // 5 % 7 - 3, 0)
            parameter.copy_(levels / 4)
            if parameter.dim() > 1:
                sort_rows(parameter)
    return model


def test_files_of_this_version_stay_readable(tmp_path: Path) -> None:
    path = Path(__file__).parent / "version-5.dcz"
    assert path.read_bytes()[3] == 5
    assert equal(decode(path, layers(23, 41, 29)), written_model())
    encode(written_model(), tmp_path / "net.dcz")
    assert (tmp_path / "net.dcz").read_bytes() == path.read_bytes()


def test_an_order_that_nothing_follows(tmp_path: Path) -> None:
    """What it holds is zeros then; of the last tensor, and of one that only raw numbers follow."""
    for model in (nn.Linear(30, 90, bias=False), nn.Linear(30, 90)):
        sparse(model, 0.1, 0, in_order=True)
        if model.bias is not None:
            nn.init.normal_(model.bias)
        encode(model, tmp_path / "net.dcz")
        assert (tmp_path / "net.dcz").read_bytes()[3] == 5
        assert equal(decode(tmp_path / "net.dcz", nn.Linear(30, 90, bias=model.bias is not None)), model)


@given(st.integers(0, 2**64 - 1), st.integers(1, 2**64))
def test_the_shortest_number_of_an_interval(low: int, width: int) -> None:
    high = low + width
    number = _shortest(low, high)
    assert low <= number < high
    step = 2 * (number & -number)
    if number:
        assert -(-low // step) * step >= high  # no multiple of twice as much lies within


def test_a_stream_may_end_earlier_than_with_its_last_word() -> None:
    sizes = []
    for seed in range(200):
        coder = Encoder()
        generator = torch.Generator().manual_seed(seed)
        flags = (torch.rand(40, generator=generator) < 0.3).int().numpy()
        coder.flags(flags, torch.full((40,), 0.3, dtype=torch.float64).numpy())
        sizes.append((len(coder.shortest()), 4 * len(coder.words())))
    assert all(short <= long for short, long in sizes)
    assert sum(short for short, _ in sizes) < 0.75 * sum(long for _, long in sizes)
