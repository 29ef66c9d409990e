"""Files of shrunk models: weights and sizes of layers in one safetensors file, checked before it is used."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from capacity import checks
from capacity.attention import fuse_attention, unpack_attention
from capacity.cloning import clone, initialized, plain_copy, unwrapped
from capacity.errors import InputError
from capacity.inputs import example_input, first_line
from compression.checkpoints import most_bytes, require_storable
from compression.shrinking.sizes import MARK
from compression.storage import require_plain, write_tensors

ATTRIBUTES = (
    "in_features", "out_features", "in_channels", "out_channels", "groups", "num_features", "num_channels",
    "normalized_shape", "num_parameters", "num_heads", "hidden_dim", "embed_dim", "num_groups",
    "input_size", "hidden_size", "embedding_dim",
)  # fmt: skip
FLOATS = ("F64", "F32", "F16", "BF16")
Sizes = dict[str, dict[str, Any]]


@checks.arguments(model=checks.module, path=checks.path)
def save_shrunk(model: nn.Module, path: str | Path) -> None:
    """Write weights, sizes of layers and a SHA-256 of both as one safetensors file."""
    from safetensors.torch import save_file

    model = unwrapped(model)
    require_storable(initialized(model))
    sizes = {
        name: {
            key: value
            for key in (*ATTRIBUTES, *getattr(module, MARK, ()))
            if _is_size(value := vars(module).get(key))
        }
        for name, module in model.named_modules()
    }
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in model.state_dict().items()}
    text = json.dumps({name: size for name, size in sizes.items() if size})
    facts = {"sizes": text, "sha256": digest(text, tensors)}
    write_tensors(path, lambda beside: save_file(tensors, beside, metadata=facts))


def _is_size(value: Any) -> bool:
    sizes = [value] if isinstance(value, int) else value
    return isinstance(sizes, list | tuple) and all(type(n) is int and 0 < n < 2**31 for n in sizes)


def digest(facts: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of a text and of tensors with their names, types and shapes, whatever their order."""
    hash_ = hashlib.sha256(facts.encode())
    for key, tensor in sorted(tensors.items()):
        hash_.update(f"{key}{tensor.dtype}{tuple(tensor.shape)}".encode())
        hash_.update(tensor.flatten().view(torch.uint8).numpy().data if tensor.numel() else b"")
    return hash_.hexdigest()


@checks.arguments(path=checks.path)
def load_shrunk(model: nn.Module, path: str | Path, *, input_size: Any = None) -> nn.Module:
    """A copy of `model` (fresh from its factory) with the sizes and weights that save_shrunk wrote.

    With `input_size`, one sample's shape or example tensors, it is run once: layers that do not fit
    together are refused then, and not when it is first used.

    Raises InputError for a damaged file and for another architecture. Nothing in the file is executed, and
    nothing is read into memory that is larger than the model's own tensors. NaN and infinity come back
    as they were saved.
    """
    from safetensors import SafetensorError, safe_open

    copied, path = clone(model), require_plain(path, most_bytes(model))
    try:
        with safe_open(str(path), framework="pt") as file:
            facts = file.metadata() or {}
            keys = list(file.keys())
            if set(keys) != copied.state_dict().keys():
                copied = unpack_attention(plain_copy(copied))  # as shrinking leaves them
            _require_fitting(copied, {key: file.get_slice(key) for key in keys}, path)
            tensors = {key: file.get_tensor(key) for key in keys}
    except FileNotFoundError as error:
        raise InputError(f"{path} is no file") from error
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is damaged: {error}") from error
    text = facts.get("sizes", "{}")
    if facts.get("sha256") != digest(text, tensors):
        raise InputError(f"{path} is damaged: its checksum is missing or another; save the model again")
    _set_sizes(copied, _sizes(text, path), path)
    _set_tensors(copied, tensors)
    _require_consistent(copied, path)
    fuse_attention(copied)
    if input_size is not None:
        _rehearse(copied, input_size, path)
    return copied


def _rehearse(model: nn.Module, input_size: Any, path: Path) -> None:
    """Run the model once on an example; raises InputError if its layers do not fit together."""
    device = next((tensor.device for tensor in model.state_dict().values()), torch.device("cpu"))
    args, options = example_input(model, input_size, device=str(device))
    try:
        with torch.no_grad():
            clone(model).eval()(*args, **options)
    except Exception as error:  # whatever its layers stumble over
        raise InputError(
            f"{path} is damaged, or input_size is another: it cannot be run: {first_line(error, 200)}"
        ) from error


def _require_fitting(model: nn.Module, slices: Mapping[str, Any], path: Path) -> None:
    """Raise InputError unless the file's names, kinds and shapes can be those of the model made smaller."""
    expected = model.state_dict()
    if slices.keys() != expected.keys():
        odd = sorted(slices.keys() ^ expected.keys())[:3]
        raise InputError(f"{path} holds another architecture: it differs in {odd}")
    for key, cuts in slices.items():
        tensor, shape = expected[key], cuts.get_shape()
        smaller = len(shape) == tensor.dim() and all(a <= b for a, b in zip(shape, tensor.shape, strict=True))
        if not smaller or (cuts.get_dtype() in FLOATS) != tensor.is_floating_point():
            raise InputError(
                f"{path} holds another architecture: {key!r} is {cuts.get_dtype()} of shape {tuple(shape)}, "
                f"the model's {tensor.dtype} of {tuple(tensor.shape)}"
            )


def _sizes(text: str, path: Path) -> Sizes:
    try:
        sizes = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {error}") from error
    good = isinstance(sizes, dict) and all(
        isinstance(size, dict) and all(map(_is_size, size.values())) for size in sizes.values()
    )
    if not good:
        raise InputError(f"{path} is damaged: sizes must be whole numbers by layer")
    return dict(sizes)


def _set_sizes(model: nn.Module, sizes: Sizes, path: Path) -> None:
    """Set the sizes of layers; raises InputError for one of another kind than the layer's own."""
    for name, module in model.named_modules():
        for key, value in sizes.get(name, {}).items():
            own = vars(module).get(key)
            if own is None and key in ATTRIBUTES:
                continue
            if not _is_smaller(value, own) and (key not in ATTRIBUTES or not _is_alike(value, own)):
                raise InputError(f"{path} is damaged: {key} of layer {name!r} cannot be {value}")
            setattr(module, key, type(own)(value) if isinstance(value, list) else value)
            if key not in ATTRIBUTES:
                setattr(module, MARK, tuple(sorted({*getattr(module, MARK, ()), key})))


def _is_alike(value: Any, own: Any) -> bool:
    """Whether both are one number, or sequences of as many."""
    if isinstance(value, list):
        return isinstance(own, list | tuple) and len(value) == len(own)
    return isinstance(own, int)


def _is_smaller(value: Any, own: Any) -> bool:
    """Whether a size found in a file is one that shrinking may leave of the layer's own."""
    if not _is_size(own) or not _is_alike(value, own):
        return False
    pairs = zip(value, own, strict=True) if isinstance(value, list) else [(value, own)]
    return all(new <= old for new, old in pairs)


def _set_tensors(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put tensors in place; parameters that are one, and modules under two names, stay one."""
    modules = dict(model.named_modules(remove_duplicate=False))
    fresh: dict[int, Tensor] = {}
    held = []  # looked up before any is replaced
    for key, tensor in tensors.items():
        where, _, own = key.rpartition(".")
        module = modules[where]
        held.append((module, own, module._parameters.get(own), module._buffers.get(own), tensor))
    for module, own, parameter, buffer, tensor in held:
        if parameter is not None:
            new = fresh.setdefault(
                id(parameter),
                nn.Parameter(tensor.to(parameter.device), requires_grad=parameter.requires_grad),
            )
            if isinstance(module, nn.RNNBase):
                setattr(module, own, new)  # which knows its parameters by a list too
            module._parameters[own] = new
        elif buffer is not None:
            module._buffers[own] = fresh.setdefault(id(buffer), tensor.to(buffer.device))


def _require_consistent(model: nn.Module, path: Path) -> None:
    """Raise InputError unless sizes and weights of dense layers, convolutions and norms belong together."""
    for name, module in model.named_modules():
        weight = module._parameters.get("weight")
        wanted: tuple[int, ...] | None = None
        if isinstance(module, nn.Linear):
            wanted = (module.out_features, module.in_features)
        elif isinstance(module, nn.modules.conv._ConvNd):
            ends = (module.out_channels, module.in_channels // module.groups)
            if isinstance(module, nn.modules.conv._ConvTransposeNd):
                ends = (module.in_channels, module.out_channels // module.groups)
            wanted = (*ends, *module.kernel_size)
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            wanted = (module.num_features,)
        if wanted is not None and weight is not None and tuple(weight.shape) != wanted:
            raise InputError(
                f"{path} is damaged: layer {name!r} of sizes {wanted} has weights of {tuple(weight.shape)}"
            )
