"""A frozen network's features, computed once, kept on disk as a memory-mapped file, used by every epoch."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from analysis.lab.data.datasets import DataSet, Split
from capacity.errors import InputError
from compression.arrays import RowWriter, halved, mapped_rows
from compression.checkpoints import load_json, save_json
from compression.forms import dtype_of, placed
from compression.identity import describe
from compression.processes import main_first, own_device
from compression.storage import hold_file


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

    The files' names hold a fingerprint of the frozen network and of the pictures; an interrupted
    computation goes on where it stopped. `done` is called with the number of rows after each batch.

    Raises InputError for features that half precision does not hold and for damaged files, OSError where
    there is no room for them.
    """
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    features = {
        name: feature_rows(frozen, part, folder, name, batch_size=batch_size, done=done)
        for name, part in parts.items()
    }
    splits: dict[str, Any] = {name: Split(features[name], part.labels) for name, part in parts.items()}
    return replace(data, **splits)


def feature_rows(
    frozen: nn.Module,
    split: Split,
    folder: Path,
    name: str,
    *,
    batch_size: int = 64,
    done: Callable[[int], None] | None = None,
) -> np.ndarray:
    """(N, width) half floats: the features of a split's rows, memory-mapped from FOLDER/features-NAME-*.npy.

    Beside it lies a JSON file that says what they are of, how many rows are there, and their SHA-256.
    """
    facts = describe(frozen=frozen, inputs=split.inputs, mean=split.mean, std=split.std)
    mark = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    path = folder / f"features-{name}-{mark}.npy"
    device = own_device()
    features = partial(_features, frozen.eval().to(device), device)
    with main_first(), hold_file(path), torch.inference_mode():  # the other processes find the file
        width = features(next(iter(split.take(slice(0, 1)).batches(1)))[0]).shape[1]
        shape = (len(split), width)
        rows, sha256 = _progress(path, facts, len(split))
        if rows < len(split):
            with RowWriter(path, shape, rows=rows, sha256=sha256) as writer:
                rest = split.take(slice(rows, None)).batches(batch_size)
                sha256 = _fill(writer, map(features, (pictures for pictures, _ in rest)), path, facts, done)
        return mapped_rows(path, shape, sha256)


def _progress(path: Path, facts: Mapping[str, str], count: int) -> tuple[int, str]:
    """How many rows a features file holds, and its SHA-256 up to there."""
    record = path.with_suffix(".json")
    if not path.exists():
        record.unlink(missing_ok=True)  # which must not outlive the rows it speaks of
    if not record.exists():
        return 0, ""
    state = load_json(record)
    rows, sha256 = state.pop("rows", None), state.pop("sha256", None)
    if state != facts or not isinstance(rows, int) or not 0 <= rows <= count or not isinstance(sha256, str):
        raise InputError(f"{record} is damaged: it speaks of other features; remove it to compute them again")
    return int(rows), sha256


def _fill(
    writer: RowWriter,
    batches: Iterable[torch.Tensor],
    path: Path,
    facts: Mapping[str, str],
    done: Callable[[int], None] | None,
) -> str:
    """Write the rows that are missing, noting every few batches how many are there; their SHA-256."""
    sha256 = ""
    for number, batch in enumerate(batches):
        writer.add(halved(batch, "features of the frozen part"))
        if number % 16 == 15 or writer.rows == writer.shape[0]:
            sha256 = writer.save()
            save_json(path.with_suffix(".json"), {**facts, "rows": writer.rows, "sha256": sha256})
        if done is not None:
            done(len(batch))
    return sha256


def _features(frozen: nn.Module, device: torch.device, pictures: Any) -> torch.Tensor:
    """(B, width) features of a batch."""
    features: torch.Tensor = frozen(placed(pictures, device, dtype_of(frozen))).flatten(1)
    return features
