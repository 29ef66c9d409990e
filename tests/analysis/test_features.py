"""Frozen features: computed once, memory-mapped, resumed, and the same as without the cache."""

import os
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from analysis.lab.data.datasets import load
from analysis.lab.data.features import cached_features, split_frozen
from capacity import InputError
from compression.checkpoints import load_json, save_json


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


def test_activations_are_part_of_what_features_are_of(tmp_path) -> None:
    data, (frozen, _) = load("digits"), split_frozen(network())
    cached_features(frozen, data, tmp_path)
    cached_features(nn.Sequential(frozen[0], nn.Tanh(), frozen[2]), data, tmp_path)
    assert len(list(tmp_path.glob("*.npy"))) == 6


def damaged(path: Path, how: str) -> None:
    content, rows = bytearray(path.read_bytes()), np.load(path)
    if how == "bit":
        content[-7] ^= 1
    elif how == "block":
        content[-512:] = bytes(512)
    elif how == "cut":
        del content[-108:]
    elif how == "longer":
        content += bytes(8)
    path.write_bytes(content)
    if how in ("type", "rows"):
        np.save(path, rows.astype(np.float32) if how == "type" else np.concatenate([rows, rows[:1]]))


@pytest.mark.parametrize("how", ["bit", "block", "cut", "longer", "type", "rows"])
def test_a_damaged_file_is_refused_and_what_is_advised_works(tmp_path, how: str) -> None:
    data, (frozen, _) = load("digits"), split_frozen(network())
    whole = np.array(cached_features(frozen, data, tmp_path).train.inputs)
    (path,) = tmp_path.glob("features-train-*.npy")
    damaged(path, how)
    with pytest.raises(InputError, match=rf"{path.name} is damaged.*remove it"):
        cached_features(frozen, data, tmp_path)
    path.unlink()
    assert (cached_features(frozen, data, tmp_path).train.inputs == whole).all()


def test_what_is_said_of_rows_does_not_outlive_them(tmp_path) -> None:
    data, (frozen, _) = load("digits"), split_frozen(network())
    whole = np.array(cached_features(frozen, data, tmp_path).train.inputs)
    (path,) = tmp_path.glob("features-train-*.npy")
    path.unlink()

    def stop(rows: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_features(frozen, data, tmp_path, done=stop)
    assert path.exists() and not path.with_suffix(".json").exists()
    assert (cached_features(frozen, data, tmp_path).train.inputs == whole).all()


@pytest.mark.parametrize("rows", [-1, 10**9, "7", None, True, 0.5])
def test_a_record_of_impossible_rows_is_damaged(tmp_path, rows) -> None:
    data, (frozen, _) = load("digits"), split_frozen(network())
    cached_features(frozen, data, tmp_path)
    (record,) = tmp_path.glob("features-train-*.json")
    save_json(record, load_json(record) | {"rows": rows})
    with pytest.raises(InputError, match=rf"{record.stem}\S+ is damaged"):
        cached_features(frozen, data, tmp_path)


def test_a_disk_that_is_too_small_says_so_before_anything_is_computed(tmp_path) -> None:
    data, (frozen, _) = load("digits"), split_frozen(network())
    rows: list[int] = []
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            cached_features(frozen, data, tmp_path, done=rows.append)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert rows == []
    cached_features(frozen, data, tmp_path, done=rows.append)
    assert sum(rows) == 1797


def test_features_beyond_half_precision_are_refused(tmp_path) -> None:
    frozen, _ = split_frozen(network())
    with torch.no_grad():
        frozen[0].weight.fill_(1e6)
    with pytest.raises(InputError, match="features of the frozen part exceed 65504"):
        cached_features(frozen, load("digits"), tmp_path)
