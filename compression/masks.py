"""Masks in the format of `torch.nn.utils.prune`, so that its tools and ours understand each other.

A mask is a boolean tensor of a parameter's shape, True where the parameter is kept, and masks are a dict
from the parameter's full name ("classifier.0.weight") to it. Applied, `weight` becomes `weight_orig` and a
buffer `weight_mask`, multiplied before every forward pass: it survives training, `state_dict` round
trips, and `torch.nn.utils.prune.is_pruned` sees it.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from capacity.errors import InputError, unknown

Masks = dict[str, Tensor]


def split_name(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module and the parameter's own name behind a full name; raises InputError if there is none."""
    path, _, key = name.rpartition(".")
    try:
        module = model.get_submodule(path)
    except AttributeError:
        module = None
    if module is None or not isinstance(getattr(module, key, None), Tensor):
        known = [full.removesuffix("_orig") for full, _ in model.named_parameters()]
        raise unknown("parameter", name, known)
    return module, key


def validate(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Raise InputError for a mask of an unknown parameter, of another shape, or with values but 0 and 1."""
    for name, mask in masks.items():
        module, key = split_name(model, name)
        shape = getattr(module, key).shape
        if mask.shape != shape:
            raise InputError(f"mask of {name!r} has shape {tuple(mask.shape)}, the parameter {tuple(shape)}")
        if mask.dtype != torch.bool and not bool(((mask == 0) | (mask == 1)).all()):
            raise InputError(f"mask of {name!r} holds values other than 0 and 1")


@torch.no_grad()  # so that the masked weight is a leaf, which copy.deepcopy takes
def apply_masks(model: nn.Module, masks: Mapping[str, Tensor], *, keep_dropped: bool = True) -> nn.Module:
    """Set masks on a model in place, instead of earlier ones of the same parameters; returns the model.

    With `keep_dropped`, `weight_orig` keeps the values that a mask drops, as torch has it, and a later
    mask can bring them back; without, they become zero there too, and no second tensor is needed.
    """
    validate(model, masks)
    for name, mask in masks.items():
        module, key = split_name(model, name)
        buffer = getattr(module, f"{key}_mask", None)
        if isinstance(buffer, Tensor):
            buffer.copy_(mask)
        else:
            _register(module, key, mask.bool().to(getattr(module, key).device))
        original = getattr(module, f"{key}_orig")
        if keep_dropped:
            setattr(module, key, original * mask.to(original.device))
        else:
            original.mul_(mask.to(original.device))
            setattr(module, key, original.detach())  # the same memory until the next forward pass
    return model


def _register(module: nn.Module, key: str, mask: Tensor) -> None:
    """What prune.custom_from_mask does, with a mask of one byte an element instead of a float."""
    method = prune.CustomFromMask(mask)
    method._tensor_name = key
    original = module._parameters.pop(key)
    module.register_parameter(f"{key}_orig", original)
    module.register_buffer(f"{key}_mask", mask)
    module.register_forward_pre_hook(method)


def masks_of(model: nn.Module) -> Masks:
    """The masks set on a model; empty if it is not pruned."""
    return {
        name.removesuffix("_mask"): buffer.bool()
        for name, buffer in model.named_buffers()
        if name.endswith("_mask") and _is_masked(model, name.removesuffix("_mask"))
    }


def masked_value(module: nn.Module, key: str) -> Tensor:
    """A parameter with its mask applied; also right after load_state_dict, before any forward pass."""
    original, mask = getattr(module, f"{key}_orig", None), getattr(module, f"{key}_mask", None)
    if isinstance(original, Tensor) and isinstance(mask, Tensor):
        return original.detach() * mask
    value = getattr(module, key)
    assert isinstance(value, Tensor)
    return value.detach()


def _is_masked(model: nn.Module, name: str) -> bool:
    path, _, key = name.rpartition(".")
    return isinstance(getattr(model.get_submodule(path), f"{key}_orig", None), Tensor)


def density(masks: Mapping[str, Tensor]) -> float:
    """Kept parameters as a fraction of all masked tensors' elements; 1.0 without masks.

    >>> density({"weight": torch.tensor([True, False, False, False])})
    0.25
    """
    total = sum(mask.numel() for mask in masks.values())
    return sum(int(torch.count_nonzero(mask)) for mask in masks.values()) / total if total else 1.0


def nested(inner: Mapping[str, Tensor], outer: Mapping[str, Tensor]) -> bool:
    """Whether every parameter that `inner` keeps is kept by `outer` too."""
    return all(name not in outer or not bool((mask & ~outer[name]).any()) for name, mask in inner.items())


def kept_units(mask: Tensor) -> Tensor:
    """Which units (rows, output channels) of a weight's mask keep at least one weight; shape (units,)."""
    return mask.flatten(1).any(dim=1)
