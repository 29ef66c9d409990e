"""Description lengths: by hand, beside scipy's formula, and what chance and storing cannot win."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax

from capacity import InputError, two_part_length
from capacity.descriptions import (
    TEMPERATURE_BITS,
    TEMPERATURES,
    DescriptionLength,
    best_temperature,
    cross_entropy_bits,
    label_bits_of,
)


def drawn(seed: int, count: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        3 * torch.randn(count, classes, generator=generator),
        torch.randint(classes, (count,), generator=generator),
    )


def test_by_hand() -> None:
    """Four labels of two classes are 4 bits; a network that gives each 3/4 tells them in 4 log2(4/3)."""
    logits = torch.tensor([[math.log(3), 0.0], [0.0, math.log(3)]] * 2)
    labels = torch.tensor([0, 1] * 2)
    assert cross_entropy_bits(logits, labels) == pytest.approx(4 * math.log2(4 / 3))
    assert label_bits_of(labels) == 4
    found = DescriptionLength(4, 4.0, 1.0, cross_entropy_bits(logits, labels))
    assert found.learned_share == pytest.approx(1 - (1 + 4 * math.log2(4 / 3)) / 4)
    assert found.file_bits_per_label_bit == 0.25


def test_the_file_its_length_and_the_choice_are_paid_for() -> None:
    logits, labels = drawn(0, 50, 3)
    alone = two_part_length(logits, labels, file_bytes=100)
    chosen = two_part_length(logits, labels, file_bytes=100, choices=8)
    assert alone.file_bits == 800 + 2 * 6 + 1
    assert chosen.bits - alone.bits == pytest.approx(3)


@given(st.integers(0, 99), st.integers(1, 40), st.integers(2, 12), st.floats(0.3, 20), st.floats(0, 1))
def test_as_scipy_has_it(seed: int, count: int, classes: int, temperature: float, doubt: float) -> None:
    logits, labels = drawn(seed, count, classes)
    logs = log_softmax(logits.double().numpy() / temperature, axis=1)[range(count), labels.numpy()]
    by_hand = -sum(math.log2((1 - doubt) * math.exp(value) + doubt / classes) for value in logs)
    assert cross_entropy_bits(logits, labels, temperature, doubt=doubt) == pytest.approx(by_hand, abs=1e-9)


@given(st.integers(0, 99), st.integers(2, 40), st.integers(2, 12))
def test_the_best_temperature_is_the_shortest_code(seed: int, count: int, classes: int) -> None:
    logits, labels = drawn(seed, count, classes)
    shortest = cross_entropy_bits(logits, labels, best_temperature(logits, labels))
    assert all(shortest <= cross_entropy_bits(logits, labels, t) for t in TEMPERATURES)
    told = two_part_length(logits, labels, file_bytes=1)
    assert told.residual_bits == pytest.approx(shortest + TEMPERATURE_BITS)
    assert len(TEMPERATURES) == 2**TEMPERATURE_BITS


@given(st.integers(0, 99), st.integers(2, 6))
def test_logits_that_know_nothing_save_nothing(seed: int, classes: int) -> None:
    """However small the file: chance has a share of 0 at most, as no code of uniform labels is shorter."""
    labels = torch.arange(60) % classes
    labels = labels[torch.randperm(60, generator=torch.Generator().manual_seed(seed))]
    for logits in (torch.zeros(60, classes), drawn(seed + 100, 60, classes)[0]):
        assert two_part_length(logits, labels, file_bytes=1).learned_share < 0.05


def test_storing_labels_costs_what_it_saves() -> None:
    """A file that holds the labels, four to a byte, and gets all right saves no more than its own bits."""
    labels = torch.arange(4).repeat(250)
    found = two_part_length(100 * torch.eye(4)[labels], labels, file_bytes=250)
    assert found.learned_share == pytest.approx(0, abs=0.02) and found.learned_share < 0


def test_doubt_bounds_the_cost_of_a_wrong_label() -> None:
    sure = torch.tensor([[1e6, 0.0]])
    assert cross_entropy_bits(sure, torch.tensor([1]), doubt=1 / 64) == pytest.approx(math.log2(2 * 64))


def test_in_words() -> None:
    assert "28.6 % of the labels' bits need not be told" in str(DescriptionLength(70, 70.0, 20.0, 30.0))
    assert "the network costs what it saves, or more" in str(DescriptionLength(70, 70.0, 80.0, 0.0))
    assert "hold nothing to be learned" in str(DescriptionLength(7, 0.0, 8.0, 0.0))
    assert "block by block" in str(DescriptionLength(70, 70.0, 0.0, 30.0, "prequential"))


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (torch.zeros(3), torch.zeros(3), r"logits must be \(n, classes\)"),
        (torch.zeros(3, 2), torch.zeros(2, dtype=torch.long), r"found \(3, 2\) and \(2,\)"),
        (torch.zeros(2, 2), torch.tensor([0, 2]), "labels must be classes 0 to 1, found 0 to 2"),
        (torch.tensor([[math.nan, 0.0]]), torch.tensor([0]), "logits must be finite"),
    ],
)
def test_what_cannot_be_told(logits: torch.Tensor, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        two_part_length(logits, labels, file_bytes=10)


def test_a_temperature_of_zero() -> None:
    with pytest.raises(InputError, match="temperature must be positive"):
        cross_entropy_bits(torch.zeros(1, 2), torch.tensor([0]), 0.0)
