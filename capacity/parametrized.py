"""Tensors that are computed before they are read: masks, weight norm, spectral norm, any parametrization.

Today torch does this by `torch.nn.utils.parametrize`, which gives a module a class of its own with a
property in place of the tensor: whoever reads the weight, with or without calling the layer, reads the
computed one. Older ways (`torch.nn.utils.weight_norm`, `spectral_norm` and `prune`) compute it by a hook
before the layer is called. All of them are read, and folded into plain parameters, here.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations as modern
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm, SpectralNormLoadStateDictPreHook
from torch.nn.utils.weight_norm import WeightNorm

from capacity.errors import InputError


class Mask(nn.Module):
    """A parametrization: `value` where `mask` is True and 0 elsewhere, whatever stood there.

    The tensor `mask` is never changed but replaced, so that several models may hold the same.
    """

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.mask: Tensor
        self.register_buffer("mask", mask)

    def forward(self, value: Tensor) -> Tensor:
        return torch.where(self.mask, value, 0.0)

    def right_inverse(self, value: Tensor) -> Tensor:
        return value

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        if f"{prefix}mask" in state_dict:
            self.mask = self.mask.clone()  # which is then filled
        super()._load_from_state_dict(state_dict, prefix, *rest)


class HookNames:
    """Before a state dict is loaded: names of `torch.nn.utils.prune` become those of a `Mask`."""

    def __init__(self, key: str) -> None:
        self.key = key

    def __call__(self, state: dict[str, Any], prefix: str, *_: Any) -> None:
        original, mask = f"{prefix}{self.key}_orig", f"{prefix}{self.key}_mask"
        if original in state and mask in state:
            start = f"{prefix}parametrizations.{self.key}"
            state[f"{start}.original"], state[f"{start}.0.mask"] = state.pop(original), state.pop(mask)


def parametrizations_of(module: nn.Module, key: str) -> Any:
    """The list of parametrizations of a module's tensor, or None."""
    return module.parametrizations[key] if key in _computed(module) else None  # type: ignore[index]


def mask_of(module: nn.Module, key: str) -> Mask | None:
    """The mask that has the last word on a tensor, or None."""
    parts = parametrizations_of(module, key)
    return parts[-1] if parts is not None and isinstance(parts[-1], Mask) else None


def pruning_hooks(module: nn.Module) -> dict[str, prune.BasePruningMethod]:
    """Hooks of `torch.nn.utils.prune` by the name of the tensor they mask."""
    hooks = module._forward_pre_hooks.values()
    return {hook._tensor_name: hook for hook in hooks if isinstance(hook, prune.BasePruningMethod)}


def as_keep_mask(name: str, mask: Tensor) -> Tensor:
    """Which elements a mask of 0 and 1 keeps; raises InputError for one that does more than keep and drop."""
    if not bool(((mask == 0) | (mask == 1)).all()):
        odd = mask[(mask != 0) & (mask != 1)].flatten()[0]
        raise InputError(
            f"{name} holds {float(odd):g}, and a mask is of 0 and 1: multiply the weight by it first "
            f"(torch.nn.utils.prune.remove)"
        )
    return mask.bool()


def norm_hooks(module: nn.Module) -> dict[str, WeightNorm | SpectralNorm]:
    """Hooks of the older weight norm and spectral norm by the name of the tensor they compute."""
    hooks = module._forward_pre_hooks.values()
    return {hook.name: hook for hook in hooks if isinstance(hook, WeightNorm | SpectralNorm)}


def keys_of(module: nn.Module) -> list[str]:
    """Names of a module's own parameters as its code reads them: "weight", however it is computed."""
    pruned, normed = pruning_hooks(module), norm_hooks(module)
    behind = {f"{key}_orig" for key in pruned}
    behind |= {f"{key}_{part}" for key in normed for part in ("g", "v", "orig")}
    own = [key for key, value in module._parameters.items() if value is not None and key not in behind]
    return list(dict.fromkeys([*own, *_computed(module), *pruned, *normed]))


def _computed(module: nn.Module) -> list[str]:
    """Names of a module's own parametrized tensors, not of one that it wraps and answers for."""
    own = "parametrizations" in module._modules and parametrize.is_parametrized(module)
    return [*module._modules["parametrizations"]] if own else []  # type: ignore[misc]


@torch.no_grad()
def value_of(module: nn.Module, key: str) -> Tensor:
    """What a module reads under this name in evaluation mode, detached; nothing changes by reading it."""
    if key in (hooks := pruning_hooks(module)):
        value: Tensor = hooks[key].apply_mask(module)
    elif key in (norms := norm_hooks(module)):
        norm = norms[key]
        extra = () if isinstance(norm, WeightNorm) else (False,)  # no power iteration
        value = norm.compute_weight(module, *extra)
    elif (parts := parametrizations_of(module, key)) is not None:
        with _evaluating(parts):
            value = parts()
    else:
        value = getattr(module, key)
    return value.detach()


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """In evaluation mode, in which spectral norm does not go on with its power iteration."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def add_mask(module: nn.Module, key: str, mask: Mask) -> None:
    """Put a mask on a tensor, in place, over whatever computes it."""
    _modernize(module, key)
    _own_class(module)
    plain = parametrizations_of(module, key) is None
    parametrize.register_parametrization(module, key, mask, unsafe=True)
    if plain:
        module._register_load_state_dict_pre_hook(HookNames(key))


def take_mask(module: nn.Module, key: str) -> Mask | None:
    """Take the mask off a tensor, in place, dropped values as they are behind it; None if it has none.

    For tensors that nothing else computes.
    """
    mask = mask_of(module, key)
    if mask is not None:
        _take_off(module, key, parametrizations_of(module, key).original)
    return mask


def _forget(module: nn.Module, which: Callable[[Any], bool]) -> None:
    """Drop hooks that would run before a state dict is loaded."""
    for number, hook in list(module._load_state_dict_pre_hooks.items()):
        if which(getattr(hook, "hook", hook)):
            del module._load_state_dict_pre_hooks[number]


def _modernize(module: nn.Module, key: str) -> None:
    """Weight norm or spectral norm by hook becomes the parametrization of the same name and numbers."""
    hook = norm_hooks(module).get(key)
    if isinstance(hook, WeightNorm):
        parts = module._parameters[f"{key}_g"], module._parameters[f"{key}_v"]
        remove_weight_norm(module, key)
        modern.weight_norm(module, key, hook.dim)
        computed = parametrizations_of(module, key)
        computed.original0, computed.original1 = parts
    elif isinstance(hook, SpectralNorm):
        original, u = module._parameters[f"{key}_orig"], module._buffers[f"{key}_u"]
        v = module._buffers[f"{key}_v"]
        remove_spectral_norm(module, key)
        _forget(module, lambda left: isinstance(left, SpectralNormLoadStateDictPreHook) and left.fn is hook)
        with torch.random.fork_rng():
            modern.spectral_norm(module, key, hook.n_power_iterations, hook.eps, hook.dim)
        computed = parametrizations_of(module, key)
        computed.original, computed[0]._u, computed[0]._v = original, u, v


def import_hooks(model: nn.Module) -> nn.Module:
    """Turn masks of `torch.nn.utils.prune` into `Mask`s, in place; returns the model."""
    for path, module in model.named_modules():
        for key in pruning_hooks(module):
            mask = module._buffers[f"{key}_mask"]
            original = module._parameters[f"{key}_orig"]
            assert mask is not None and original is not None
            values = original.detach().clone()
            prune.remove(module, key)
            with torch.no_grad():
                original.copy_(values)
            add_mask(module, key, Mask(as_keep_mask(f"{path}.{key}_mask".removeprefix("."), mask)))
    return model


def fold_masks(model: nn.Module) -> nn.Module:
    """Fold masks, in place, into plain parameters, whatever lies below them too; returns the model."""
    for module in model.modules():
        for key in pruning_hooks(module):
            prune.remove(module, key)
    return _fold(model, lambda module, key: mask_of(module, key) is not None)


def fold_parametrizations(model: nn.Module, *, stored: bool = True) -> nn.Module:
    """Fold parametrizations and norms by hooks into plain parameters, in place; returns the model.

    With `stored` False, weights that are stored in another form than floats (parts with `stores`) stay so.
    """
    for module in model.modules():
        for key in list(norm_hooks(module)):
            _modernize(module, key)

    def chosen(module: nn.Module, key: str) -> bool:
        parts = parametrizations_of(module, key)
        return stored or not any(getattr(part, "stores", False) for part in parts)

    return _fold(model, chosen)


def _fold(model: nn.Module, which: Callable[[nn.Module, str], bool]) -> nn.Module:
    """Put what parametrizations compute in their place; parameters that are read alike stay one."""
    chosen = [(m, key) for m in model.modules() for key in _computed(m) if which(m, key)]
    if not chosen:
        return model
    readers: dict[int, set[tuple[int, ...]]] = {}
    for module in model.modules():
        held = {} if isinstance(module, parametrize.ParametrizationList) else module._parameters
        for tensor in (value for value in held.values() if value is not None):
            readers.setdefault(id(tensor), set()).add(())
        for key in _computed(module):
            parts = parametrizations_of(module, key)
            readers.setdefault(id(parts._parameters.get("original")), set()).add(tuple(map(id, parts)))
    done: dict[tuple[int, ...], tuple[Any, Tensor]] = {}
    for module, key in chosen:
        parts = parametrizations_of(module, key)
        original = parts._parameters.get("original", parts._buffers.get("original"))
        place = (id(parts if original is None else original), *map(id, parts))
        if place not in done:
            value = value_of(module, key)
            if original is None or len(readers.get(id(original), ())) > 1:  # others read it another way
                original = _parameter(value, parts)
            original.data = value
            done[place] = parts, original
        _take_off(module, key, done[place][1])
    return model


def _parameter(value: Tensor, parts: nn.Module) -> Tensor:
    """What parametrizations computed, as a parameter if any of their parts is one."""
    learned = [part for part in parts._parameters.values() if part is not None]
    if not learned:
        return value
    parameter = nn.Parameter(value, requires_grad=any(part.requires_grad for part in learned))
    if not any(part.is_floating_point() or part.is_complex() for part in learned):  # integers stand for it
        bits = sum(p.numel() * getattr(p, "element_bits", 8 * p.element_size()) for p in learned)
        parameter.element_bits = bits / max(value.numel(), 1)  # type: ignore[attr-defined]
    return parameter


def _take_off(module: nn.Module, key: str, tensor: Tensor) -> None:
    """Put a plain tensor in the place of a parametrized one."""
    _own_class(module)
    delattr(type(module), key)
    del module.parametrizations[key]  # type: ignore[operator,union-attr]
    if isinstance(tensor, nn.Parameter):
        module.register_parameter(key, tensor)
    else:
        module.register_buffer(key, tensor)
    if not _computed(module):
        del module.parametrizations
        module.__class__ = type(module).__bases__[0]
    _forget(module, lambda hook: isinstance(hook, HookNames) and hook.key == key)


def parametrize_all(model: nn.Module, module: nn.Module, key: str, parametrization: nn.Module) -> None:
    """Register a parametrization, in place, with every layer of the model that shares this parameter."""
    tensor = module._parameters[key]
    sharers = [
        (other, alias)
        for other in model.modules()
        for alias, held in other._parameters.items()
        if held is tensor and (other is not module or alias != key)
    ]
    parametrize.register_parametrization(module, key, parametrization)
    for other, alias in sharers:
        del other._parameters[alias]
        if not _computed(other):
            parametrize._inject_new_class(other)
            other.parametrizations = nn.ModuleDict()
        parametrize._inject_property(other, alias)
        other.parametrizations[alias] = parametrizations_of(module, key)  # type: ignore[operator,index]


def own_classes(model: nn.Module) -> nn.Module:
    """Give every parametrized module of a copy a class of its own, in place; returns the model.

    `copy.deepcopy` lets it share the original's, and what is folded in one would be gone in the other.
    """
    for module in model.modules():
        _own_class(module)
    return model


def _own_class(module: nn.Module) -> None:
    if _computed(module):
        module.__class__ = type(module).__bases__[0]
        parametrize._inject_new_class(module)
        for key in _computed(module):
            parametrize._inject_property(module, key)
