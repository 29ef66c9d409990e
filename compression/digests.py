"""Bytes of tensors, arrays and files, added to a SHA-256."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

MOST_READ = 2**30  # bytes of all files of a data set that are read; of more, sizes and times of change count


def add_tensor(digest: Any, name: str, tensor: torch.Tensor) -> None:
    """Name, type, shape and every byte of a tensor, whatever it is laid out or packed as."""
    digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
    if tensor.device.type == "meta" or not tensor.numel():
        return
    parts = _parts(tensor.detach())
    for part, inner in parts.items():
        add_tensor(digest, part, inner)
    if not parts:
        values = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
        digest.update(values.flatten().view(torch.uint8).numpy().data)


def _parts(tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    """Plain tensors that a sparse, nested or quantized one is made of; none of a plain one."""
    if hasattr(tensor, "__tensor_flatten__"):
        names, _ = tensor.__tensor_flatten__()
        return {name: getattr(tensor, name) for name in names}
    if tensor.is_nested:
        return {str(place): part for place, part in enumerate(tensor.unbind())}
    if tensor.layout != torch.strided:
        coordinates = tensor.to_sparse_coo().coalesce()
        return {"indices": coordinates.indices(), "values": coordinates.values()}
    if tensor.is_quantized:
        return {"integers": tensor.int_repr(), "numbers": tensor.dequantize()}
    return {}


def add_array(digest: Any, values: np.ndarray) -> None:
    """Every byte of an array of plain numbers or words; a memory map is not read as a whole."""
    rows = values.reshape(1) if values.ndim == 0 else values
    for start in range(0, len(rows), 4096):
        digest.update(np.ascontiguousarray(rows[start : start + 4096]).tobytes())


def add_files(digest: Any, entries: Sequence[Any], root: Any = "") -> bool:
    """The files that a list names, each as a path or the first of a tuple; False where it names none.

    Paths may start from `root`. What is in them counts, of files too large to read all their sizes and
    times of change.
    """
    paths = [entry[0] if isinstance(entry, tuple) and entry else entry for entry in entries]
    if not paths or not all(isinstance(path, str | os.PathLike) for path in paths):
        return False
    try:
        if not os.path.isfile(paths[0]):
            paths = [os.path.join(root, path) for path in paths]
        facts = [os.stat(path) for path in paths if os.path.isfile(path)]
    except (OSError, TypeError, ValueError):
        return False
    if len(facts) < len(paths):
        return False
    read = sum(fact.st_size for fact in facts) <= MOST_READ
    for path, fact in zip(paths, facts, strict=True):
        digest.update(f"{fact.st_size} {0 if read else fact.st_mtime_ns} ".encode())
        if read:
            with open(path, "rb") as file:
                while block := file.read(2**20):
                    digest.update(block)
    return True
