"""Frozen features: computed once, memory-mapped, resumed, and the same as without the cache."""

import os

import pytest
import torch
from torch import nn

from analysis.lab.data.datasets import load
from analysis.lab.data.features import cached_features, split_frozen
from capacity import InputError


def network() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 10))
    model[0].requires_grad_(False)
    return model


def test_the_head_starts_at_the_first_layer_that_learns() -> None:
    frozen, head = split_frozen(network())
    assert [type(part).__name__ for part in frozen] == ["Conv2d", "ReLU", "Flatten"]
    assert [name for name, _ in head.named_children()] == ["3"]


def test_cached_features_are_those_of_the_network_and_computed_once(tmp_path) -> None:
    data, (frozen, head) = load("digits"), split_frozen(network())
    rows: list[int] = []
    cached = cached_features(frozen, data, tmp_path, done=rows.append)
    assert sum(rows) == 1797
    pictures, _ = next(iter(data.test.batches(50)))
    features, _ = next(iter(cached.test.batches(50)))
    assert torch.allclose(network()(pictures), head(features), atol=2e-2)
    files = {file: os.stat(tmp_path / file).st_mtime_ns for file in os.listdir(tmp_path)}
    cached_features(frozen, data, tmp_path, done=rows.append)
    assert sum(rows) == 1797
    assert files == {file: os.stat(tmp_path / file).st_mtime_ns for file in os.listdir(tmp_path)}


def test_an_interrupted_computation_goes_on(tmp_path) -> None:
    data, (frozen, _) = load("digits"), split_frozen(network())
    count: list[int] = []

    def stop(rows: int) -> None:
        count.append(rows)
        if len(count) == 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_features(frozen, data, tmp_path, batch_size=16, done=stop)
    rest: list[int] = []
    resumed = cached_features(frozen, data, tmp_path, batch_size=16, done=rest.append)
    assert sum(rest) == 1797 - 32 * 16  # saved every 16 batches
    whole = cached_features(frozen, data, tmp_path / "other", batch_size=16)
    assert (resumed.train.inputs == whole.train.inputs).all()


def test_other_weights_get_another_file(tmp_path) -> None:
    data = load("digits")
    frozen, _ = split_frozen(network())
    cached_features(frozen, data, tmp_path)
    with torch.no_grad():
        frozen[0].weight.mul_(2)
    cached_features(frozen, data, tmp_path)
    assert len(list(tmp_path.glob("*.npy"))) == 6


def test_networks_that_cannot_be_split() -> None:
    with pytest.raises(InputError, match="Sequential"):
        split_frozen(nn.Linear(2, 2))
    with pytest.raises(InputError, match="no frozen parameters"):
        split_frozen(nn.Sequential(nn.Flatten(), nn.Linear(2, 2)))
