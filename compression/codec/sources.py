"""Files of a checkpoint, tensor by tensor: safetensors and state dicts of torch.save; nothing is executed."""

import json
import pickle
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from capacity.cloning import memory_view
from capacity.errors import InputError
from compression.storage import require_plain

SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")


@dataclass(frozen=True)
class OpenFile:
    """A file that is open: its safetensors header, if it has one, and its tensors in their order there."""

    header: bytes | None
    names: tuple[str, ...]
    tensors: Any

    def __iter__(self) -> Iterator[tuple[str, Tensor, str | None]]:
        """Name, tensor, and the name of an earlier one if that is the same memory."""
        seen: dict[Any, str] = {}
        for name in self.names:
            tensor = self.tensors[name] if self.header is None else self.tensors.get_tensor(name)
            same_as = seen.setdefault(memory_view(tensor), name) if self.header is None else name
            yield name, tensor, same_as if same_as != name else None


@contextmanager
def opened(path: Path) -> Iterator[OpenFile]:
    """A file of a checkpoint; raises InputError for what is damaged, or no plain state dict."""
    require_plain(path)
    if not path.exists():
        raise InputError(f"{path} is no file")
    if path.suffix != ".safetensors":
        yield _state_dict(path)
        return
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            header = _header(path)
            places = {key: facts["data_offsets"] for key, facts in json.loads(header).items() if key != META}
            yield OpenFile(header, tuple(sorted(places, key=lambda key: (places[key], key))), file)
    except (SafetensorError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is damaged, or has a type that torch lacks: {error}") from error


META = "__metadata__"
REFUSED = (
    RuntimeError, ValueError, EOFError, LookupError, TypeError, AttributeError, pickle.UnpicklingError,
)  # fmt: skip


def _header(path: Path) -> bytes:
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        return file.read(length)


def _state_dict(path: Path) -> OpenFile:
    """Names and tensors of torch.save, mapped from disk where it wrote them so that they can be."""
    try:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # written before torch 1.6, or damaged
            state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except REFUSED as error:
        text = " ".join(str(error).split())[:160]
        raise InputError(f"{path} is damaged, or holds more than tensors: {text}") from error
    if not isinstance(state, Mapping):
        raise InputError(f"{path} holds no state dict but {type(state).__name__}")
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise InputError(f"{path} is no plain state dict: {name!r} is {type(tensor).__name__}, no tensor")
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_nested:
            raise InputError(
                f"{path}: {name!r} cannot be coded: its layout is {tensor.layout}, {tensor.dtype} on "
                f"{tensor.device}; dense tensors with values can"
            )
    return OpenFile(None, tuple(state), {name: tensor.detach() for name, tensor in state.items()})
