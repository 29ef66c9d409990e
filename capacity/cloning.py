"""Copies of a model that leave the caller's untouched: on its own device, or without memory on meta."""

import copy

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize, prune

from capacity.errors import InputError


def clone(model: nn.Module, *, device: str | None = None) -> nn.Module:
    """A deep copy; with `device="meta"` its tensors have shapes but no memory, and no weight is read.

    Non-leaf tensors kept as attributes (the masked weights of `torch.nn.utils.prune`) are copied too,
    which `copy.deepcopy` alone refuses. Shared tensors stay shared.

    Raises InputError for modules that are not yet initialized (nn.LazyLinear before its first batch).
    """
    memo: dict[int, object] = {}
    for name, module in model.named_modules():
        for tensor in list(module.__dict__.values()):
            if isinstance(tensor, Tensor) and not tensor.is_leaf:
                memo[id(tensor)] = tensor.detach().to(device) if device else tensor.detach().clone()
        held = [*module._parameters.items(), *module._buffers.items()]
        for key, tensor in held:
            if isinstance(tensor, nn.UninitializedParameter | nn.UninitializedBuffer):
                raise InputError(f"layer {name!r}: {key} is not initialized; run the model once on real data")
            if device is not None and tensor is not None:
                memo[id(tensor)] = _moved(tensor, device)
    copied = copy.deepcopy(model, memo)
    if isinstance(model, fx.GraphModule):  # whose own copy leaves them behind
        copied._forward_pre_hooks.update(model._forward_pre_hooks)
        copied._forward_hooks.update(model._forward_hooks)
    return copied


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


def fold_masks(model: nn.Module) -> nn.Module:
    """Fold masks of `torch.nn.utils.prune` into plain parameters, in place; returns the model."""
    for module in model.modules():
        for hook in list(module._forward_pre_hooks.values()):
            if isinstance(hook, prune.BasePruningMethod):
                prune.remove(module, hook._tensor_name)
    return model


def fold_parametrizations(model: nn.Module) -> nn.Module:
    """Fold `torch.nn.utils.parametrize` into plain parameters, in place; returns the model."""
    for module in model.modules():
        if parametrize.is_parametrized(module):
            for key in list(getattr(module, "parametrizations", {})):
                parametrize.remove_parametrizations(module, key)
    return model


def plain_copy(model: nn.Module) -> nn.Module:
    """A copy with masks and parametrizations folded into plain parameters."""
    return fold_parametrizations(fold_masks(clone(model)))


def without_foreign_hooks(model: nn.Module) -> nn.Module:
    """Drop, in place, forward hooks that are not torch's own, so that no caller's code runs; returns it."""
    for module in model.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            for key, hook in list(hooks.items()):
                origin = getattr(hook, "__module__", None) or type(hook).__module__
                if not origin.startswith("torch."):
                    del hooks[key]
    return model


def evaluation_copy(model: nn.Module, *, device: str | None = None) -> nn.Module:
    """A copy in evaluation mode, masks folded, foreign hooks gone: what every measurement runs on."""
    copied = without_foreign_hooks(clone(model, device=device))
    return fold_parametrizations(fold_masks(copied)).eval()
