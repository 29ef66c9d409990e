"""A model's call as torch's exporter takes it: a free batch dimension, and outputs made of tensors."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from capacity.errors import InputError

LARGEST_BATCH = 65_536
_NOTHING = object()


def free_batch(
    model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
    """Arguments with twice the batch, and the sizes that stay free: the first of every tensor, also nested.

    An exporter that sees a batch of one takes the one for a constant.
    """
    twice = _pytree.tree_map_only(Tensor, lambda tensor: torch.cat([tensor, tensor]), (args, dict(kwargs)))
    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    shapes = torch.export.ShapesCollection()
    for tensor in _pytree.tree_leaves(twice):
        if isinstance(tensor, Tensor):
            shapes[tensor] = {0: batch}
    return *twice, shapes.dynamic_shapes(model, *twice)


@contextmanager
def tensors_only(model: nn.Module) -> Iterator[None]:
    """Inside, the model returns only what an exporter knows: no caches and no objects of other kinds.

    Dataclasses become dicts of their fields unless torch knows them, as it does outputs of transformers.
    Raises InputError for an output that holds no tensor at all.
    """

    def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
        known = _known(output)
        if not any(isinstance(leaf, Tensor) for leaf in _pytree.tree_leaves(known)):
            raise InputError(f"{type(model).__name__} returns {type(output).__name__}, which holds no tensor")
        return known

    handle = model.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _known(value: Any) -> Any:
    """The value without its unknown parts; _NOTHING where all of it is unknown."""
    if value is None or isinstance(value, Tensor | bool | int | float | str):
        return value
    if is_dataclass(value) and not isinstance(value, type | Mapping):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Mapping):
        items = _without_unknown(dict(value))
        registered = type(value) in _pytree.SUPPORTED_NODES and type(value) is not dict
        return type(value)(**items) if registered and is_dataclass(value) else items
    if isinstance(value, Sequence):
        parts = list(_without_unknown(dict(enumerate(value))).values())
        complete = hasattr(value, "_fields") and len(parts) == len(value)
        return type(value)(*parts) if complete else parts if isinstance(value, list) else tuple(parts)
    return _NOTHING


def _without_unknown(items: Mapping[Any, Any]) -> dict[Any, Any]:
    known = {key: _known(value) for key, value in items.items()}
    return {key: value for key, value in known.items() if value is not _NOTHING}
