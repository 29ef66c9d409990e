"""A frozen network's features, computed once, kept on disk as a memory-mapped file, used by every epoch."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from analysis.lab.data.datasets import DataSet, Split
from capacity.errors import InputError
from compression.checkpoints import fingerprint, load_json, save_json
from compression.forms import dtype_of, placed
from compression.processes import main_first, own_device


def split_frozen(model: nn.Module) -> tuple[nn.Sequential, nn.Sequential]:
    """The leading frozen part of a sequential network, and the rest, which learns.

    Raises InputError if the network is not sequential or its first part learns.
    """
    if not isinstance(model, nn.Sequential):
        raise InputError(
            f"only a Sequential network can be split into frozen features and a head, "
            f"found {type(model).__name__}"
        )
    parts = list(model.named_children())
    learns = [any(p.requires_grad for p in module.parameters()) for _, module in parts]
    first = learns.index(True) if True in learns else len(parts)
    frozen = [module for _, module in parts[:first]]
    if not any(True for module in frozen for _ in module.parameters()):
        raise InputError("the network has no frozen parameters before its first layer that learns")
    head = nn.Sequential()
    for name, module in parts[first:]:
        head.add_module(name, module)
    return nn.Sequential(*frozen), head


def cached_features(
    frozen: nn.Module,
    data: DataSet,
    folder: Path,
    *,
    batch_size: int = 64,
    done: Callable[[int], None] | None = None,
) -> DataSet:
    """The data set with each picture replaced by its features (half precision on disk, float in batches).

    The file's name holds a fingerprint of the frozen weights and of the pictures; an interrupted
    computation goes on where it stopped. `done` is called with the number of rows after each batch.
    """
    frozen = frozen.eval()
    weights = fingerprint(frozen)

    def change(split: Split, part: str) -> Split:
        assert isinstance(split.inputs, torch.Tensor)
        pictures = hashlib.sha256(split.inputs.contiguous().numpy().data).hexdigest()
        mark = hashlib.sha256(f"{weights}{pictures}{split.mean}{split.std}".encode()).hexdigest()[:16]
        with main_first():  # of several processes; the others find the file
            features = _fill(frozen, split, folder / f"features-{part}-{mark}", batch_size, done)
        return Split(features, split.labels)

    return replace(
        data,
        train=change(data.train, "train"),
        validation=change(data.validation, "validation"),
        test=change(data.test, "test"),
    )


def _fill(
    frozen: nn.Module, split: Split, path: Path, batch_size: int, done: Callable[[int], None] | None
) -> np.ndarray:
    """The features file, computed from its first missing row on."""
    device = own_device()
    file, progress = path.with_suffix(".npy"), path.with_suffix(".json")
    frozen, kind = frozen.to(device), dtype_of(frozen)
    rows = load_json(progress)["rows"] if progress.exists() and file.exists() else 0
    batches = split.batches(batch_size)
    start = rows // batch_size
    with torch.inference_mode():
        if rows == 0:
            width = frozen(placed(next(iter(batches))[0][:1], device, kind)).flatten(1).shape[1]
            file.parent.mkdir(parents=True, exist_ok=True)
            progress.unlink(missing_ok=True)  # which must not outlive the rows it speaks of
            features = np.lib.format.open_memmap(file, "w+", np.float16, (len(split), width))
        else:
            features = np.lib.format.open_memmap(file, "r+")
        if rows < len(split):
            rest = split.take(slice(start * batch_size, None))
            at = start * batch_size
            for number, (pictures, _) in enumerate(rest.batches(batch_size)):
                values = frozen(placed(pictures, device, kind)).flatten(1).half().cpu().numpy()
                features[at : at + len(values)] = values
                at += len(values)
                if number % 16 == 15 or at == len(split):
                    features.flush()
                    save_json(progress, {"rows": at})
                if done is not None:
                    done(len(values))
    del features
    kept: np.ndarray = np.load(file, mmap_mode="r")
    return kept
