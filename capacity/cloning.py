"""Copies of a model that leave the caller's untouched: on its own device, or without memory on meta."""

import copy
import sys
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from capacity.errors import InputError
from capacity.inputs import first_line, require_module
from capacity.parametrized import fold_masks, fold_parametrizations, norm_hooks, own_classes, pruning_hooks
from capacity.rebinding import OWN, rebind

__all__ = [
    "as_plain", "clone", "evaluation_copy", "fold_masks", "fold_parametrizations", "initialized",
    "plain_copy", "storage_bits", "unwrapped", "without_foreign_hooks",
]  # fmt: skip


def clone(model: nn.Module, *, device: str | None = None, foreign_hooks: bool = True) -> nn.Module:
    """A deep copy that shares nothing with the model and runs its own weights.

    Wrappers around the whole model are taken off (see `unwrapped`), and layers compiled inside it run as
    they were written. Parametrizations and masks stay, and so do non-leaf tensors kept as attributes, which
    `copy.deepcopy` refuses. Shared tensors stay shared. A `forward` patched on an instance, hooks and other
    functions that close over the model or its layers are bound to the copy.

    Parameters
    ----------
    device: with "meta", tensors have shapes but no memory, and no weight is read
    foreign_hooks: False leaves forward hooks that are not torch's own behind, so that no caller's code runs

    Raises InputError, naming the layer, for modules that are not yet initialized (nn.LazyLinear before its
    first batch), for what cannot be copied, for functions that reach the original in a way that cannot be
    bound to the copy (a global variable), and for tensors that the copy would share with the original.
    """
    model = initialized(unwrapped(model))
    memo: dict[int, Any] = {}
    _prepare_shared(model, device, memo)
    for module in model.modules():
        _prepare(module, device, memo)
    try:
        for compiled, written in reversed(_compiled(model)):  # each by hand: it answers for what it holds
            memo[id(compiled)] = type(compiled)(copy.deepcopy(written, memo), compiled.dynamo_ctx)
        with torch.no_grad():  # scripted modules copy their parameters by an operation
            copied = copy.deepcopy(model, memo)
            _keep_slots(model, copied, memo)
    except Exception as error:  # whatever an attribute raises when it is copied
        raise _uncopied(model, error) from error
    own_classes(copied)
    _keep_scripted_gradients(model, copied)
    _keep_hooks(model, copied, memo)
    if not foreign_hooks:
        without_foreign_hooks(copied)
    rebind(model, copied, memo)
    for compiled, written in _compiled(copied):
        compiled.forward = written.__call__
    if device is None:
        _refuse_shared(model, copied)
    return copied


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside nn.DataParallel, DistributedDataParallel and torch.compile.

    Everything here takes them off by this function, in `clone` or before it reads names: names of layers
    are the model's own, and results hold models without wrappers.
    """
    require_module(model)
    while True:
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        elif compiled := _compiled(model, inside=False):
            model = compiled[0][1]
        else:
            return model


def _compiled(model: nn.Module, *, inside: bool = True) -> list[tuple[Any, nn.Module]]:
    """Modules that torch.compile made, with what each runs."""
    pairs = (
        (module, getattr(module, "_orig_mod", None)) for module in (model.modules() if inside else [model])
    )
    return [(module, written) for module, written in pairs if isinstance(written, nn.Module)]


def initialized(model: nn.Module) -> nn.Module:
    """The model itself; raises InputError for a layer that has no weights before its first batch."""
    for name, module in model.named_modules():
        for key, own in [*module._parameters.items(), *module._buffers.items()]:
            if isinstance(own, nn.UninitializedParameter | nn.UninitializedBuffer):
                raise InputError(f"layer {name!r}: {key} is not initialized; run the model once on real data")
    return model


def _prepare(module: nn.Module, device: str | None, memo: dict[int, Any]) -> None:
    """Put copies of the tensors that deepcopy cannot copy, or not to `device`, into its memo.

    And the empty dictionaries of hooks, some ten a module, which deepcopy takes apart one by one.
    """
    for key, value in module.__dict__.items():
        if type(value) is OrderedDict and not value and not vars(value):
            memo[id(value)] = OrderedDict()
        elif key not in OWN and isinstance(value, Tensor | list | tuple | dict):
            for tensor in _held(value):
                if not tensor.is_leaf:
                    memo[id(tensor)] = tensor.detach().to(device) if device else tensor.detach().clone()
    for own in [*module._parameters.values(), *module._buffers.values()]:
        if own is not None and id(own) in memo:
            continue
        if device is not None and own is not None:
            memo[id(own)] = _moved(own, device)
        elif own is not None and not own.is_leaf:
            memo[id(own)] = own.detach().clone()


def _prepare_shared(model: nn.Module, device: str | None, memo: dict[int, Any]) -> None:
    """Put copies of tensors that are views of one memory into the memo, so that they stay so in the copy.

    Elsewhere than where they lie, those that see the same memory the same way become one.
    """
    groups: dict[int, dict[int, Tensor]] = {}
    for _, tensor in _tensors(model, duplicates=True):
        if type(tensor) in (Tensor, nn.Parameter) and tensor.is_leaf and _memory(tensor):
            groups.setdefault(tensor.untyped_storage()._cdata, {})[id(tensor)] = tensor
    for held in (list(group.values()) for group in groups.values() if len(group) > 1):
        if device is None:
            storage = held[0].detach().untyped_storage().clone()
            for own in held:
                memo[id(own)] = _view(own, storage)
            continue
        seen: dict[Any, Tensor] = {}
        for own in held:
            moved = seen.setdefault(memory_view(own), _moved(own, device))
            if isinstance(moved, nn.Parameter) == isinstance(own, nn.Parameter):
                memo[id(own)] = moved


def _view(tensor: Tensor, storage: torch.UntypedStorage) -> Tensor:
    """A tensor that sees this memory as another one sees its own."""
    seen = torch.empty(0, dtype=tensor.dtype, device=tensor.device).set_(
        storage, tensor.storage_offset(), tensor.shape, tensor.stride()
    )
    return nn.Parameter(seen, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else seen


def memory_view(tensor: Tensor) -> Any:
    """Which memory a tensor sees and how: equal for tensors that are the same numbers in the same places."""
    try:
        storage = tensor.untyped_storage()._cdata
    except (RuntimeError, NotImplementedError):  # sparse and wrapped tensors have no storage of their own
        return id(tensor)
    if not tensor.numel() or not storage or tensor.is_meta:
        return id(tensor)
    return storage, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype


def _held(value: Any) -> Iterator[Tensor]:
    """Tensors in an attribute, in lists, tuples and dicts too."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _held(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _held(item)


def _keep_scripted_gradients(model: nn.Module, copied: nn.Module) -> None:
    """Parameters of scripted modules learn in the copy if they do in the original."""
    for module, other in zip(model.modules(), copied.modules(), strict=True):
        if isinstance(module, torch.jit.ScriptModule):
            for own, new in zip(
                module.parameters(recurse=False), other.parameters(recurse=False), strict=True
            ):
                new.requires_grad_(own.requires_grad)


def _keep_slots(model: nn.Module, copied: nn.Module, memo: dict[int, Any]) -> None:
    """Bring along what modules keep in `__slots__`, which nn.Module's own copying leaves behind."""
    for module, other in zip(model.modules(), copied.modules(), strict=False):
        for kind in type(module).__mro__:
            slots = vars(kind).get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if name not in vars(module) and hasattr(module, name) and not hasattr(other, name):
                    setattr(other, name, copy.deepcopy(getattr(module, name), memo))


def _keep_hooks(model: nn.Module, copied: nn.Module, memo: dict[int, Any]) -> None:
    """Bring along the forward hooks of graph modules, which their own copying leaves behind."""
    for name, module in model.named_modules():
        if isinstance(module, fx.GraphModule):
            other = copied.get_submodule(name)
            for key in HOOKS:
                other.__dict__[key] = copy.deepcopy(module.__dict__[key], memo)


HOOKS = (
    "_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs", "_backward_hooks", "_backward_pre_hooks", "_is_full_backward_hook",
)  # fmt: skip


def _uncopied(model: nn.Module, error: Exception) -> InputError:
    """Which attribute of which layer cannot be copied."""
    for name, module in reversed(list(model.named_modules())):
        for key, value in module.__dict__.items():
            if key in OWN:
                continue
            try:
                copy.deepcopy(value, {})
            except Exception as found:
                return InputError(
                    f"layer {name!r}: its attribute {key!r} ({type(value).__name__}) cannot be copied: "
                    f"{first_line(found, 200)}; give it a __deepcopy__, or remove it before"
                )
    return InputError(f"{type(model).__name__} cannot be copied: {first_line(error, 200)}")


def _refuse_shared(model: nn.Module, copied: nn.Module) -> None:
    """Raise InputError where training the copy would change the original, as by a __deepcopy__ of its own."""
    before = {place for _, tensor in _tensors(model) if (place := _memory(tensor))}
    for name, tensor in _tensors(copied):
        if _memory(tensor) in before:
            raise InputError(
                f"{name}: a copy would share its memory with the original, by the __deepcopy__ of its layer"
            )
    if {name for name, _ in _tensors(model)} != {name for name, _ in _tensors(copied)}:
        odd = sorted({name for name, _ in _tensors(model)} ^ {name for name, _ in _tensors(copied)})
        raise InputError(
            f"a copy would differ from the original in {', '.join(odd[:3])}, by the __deepcopy__ of a layer"
        )


def _tensors(model: nn.Module, *, duplicates: bool = False) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters(remove_duplicate=not duplicates)
    yield from model.named_buffers(remove_duplicate=not duplicates)


def _memory(tensor: Tensor) -> int:
    """Address of a tensor's memory; 0 where it has none that can be asked for."""
    try:
        return 0 if tensor.device.type == "meta" else tensor.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):  # sparse, or made of other tensors
        return 0


def _moved(tensor: Tensor, device: str) -> Tensor:
    if device == "meta":  # quantized and sparse tensors cannot be moved there, but what they stand for can
        moved = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
    else:
        moved = tensor.detach().to(device)
    if isinstance(tensor, nn.Parameter):
        moved = nn.Parameter(moved, requires_grad=tensor.requires_grad)
        moved.element_bits = storage_bits(tensor) / max(tensor.numel(), 1)  # type: ignore[attr-defined]
    return moved


def storage_bits(tensor: Tensor) -> int:
    """Bits that hold a tensor's numbers: packed parts of a quantized one, values and indices of a sparse one.

    >>> storage_bits(torch.zeros(3, dtype=torch.bfloat16))
    48
    """
    if hasattr(tensor, "__tensor_flatten__"):
        names, _ = tensor.__tensor_flatten__()
        return sum(storage_bits(getattr(tensor, name)) for name in names)
    if tensor.layout == torch.sparse_coo:
        tensor = tensor.detach().coalesce()
        return storage_bits(tensor.indices()) + storage_bits(tensor.values())
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        parts = (tensor.crow_indices(), tensor.col_indices(), tensor.values())
        return sum(storage_bits(part.detach()) for part in parts)
    return tensor.numel() * tensor.element_size() * 8


def plain_copy(model: nn.Module, *, stored: bool = True) -> nn.Module:
    """A copy with masks and parametrizations folded into plain parameters; `stored` as for folding."""
    return fold_parametrizations(fold_masks(clone(model)), stored=stored)


def as_plain(model: nn.Module, *, stored: bool = True) -> nn.Module:
    """The model without its wrappers where it holds plain tensors, to be read alone; else `plain_copy`.

    A copy too where its state dict would be made by code of its own, which may change what it is called on.
    """
    model = initialized(unwrapped(model))
    plain = all(
        not (parametrize.is_parametrized(module) or pruning_hooks(module) or norm_hooks(module))
        and not (module._state_dict_hooks or module._state_dict_pre_hooks)
        and all(getattr(type(module), name) is getattr(nn.Module, name) for name in SAVING)
        for module in model.modules()
    )
    return model if plain else plain_copy(model, stored=stored)


SAVING = ("state_dict", "_save_to_state_dict", "get_extra_state")


def without_foreign_hooks(model: nn.Module) -> nn.Module:
    """Drop, in place, forward hooks that are neither torch's own nor of the libraries that the model is of.

    So that no caller's code runs, and what belongs to the pass does: transformers and timm collect hidden
    states by hooks, which they register once in a model's life.
    """
    libraries = {"torch"} | {
        package
        for package in {_package(type(module)) for module in model.modules()}
        if "site-packages" in (getattr(sys.modules.get(package), "__file__", None) or "")
    }
    for module in model.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            for key, hook in list(hooks.items()):
                if _package(hook if getattr(hook, "__module__", None) else type(hook)) not in libraries:
                    del hooks[key]
    return model


def _package(of: Any) -> str:
    """The outermost package that a class or a function comes from."""
    return str(of.__module__).partition(".")[0]


def evaluation_copy(model: nn.Module, *, device: str | None = None) -> nn.Module:
    """A copy in evaluation mode, masks folded, foreign hooks gone: what every measurement runs on."""
    copied = clone(model, device=device, foreign_hooks=False)
    return fold_parametrizations(fold_masks(copied)).eval()
