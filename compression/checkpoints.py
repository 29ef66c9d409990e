"""Weights as safetensors and facts as JSON; written beside, flushed and renamed, so never half-written."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from capacity.cloning import initialized, unwrapped
from capacity.errors import InputError
from capacity.parametrized import import_hooks
from compression.masks import apply_masks, stored_masks
from compression.processes import rank


def write_whole(path: str | Path, write: Callable[[Path], object]) -> None:
    """Call `write` on a neighbouring temporary path, flush it to disk and rename it to `path`.

    Where several processes share a run, only the first one writes.
    """
    if rank() > 0:
        return
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(beside)
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def save_json(path: str | Path, facts: Mapping[str, Any]) -> None:
    """Write facts as JSON; floats keep every bit, keys their order."""
    text = json.dumps(facts, indent=1) + "\n"
    write_whole(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def load_json(path: str | Path) -> dict[str, Any]:
    """Read what save_json wrote; raises InputError naming the file if it is damaged."""
    try:
        return dict(json.loads(Path(path).read_text(encoding="utf-8")))
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}; remove it to run that step again") from error


def settle(path: str | Path, settings: Mapping[str, Any], what: str) -> None:
    """Write the settings that identify what a directory holds, or compare them with those it has.

    Raises InputError if they differ, saying in what.
    """
    path = Path(path)
    if not path.exists():
        save_json(path, settings)
        return
    found = load_json(path)
    different = sorted(key for key in settings if found.get(key) != settings[key])
    if different:
        raise InputError(
            f"{path.parent} holds a {what} with another {' and '.join(different)}; "
            f"choose another directory or remove it"
        )


def save_model(model: nn.Module, path: str | Path) -> None:
    """Write a model's state dict, masks included, as safetensors; tied tensors once.

    Raises OSError if it cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_model as save

    bare = initialized(unwrapped(model))
    try:
        write_whole(path, lambda beside: save(bare, str(beside)))
    except SafetensorError as error:
        raise OSError(f"{path} could not be written: {error}") from error


def load_model(model: nn.Module, path: str | Path) -> nn.Module:
    """Fill `model` in place with a saved state dict, setting masks it has; returns the model.

    Files that name masks as torch.nn.utils.prune does are read too.

    Raises InputError for a damaged file and for weights of another architecture. Nothing in the file is
    executed.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from safetensors.torch import load_model as load

    model = unwrapped(model)
    try:
        import_hooks(model)
        apply_masks(model, stored_masks(model, load_file(path)))
        load(model, str(path))
    except SafetensorError as error:
        raise InputError(f"{path} is damaged: {error}; remove it to run that step again") from error
    except RuntimeError as error:
        raise InputError(
            f"{path} holds another architecture: {' '.join(str(error).split())[:300]}"
        ) from error
    return model


def fingerprint(model: nn.Module) -> str:
    """SHA-256 of a model's state dict: names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(initialized(unwrapped(model)).state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name}{values.dtype}{tuple(values.shape)}".encode())
        digest.update(values.flatten().view(torch.uint8).numpy().data if values.numel() else b"")
    return digest.hexdigest()
