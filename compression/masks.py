"""Masks: which parameters stay. A masked weight is masked for whoever reads it, as a torch parametrization.

A mask is a boolean tensor of a parameter's shape, True where the parameter is kept, and masks are a dict
from the parameter's full name ("classifier.0.weight") to it. Applied, it is a parametrization
(`torch.nn.utils.parametrize`): `layer.weight` is masked whether the layer is called or only its weight is
read, gradients in any training loop reach what is kept, and the state dict holds
`parametrizations.weight.original` and `parametrizations.weight.0.mask`. Over a weight norm or another
parametrization, it masks what that computes. `from_torch_pruning` and `to_torch_pruning` lead to and from
`torch.nn.utils.prune`, whose masks are understood here as they are, in models and in state dicts.
"""

import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from capacity.cloning import clone, unwrapped
from capacity.errors import InputError, unknown
from capacity.inputs import require_python
from capacity.parametrized import (
    Mask,
    add_mask,
    as_keep_mask,
    import_hooks,
    keys_of,
    mask_of,
    parametrizations_of,
    pruning_hooks,
    take_mask,
    value_of,
)
from compression._moved import keep_old_names

Masks = dict[str, Tensor]
PART = 65_536
STORED = re.compile(r"(.*\.)?parametrizations\.([^.]+)\.\d+\.mask")


def split_name(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module and the parameter's own name behind a full name; raises InputError if there is none."""
    model = unwrapped(model)
    path, _, key = name.rpartition(".")
    try:
        module = model.get_submodule(path)
    except AttributeError:
        module = None
    if module is None or key not in keys_of(module):
        raise unknown("parameter", name, [_full(path, own) for path, _, own in _named(model)])
    return module, key


def _named(model: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """Every parameter as the layers' code reads it: path of the module, the module, own name."""
    require_python(model)
    for path, module in model.named_modules():
        if not isinstance(module, parametrize.ParametrizationList):
            yield from ((path, module, key) for key in keys_of(module))


def _full(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def validate(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Raise InputError for a mask of an unknown parameter, of another shape, or with values but 0 and 1."""
    for name, mask in masks.items():
        module, key = split_name(model, name)
        shape = (value_of(module, key) if (held := _behind(module, key)) is None else held).shape
        if mask.shape != shape:
            raise InputError(f"mask of {name!r} has shape {tuple(mask.shape)}, the parameter {tuple(shape)}")
        if mask.dtype != torch.bool and not bool(((mask == 0) | (mask == 1)).all()):
            raise InputError(f"mask of {name!r} holds values other than 0 and 1")


@torch.no_grad()
def apply_masks(model: nn.Module, masks: Mapping[str, Tensor], *, keep_dropped: bool = True) -> nn.Module:
    """Set masks on a model in place, instead of earlier ones of the same parameters; returns the model.

    A parameter that several layers share is masked in all of them. Masks of `torch.nn.utils.prune` on the
    model become masks of this kind.

    With `keep_dropped`, the values that a mask drops are kept behind it, and a later mask can bring them
    back; without, they become zero there too (where nothing else computes the parameter).
    """
    validate(model, masks)
    import_hooks(model)
    sharers = _sharers(model)
    for name, mask in masks.items():
        module, key = split_name(model, name)
        held, earlier = _behind(module, key), mask_of(module, key)
        device = (value_of(module, key) if held is None else held).device
        placed = mask.detach().to(device, torch.bool)
        if earlier is not None:
            earlier.mask = placed
        else:
            earlier = Mask(placed)
            for other, alias in sharers.get(id(held), [(module, key)]):
                add_mask(other, alias, earlier)
        if not keep_dropped and held is not None:
            _zero(held, placed)
    return model


def _zero(tensor: Tensor, mask: Tensor) -> None:
    """Multiply by a mask in place, in parts that the cache holds, which takes a third of the time."""
    if not (tensor.is_contiguous() and mask.is_contiguous()):
        tensor.mul_(mask)
        return
    for part, factor in zip(tensor.view(-1).split(PART), mask.view(-1).split(PART), strict=True):
        part.mul_(factor.to(part.dtype))


def _behind(module: nn.Module, key: str) -> Tensor | None:
    """The parameter that holds a tensor's values, if nothing but a mask changes them."""
    below = parametrizations_of(module, key)
    if below is None:
        return module._parameters.get(key)
    return below._parameters.get("original") if all(isinstance(part, Mask) for part in below) else None


def _sharers(model: nn.Module) -> dict[int, list[tuple[nn.Module, str]]]:
    """Which modules, and under what names, read each parameter that nothing else computes, by identity."""
    sharers: dict[int, list[tuple[nn.Module, str]]] = {}
    for _, module, key in _named(model):
        held = _behind(module, key)
        if held is not None:
            sharers.setdefault(id(held), []).append((module, key))
    return sharers


def masks_of(model: nn.Module) -> Masks:
    """The masks set on a model, by `torch.nn.utils.prune` too; empty if it is not pruned."""
    masks: Masks = {}
    seen: set[int] = set()
    for path, module, key in _named(unwrapped(model)):
        mask = mask_of(module, key)
        if mask is not None and id(mask) not in seen:
            masks[_full(path, key)] = mask.mask
            seen.add(id(mask))
        elif key in pruning_hooks(module):
            masks[_full(path, key)] = as_keep_mask(f"{_full(path, key)}_mask", getattr(module, f"{key}_mask"))
    return masks


def lift_masks(model: nn.Module) -> Masks:
    """Take masks off parameters that nothing else computes, in place, the parameters masked; returns them.

    For a training loop that masks once after each step, which is cheaper than in every forward and backward.
    """
    import_hooks(model)
    sharers, lifted = _sharers(model), {}
    for name in masks_of(model):
        held = _behind(*split_name(model, name))
        if held is not None:
            taken = [take_mask(module, key) for module, key in sharers[id(held)]]
            lifted[name] = next(mask.mask for mask in taken if mask is not None)
            held.data.masked_fill_(~lifted[name], 0.0)
    return lifted


def masked_value(module: nn.Module, key: str) -> Tensor:
    """A parameter as it is read in evaluation mode, its mask applied; also right after load_state_dict."""
    return value_of(module, key)


def from_torch_pruning(model: nn.Module) -> nn.Module:
    """A copy in which masks of `torch.nn.utils.prune` are masks of this module, dropped values kept."""
    require_python(model)
    return import_hooks(clone(model))


def to_torch_pruning(model: nn.Module) -> nn.Module:
    """A copy in which masks are those of `torch.nn.utils.prune`, dropped values kept.

    Raises InputError for a mask over another parametrization, which torch's pruning cannot have.
    """
    copied = import_hooks(clone(model))
    sharers = _sharers(copied)
    for name, mask in masks_of(copied).items():
        held = _behind(*split_name(copied, name))
        if held is None:
            raise InputError(
                f"{name!r} is masked over another parametrization, which torch.nn.utils.prune cannot do: "
                f"fold it first, with capacity.cloning.plain_copy"
            )
        for module, key in sharers[id(held)]:
            take_mask(module, key)
            prune.custom_from_mask(module, key, mask)
    return copied


def stored_masks(model: nn.Module, tensors: Mapping[str, Tensor]) -> Masks:
    """Masks in a state dict, of this module's names or of torch.nn.utils.prune's, that the model has not."""
    own, masks = model.state_dict().keys(), {}
    for key, tensor in tensors.items():
        if key in own:
            continue
        match = STORED.fullmatch(key)
        name = key.removesuffix("_mask")
        if match is not None and tensor.dtype == torch.bool:
            masks[f"{match[1] or ''}{match[2]}"] = tensor
        elif name != key and f"{name}_orig" in tensors and f"{name}_orig" not in own:
            masks[name] = as_keep_mask(key, tensor)
    known = masks_of(model)
    return {name: mask for name, mask in masks.items() if name not in known}


def density(masks: Mapping[str, Tensor]) -> float:
    """Kept parameters as a fraction of all masked tensors' elements; 1.0 without masks.

    >>> density({"weight": torch.tensor([True, False, False, False])})
    0.25
    """
    total = sum(mask.numel() for mask in masks.values())
    return sum(int(torch.count_nonzero(mask)) for mask in masks.values()) / total if total else 1.0


def nested(inner: Mapping[str, Tensor], outer: Mapping[str, Tensor]) -> bool:
    """Whether every parameter that `inner` keeps is kept by `outer` too."""
    return all(
        name not in outer or not bool((mask & ~outer[name].to(mask.device)).any())
        for name, mask in inner.items()
    )


def living_units(mask: Tensor) -> Tensor:
    """Which units (rows, output channels) of a weight's mask keep at least one weight; shape (units,)."""
    return mask.flatten(1).any(dim=1)


keep_old_names(__name__)
