"""rho and G: golden values, entropy and intervals against independent implementations."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy
from torch import nn

from capacity import (
    InputError,
    generalization,
    label_entropy,
    mean_half_width,
    measure,
    wilson_interval,
)
from capacity.report import CapacityReport, LayerCapacity


def report(*bits: int) -> CapacityReport:
    layers = tuple(LayerCapacity(f"layer{k}", "dense", n, None, n, n) for k, n in enumerate(bits))
    return CapacityReport(layers, "previous", "all", False, "(1,)", sum(bits))


def test_usps_golden() -> None:
    used = generalization(report(574), correct=1739, total=2007, label_bits=9.89 * 574 / 1739, classes=10)
    assert round(used.bits_per_bit, 2) == 9.89


def test_report_a_golden() -> None:
    used = generalization(report(90_227_992), correct=9493, total=10_000, label_bits=3.32)
    assert used.ratio == 9493 / 90_227_992 and round(used.ratio, 4) == 0.0001


def test_a_pca_in_front_counts() -> None:
    correct = round(0.9308 * 70_000)
    assert round(generalization(report(415), correct=correct, total=70_000, label_bits=3.32).ratio) == 157
    whole = generalization(report(415 + 12_544), correct=correct, total=70_000, label_bits=3.32)
    assert round(whole.ratio, 1) == 5.0


def test_the_table_says_what_was_counted() -> None:
    text = str(
        generalization(report(10, 5), correct=30, total=40, label_bits=1.0, split="validation", classes=2)
    )
    for part in (
        "validation split",
        "2 classes",
        "N = 30 of 40",
        "H = 1 bit",
        "convention 'previous'",
        "layer1",
    ):
        assert part in text


def test_each_layer_has_its_own_ratio() -> None:
    used = generalization(
        measure(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)), (2,)), correct=6, total=8, label_bits=1
    )
    assert used.layers == (("0", 1.0, 1.0), ("1", 3.0, 3.0))
    assert used.to_frame()["points_per_bit"].tolist() == [1.0, 3.0, 0.75]
    low, high = used.ratio_interval
    assert low < used.ratio < high


@given(st.lists(st.integers(0, 5), min_size=1, max_size=50))
def test_entropy_is_scipys(labels: list[int]) -> None:
    _, counts = np.unique(labels, return_counts=True)
    assert label_entropy(labels) == pytest.approx(entropy(counts, base=2), abs=1e-12)


@given(st.integers(1, 500), st.data())
def test_wilson_is_the_formula(total: int, data) -> None:
    correct = data.draw(st.integers(0, total))
    z, p = 1.959963984540054, correct / total
    centre = (p + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z * np.sqrt(p * (1 - p) / total + z**2 / (4 * total**2)) / (1 + z**2 / total)
    low, high = wilson_interval(correct, total)
    assert low == pytest.approx(max(0, centre - half), abs=1e-9)
    assert high == pytest.approx(min(1, centre + half), abs=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"correct": 5, "total": 4, "label_bits": 1.0}, "between 0 and total"),
        ({"correct": 0, "total": 0, "label_bits": 1.0}, "between 0 and total"),
        ({"correct": 1, "total": 4, "label_bits": -1.0}, "entropy"),
    ],
)
def test_impossible_counts_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        generalization(report(3), **arguments)


def test_a_network_without_capacity_is_refused() -> None:
    with pytest.raises(InputError, match="0 bits"):
        generalization(report(), correct=1, total=2, label_bits=1.0)


def test_one_weight_cannot_win() -> None:
    """The digits: one weight that answers always the same has the highest rho, and has learned nothing."""
    one = generalization(report(1), correct=37, total=360, label_bits=3.32, classes=10)
    real = generalization(report(640), correct=350, total=360, label_bits=3.32, classes=10)
    assert one.ratio > real.ratio and one.bits_per_bit > real.bits_per_bit
    assert one.learned_share < 0.01 < real.learned_share
    error = 10 / 360
    told = 360 * (-error * np.log2(error) - (1 - error) * np.log2(1 - error) + error * np.log2(9))
    assert real.learned_share == pytest.approx(1 - (told + 640) / (360 * 3.32))
    assert real.learned_beyond(8 * 2000) < 0 and "by chance: none" in str(real)
    assert np.isnan(generalization(report(3), correct=1, total=2, label_bits=1.0).learned_share)


@given(st.integers(2, 20), st.integers(1, 1000), st.data())
def test_neither_chance_nor_the_majority_learns(classes: int, bits: int, data) -> None:
    counts = data.draw(st.lists(st.integers(1, 50), min_size=classes, max_size=classes))
    labels = np.repeat(np.arange(classes), counts)
    entropy_bits = label_entropy(labels)
    for correct in (len(labels) // classes, max(counts)):
        used = generalization(
            report(bits), correct=correct, total=len(labels), label_bits=entropy_bits, classes=classes
        )
        assert used.learned_share < 1e-9


@given(st.integers(2, 20), st.integers(10, 100))
def test_more_right_is_more_learned(classes: int, total: int) -> None:
    shares = [
        generalization(
            report(5), correct=correct, total=total, label_bits=float(np.log2(classes)), classes=classes
        ).learned_share
        for correct in range(total // classes + 1, total + 1)
    ]
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1 - 5 / (total * np.log2(classes)))


def test_an_interval_of_what_is_partly_unknown_is_unknown() -> None:
    assert math.isnan(mean_half_width([1.0, math.nan, 2.0]))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "labels are empty"),
        (np.array([None, "a"], dtype=object), "found NoneType, str"),
        ([0.0, np.nan], "label 1 is NaN"),
        ([0.5, 1.0], "fractions such as 0.5"),
    ],
)
def test_what_has_no_entropy(labels, message: str) -> None:
    with pytest.raises(InputError, match=message):
        label_entropy(labels)
