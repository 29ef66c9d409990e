"""Batches as tensors: every sample once, normalization and augmentation as torchvision does them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from capacity import InputError
from compression.batches import CropAndFlip, TensorBatches


@given(st.integers(1, 40), st.integers(1, 50), st.booleans(), st.integers(0, 3))
def test_every_sample_once_in_a_seeded_order(count: int, size: int, shuffle: bool, epoch: int) -> None:
    inputs = torch.arange(count, dtype=torch.float32)[:, None]
    batches = TensorBatches(inputs, torch.arange(count), size, shuffle, seed=5)
    batches.set_epoch(epoch)
    first = [(x.flatten().tolist(), y.tolist()) for x, y in batches]
    assert len(first) == len(batches) and all(x == y for x, y in first)
    assert sorted(label for _, labels in first for label in labels) == list(range(count))
    assert first == [(x.flatten().tolist(), y.tolist()) for x, y in batches]


def test_epochs_differ() -> None:
    batches = TensorBatches(torch.zeros(50, 1), torch.arange(50), 50, shuffle=True)
    orders = []
    for epoch in range(3):
        batches.set_epoch(epoch)
        orders.append(next(iter(batches))[1].tolist())
    assert orders[0] != orders[1] != orders[2]


def test_normalization_is_torchvisions() -> None:
    from torchvision.transforms import v2

    pictures = torch.randint(0, 256, (7, 3, 5, 5), dtype=torch.uint8)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.1)
    expected = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])(pictures)
    found = next(iter(TensorBatches(pictures, torch.zeros(7), 7, mean=mean, std=std)))[0]
    assert torch.allclose(found, expected, atol=1e-5)


def test_memory_mapped_features(tmp_path) -> None:
    values = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float16)
    np.save(tmp_path / "features.npy", values)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    for shuffle in (False, True):
        for x, y in TensorBatches(mapped, torch.arange(9), 4, shuffle):
            assert x.dtype == torch.float32 and np.array_equal(
                x.numpy(), values[y.numpy()].astype(np.float32)
            )


@given(st.integers(0, 20))
def test_crops_and_flips_are_windows_of_the_padded_picture(seed: int) -> None:
    pictures = torch.rand(6, 2, 5, 7)
    found = CropAndFlip(padding=2)(pictures, torch.Generator().manual_seed(seed))
    padded = torch.nn.functional.pad(pictures, [2] * 4)
    for picture, result in zip(padded, found, strict=True):
        windows = [picture[:, a : a + 5, b : b + 7] for a in range(5) for b in range(5)]
        assert any(torch.equal(result, w) or torch.equal(result, w.flip(-1)) for w in windows)


def test_without_padding_or_flip_nothing_changes() -> None:
    pictures = torch.rand(4, 1, 3, 3)
    assert torch.equal(CropAndFlip(0, flip=False)(pictures, torch.Generator()), pictures)


@pytest.mark.parametrize(("count", "size", "message"), [(2, 1, "same length"), (3, 0, "batch_size")])
def test_bad_input(count: int, size: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        TensorBatches(torch.zeros(3, 1), torch.zeros(count), size)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 2.0}, "batch_size must be a whole number"),
        ({"batch_size": -4}, "batch_size must be at least 1"),
        ({"mean": (0.5,)}, "mean and std"),
        ({"mean": (0.5,), "std": (0.0,)}, "std must be positive"),
        ({"mean": (0.5, 0.5), "std": (1.0, 1.0)}, "mean and std are of 2 channels"),
    ],
)
def test_bad_settings(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        TensorBatches(torch.zeros(4, 3, 2, 2, dtype=torch.uint8), torch.zeros(4), **options)


def test_numpy_s_integers_and_labels_are_taken() -> None:
    batches = TensorBatches(torch.zeros(5, 2), np.arange(5, dtype=np.uint8), np.int64(2))
    assert [len(y) for _, y in batches] == [2, 2, 1] and batches.targets.dtype == torch.uint8
    with pytest.raises(InputError, match="padding must be at least 0"):
        CropAndFlip(padding=-1)
