"""Criteria: by hand, where L1 and L2 part ways, and uniform sampling."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import nn

from capacity import InputError
from capacity.cloning import plain_copy
from compression.criteria import L1, L2, EnergyPerBit, PerBit, Random, Reservoir
from compression.pruning import prune


def test_scores_by_hand() -> None:
    weight = torch.tensor([[1.0, 3.0], [5.0, -1.0]])  # mean 2
    assert L1()(weight).tolist() == [[1, 1], [3, 3]]
    assert L2()(weight).tolist() == [[1, 1], [9, 9]]
    assert L1(center="zero")(weight).tolist() == [[1, 3], [5, 1]]
    assert L2(center="zero")(weight).tolist() == [[1, 9], [25, 1]]


def test_l1_and_l2_choose_different_neurons() -> None:
    weight = torch.tensor([[2.0, 2.0, -2.0], [5.0, 0.0, 0.0]])  # L1: 6 > 5, L2: 12 < 25
    assert L1(center="zero")(weight).sum(1).argmin() == 1
    assert L2(center="zero")(weight).sum(1).argmin() == 0


@given(st.lists(st.floats(-10, 10, width=32), min_size=2, max_size=20))
def test_on_one_scalar_per_neuron_l1_and_l2_rank_alike(values: list[float]) -> None:
    weight = torch.tensor(values, dtype=torch.float64)[:, None]
    assert torch.equal(L1()(weight).square(), L2()(weight))


@given(st.integers(1, 200), st.data(), st.sampled_from([Random, Reservoir]), st.integers(0, 9))
def test_samples_are_distinct_in_range_and_seeded(count, data, criterion, seed) -> None:
    amount = data.draw(st.integers(1, count))
    chosen = criterion(seed).choose(count, amount)
    assert len(chosen) == amount == len(set(chosen.tolist()))
    assert chosen.min() >= 0 and chosen.max() < count
    assert np.array_equal(chosen, criterion(seed).choose(count, amount))


@pytest.mark.parametrize("criterion", [Random, Reservoir])
def test_every_unit_is_as_likely(criterion) -> None:
    trials, count, amount = 4000, 20, 5
    hits = np.zeros(count)
    for seed in range(trials):
        hits[criterion(seed).choose(count, amount)] += 1
    assert hits.sum() == trials * amount
    # Inclusions in a sample without replacement vary less than a multinomial by (n - k) / (n - 1).
    statistic = chisquare(hits).statistic * (count - 1) / (count - amount)
    assert chisquare(hits).pvalue > 1e-3
    assert 5 < statistic < 45


def test_every_pair_is_as_likely() -> None:
    pairs = {(a, b): 0 for a in range(5) for b in range(a)}
    for seed in range(4000):
        a, b = sorted(Reservoir(seed).choose(5, 2).tolist(), reverse=True)
        pairs[a, b] += 1
    assert chisquare(list(pairs.values())).pvalue > 1e-3


def test_a_reservoir_larger_than_a_block_stays_uniform() -> None:
    chosen = Reservoir(0).choose(3_000_000, 3000)
    halves = [(chosen < 1_500_000).sum(), (chosen >= 1_500_000).sum()]
    assert len(set(chosen.tolist())) == 3000 and chisquare(halves).pvalue > 1e-3


def test_an_unknown_center_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'mean'"):
        L1(center="men")(torch.ones(2, 2))  # type: ignore[arg-type]


def test_energy_per_bit_gathers_weights_in_rows_and_columns() -> None:
    """Pruned little by little, fewer rows and columns hold the weights that stay than by magnitude."""
    alive = {}
    for criterion in (L1("zero"), EnergyPerBit()):
        weight = torch.randn(60, 80, generator=torch.Generator().manual_seed(0))
        for share in np.linspace(0.05, 0.95, 60):
            scores = criterion(weight).flatten()
            weight.view(-1)[scores.argsort()[: round(share * weight.numel())]] = 0
        alive[type(criterion)] = int((weight != 0).any(1).sum() + (weight != 0).any(0).sum())
        assert int((weight != 0).sum()) == round(0.05 * weight.numel())
    assert alive[EnergyPerBit] < 0.9 * alive[L1]


def test_energy_per_bit_is_squared_magnitude_per_bit() -> None:
    torch.manual_seed(0)
    model = prune(nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(16, 5)), L1("zero"), amount=0.6)
    scores = PerBit(torch.square, 3.0).observe(plain_copy(model.model))
    assert scores.keys() == {"0.weight", "0.bias", "2.weight", "2.bias"}
    for name in ("0.weight", "2.weight"):
        weight = plain_copy(model.model).get_parameter(name).detach()
        assert torch.equal(scores[name], EnergyPerBit(3.0)(weight))
    bias = model.model[0].bias.detach()
    assert torch.equal(scores["0.bias"], bias.square() / 3)


def test_energy_per_bit_of_a_dense_layer_ranks_as_magnitude_does() -> None:
    weight = torch.randn(6, 7, 3, 3)
    scores = EnergyPerBit()(weight)
    assert torch.equal(scores.flatten().argsort(), weight.abs().flatten().argsort())
