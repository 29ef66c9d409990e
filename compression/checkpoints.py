"""Weights as safetensors and facts as JSON, each with its SHA-256; never half-written, never executed."""

import dataclasses
import hashlib
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from capacity import checks
from capacity.cloning import clone, initialized, unwrapped
from capacity.errors import InputError, brief
from capacity.inputs import first_line, require_python, require_weights
from capacity.parametrized import import_hooks, pruning_hooks
from compression.identity import (
    changed_parts,
    compare,
    fingerprint,
    fingerprint_of,
    unknown_parts,
    without,
)
from compression.masks import apply_masks, stored_masks
from compression.metrics import tell_nan
from compression.storage import read_text, require_plain, write_atomically, write_tensors

__all__ = [
    "fingerprint", "load_json", "load_model", "metrics_of", "save_json", "save_model", "settle", "start_over",
    "write_atomically",
]  # fmt: skip
LOGGER = logging.getLogger("compression")


def save_json(path: str | Path, facts: Mapping[str, Any], *, sealed: bool = True) -> None:
    """Write facts as JSON and, `sealed`, the SHA-256 of them; floats keep every bit, keys their order."""
    text = json.dumps({**facts, SEAL: _seal(facts)} if sealed else facts, indent=1) + "\n"
    write_atomically(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def load_json(path: str | Path, *, sealed: bool = True) -> dict[str, Any]:
    """Read what save_json wrote.

    Raises InputError naming the file if it is damaged: no JSON, or another than its SHA-256 says. Without
    one it is damaged too, unless `sealed=False`.
    """
    text = read_text(path)
    try:
        value = json.loads(text)
        if not isinstance(value, dict):
            raise ValueError(f"it holds {type(value).__name__}, not an object")
        stored = value.pop(SEAL, None)
        if stored != _seal(value) and (sealed or stored is not None):
            raise ValueError("its SHA-256 is missing or another")
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {error}; remove it to run that step again") from error
    return value


SEAL = "sha256_of_the_rest"


def _seal(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


SELF_CHANGED = "changed by the functions themselves"


def settle(path: str | Path, content: Callable[[], Mapping[str, str]], what: str) -> Callable[[], None]:
    """Write what a directory's results depend on, as `identity.describe` has it, or compare.

    Returns a function to be called once a first result is there: it notes what the functions that made it
    changed in their own surroundings (a list of calls, say), which is no part of what they are.
    Parts that cannot be compared are named in a warning of the logger "compression" where results are there.

    Raises InputError if they differ, saying in what.
    """
    path, asked = Path(path), dict(content())
    stored: dict[str, Any] = load_json(path) if path.exists() else {}
    ignored = stored.pop(SELF_CHANGED, [])
    if not all(isinstance(each, str) for each in stored.values()) or not isinstance(ignored, list):
        raise InputError(f"{path} is damaged: it is no record of what a {what} depends on")
    if not stored:
        save_json(path, asked)
    different = compare(without(stored, ignored), without(asked, ignored)) if stored else []
    if different:
        shown = ", ".join(different[:4]) + (f" and {len(different) - 4} more" if len(different) > 4 else "")
        raise InputError(
            f"{path.parent} holds a {what} with another {shown}; choose another directory, or start over "
            f"with fresh=True (--fresh)"
        )
    unknown = unknown_parts(asked)
    if unknown and stored:
        shown = ", ".join(unknown)
        LOGGER.warning("%s: whether %s changed since results were stored cannot be told", path.parent, shown)

    def note() -> None:
        changed = changed_parts(asked, content())
        if set(changed) - set(ignored):
            save_json(path, {**(stored or asked), SELF_CHANGED: sorted({*ignored, *changed})})

    return note


def start_over(directory: str | Path, patterns: Sequence[str]) -> None:
    """Remove the files of these names from a directory, in this order: what others depend on comes last."""
    for pattern in patterns:
        for path in sorted(Path(directory).glob(pattern)):
            if path.is_file() or path.is_symlink():
                path.unlink()


def metrics_of(result: Any) -> dict[str, Any]:
    """What an `evaluate` function returned, as plain numbers, words and lists by name.

    Takes a mapping or dataclass of numbers, numpy scalars, tensors of one element, words, None, and lists or
    mappings of those.

    What is NaN is named in a warning of the logger "compression".

    Raises InputError naming the form expected, or the metric that is none of these.

    >>> metrics_of({"error": np.float32(0.5), "classes": torch.tensor(3)})
    {'error': 0.5, 'classes': 3}
    """
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        result = result.to_dict() if hasattr(result, "to_dict") else dataclasses.asdict(result)
    if not isinstance(result, Mapping):
        raise InputError(
            f"evaluate must return a mapping or dataclass of numbers, such as {{'top1_error': 0.1}}; "
            f"found {brief(result)}"
        )
    plain = {str(key): _plain_metric(str(key), value) for key, value in result.items()}
    tell_nan(plain)
    return plain


def _plain_metric(name: str, value: Any) -> Any:
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        if isinstance(value, torch.Tensor):
            value = value.detach().cpu().float() if value.dtype == torch.bfloat16 else value.detach().cpu()
        value = value.item() if math.prod(value.shape) == 1 else value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain_metric(f"{name}.{key}", item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_metric(name, item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise InputError(
        f"metric {name!r} must be a number (also of numpy or a tensor), a word, or a list of these; "
        f"found {type(value).__name__}"
    )


@checks.arguments(path=checks.path)
def save_model(model: nn.Module, path: str | Path) -> None:
    """Write a model's state dict, masks included, and its SHA-256 as safetensors; tied tensors once.

    Raises OSError if it cannot be written.
    """
    from safetensors.torch import save_model as save

    bare = initialized(unwrapped(model))
    require_storable(bare)
    bare = import_hooks(clone(bare)) if _hooked(bare) else bare
    facts = {"format": FORMAT, "sha256": fingerprint(bare)}
    try:
        write_tensors(path, lambda beside: save(_Stored(bare), beside, metadata=facts))
    except RuntimeError as error:
        raise InputError(
            f"tensors that share their memory in part cannot be stored: {first_line(error)}; give each its "
            f"own, as by nn.Parameter(tensor.detach().clone())"
        ) from error


class _Stored(nn.Module):
    """A model as files take and give its tensors: those of a GPU on the processor, tied ones still tied.

    There cuDNN keeps all weights of a recurrent layer in one memory.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Fill the model."""
        return self.model.load_state_dict(*args, **kwargs)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Tensors by name, on the processor."""
        moved: dict[Any, torch.Tensor] = {}
        state = self.model.state_dict()
        for name, tensor in state.items():
            if isinstance(tensor, torch.Tensor) and tensor.device.type not in ("cpu", "meta"):
                view = tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, tensor.device
                state[name] = moved.setdefault(view if tensor.numel() else name, tensor.detach().cpu())
        return state


def require_storable(model: nn.Module) -> None:
    """Raise InputError, naming it, for what a file of tensors cannot hold: what get_extra_state keeps."""
    require_weights(model)
    require_python(model)
    for key, value in model.state_dict().items():
        if not isinstance(value, torch.Tensor):
            raise InputError(
                f"{key!r} is of type {type(value).__name__}, and a file of tensors cannot hold it: let "
                f"get_extra_state return a tensor, or keep what it says in a buffer"
            )


FORMAT = "deepcapacity"  # of which a file without a SHA-256 is damaged


def most_bytes(model: nn.Module) -> int:
    """The most that a file of this model's tensors can take: in double precision, with a mask of each."""
    tensors = (value for value in model.state_dict().values() if isinstance(value, torch.Tensor))
    return 4 * sum(value.nbytes for value in tensors) + 16 * 2**20


def _hooked(model: nn.Module) -> bool:
    """Whether masks of `torch.nn.utils.prune` are set, whose names become ours when they are read."""
    return any(pruning_hooks(module) for module in model.modules())


@checks.arguments(path=checks.path, sealed=checks.flag)
def load_model(model: nn.Module, path: str | Path, *, sealed: bool = False) -> nn.Module:
    """Fill `model` in place with a saved state dict, setting masks it has; returns the model.

    Files that others wrote are read too, with masks named as torch.nn.utils.prune does; with `sealed`, none
    without a SHA-256 is.

    Raises InputError for a damaged file (every bit counts) and for weights of another architecture or type.
    A damaged file leaves the model as it was, and nothing in a file is executed. NaN and infinity come back
    as they were saved: what computes with weights says where they are not finite.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_model as load

    model = unwrapped(model)
    require_python(model)
    require_plain(path, most_bytes(model))
    try:
        with safe_open(str(path), framework="pt") as file:
            facts = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise InputError(f"{path} is no file") from error
    except (SafetensorError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged: {error}; remove it to run that step again") from error
    sha256 = facts.get("sha256")
    ours = sealed or sha256 is not None or facts.get("format") == FORMAT
    if ours and sha256 != fingerprint_of(_with_ties(tensors, facts)):
        raise InputError(
            f"{path} is damaged: its SHA-256 is not the one that was stored; remove it to run that step again"
        )
    try:
        import_hooks(model)
        apply_masks(model, stored_masks(model, tensors))
        _require_types(model, tensors if ours else {}, path)
        load(_Stored(model), str(path))
    except (SafetensorError, RuntimeError) as error:
        raise InputError(
            f"{path} holds another architecture: "
            f"{' '.join(str(error).split()).replace(_Stored.__name__, type(model).__name__)[:300]}"
        ) from error
    return model


def _with_ties(tensors: Mapping[str, torch.Tensor], facts: Mapping[str, str]) -> dict[str, torch.Tensor]:
    """The tensors of a file and those that are one of them under another name, which safetensors notes."""
    ties = {
        name: tensors[source] for name, source in facts.items() if name not in tensors and source in tensors
    }
    return {**tensors, **ties}


def _require_types(model: nn.Module, tensors: Mapping[str, torch.Tensor], path: str | Path) -> None:
    """Raise InputError unless each tensor of a file is of the type that the model's has."""
    own = model.state_dict()
    for key, tensor in tensors.items():
        if key in own and tensor.dtype != own[key].dtype:
            raise InputError(
                f"{path} holds weights of another type: {key!r} is {tensor.dtype}, "
                f"the model's {own[key].dtype}"
            )
