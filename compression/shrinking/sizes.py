"""Whole numbers that modules keep beside their weights, and what they become when dimensions shrink.

`SIZES` is the table of torch's own layers: which attribute says how long a dimension of a parameter is.
Attributes of other modules (numbers of heads, widths of splits) are candidates where they fit the widths that
change; whether one is right is found by a rehearsal.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from torch import Tensor, nn

from compression.shrinking.emission import Axis

MARK = "shrunk_sizes"  # names of attributes that shrinking changed in a module of another kind
SIZES: tuple[tuple[type, str, int, tuple[str, ...]], ...] = (
    (nn.Linear, "weight", 0, ("out_features",)),
    (nn.Linear, "weight", 1, ("in_features",)),
    (nn.modules.conv._ConvTransposeNd, "weight", 0, ("in_channels",)),
    (nn.modules.conv._ConvTransposeNd, "weight", 1, ("out_channels",)),
    (nn.modules.conv._ConvNd, "weight", 0, ("out_channels",)),
    (nn.modules.conv._ConvNd, "weight", 1, ("in_channels",)),
    (nn.modules.batchnorm._NormBase, "weight", 0, ("num_features",)),
    (nn.modules.batchnorm._NormBase, "running_mean", 0, ("num_features",)),
    (nn.GroupNorm, "weight", 0, ("num_channels",)),
    (nn.PReLU, "weight", 0, ("num_parameters",)),
    (nn.Embedding, "weight", 1, ("embedding_dim",)),
    (nn.EmbeddingBag, "weight", 1, ("embedding_dim",)),
    (nn.RNNBase, "weight_hh_l0", 1, ("hidden_size",)),
    (nn.RNNBase, "weight_ih_l0", 1, ("input_size",)),
    (nn.RNNCellBase, "weight_hh", 1, ("hidden_size",)),
    (nn.RNNCellBase, "weight_ih", 1, ("input_size",)),
)
KNOWN = (*{kind for kind, *_ in SIZES}, nn.LayerNorm)
DEPTHWISE = ("in_channels", "out_channels", "groups")
TRIES = 40


@dataclass(frozen=True)
class Change:
    """An attribute of a module, and the number or numbers it becomes."""

    module: str
    attribute: str
    value: Any


def known_changes(model: nn.Module, lengths: Mapping[Axis, tuple[int, int]]) -> list[Change]:
    """What the table says of dimensions that go from one length to another, in each layer that holds them."""
    changes = []
    tensors = dict(_named(model))
    for axis, (_, after) in lengths.items():
        for path in (path for path, tensor in tensors.items() if tensor is tensors[axis.name]):
            name, _, own = path.rpartition(".")
            module = model.get_submodule(name)
            changes += [Change(name, key, after) for key in _attributes(module, own, axis.dimension)]
            if isinstance(module, nn.LayerNorm):
                shape = (*module.normalized_shape[:-1], after)
                changes.append(Change(name, "normalized_shape", shape))
    return changes


def _named(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers by all their names."""
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def _attributes(module: nn.Module, own: str, dimension: int) -> tuple[str, ...]:
    if isinstance(module, nn.modules.conv._ConvNd) and own == "weight" and module.groups > 1:
        return DEPTHWISE if dimension == 0 else ()
    for kind, parameter, place, keys in SIZES:
        if isinstance(module, kind) and (own, dimension) == (parameter, place):
            return keys
    return ()


def candidates(
    model: nn.Module, lengths: Mapping[Axis, tuple[int, int]], units: tuple[int, int]
) -> dict[str, list[Change]]:
    """Attributes of the modules around that would fit, by name: equal to a length, or multiples of units.

    `lengths` are those of the dimensions before and after, `units` the number of components.
    """
    changes: dict[str, list[Change]] = {}
    for name in _around(model, [axis.name.rpartition(".")[0] for axis in lengths]):
        module = model.get_submodule(name)
        for key, value in vars(module).items():
            if key.startswith("_") or (isinstance(module, KNOWN) and key != "num_groups"):
                continue
            new = _scaled(value, lengths, units)
            if new != value:
                changes.setdefault(key, []).append(Change(name, key, new))
    return changes


def _scaled(value: Any, lengths: Mapping[Axis, tuple[int, int]], units: tuple[int, int]) -> Any:
    if type(value) in (list, tuple) and value and all(type(n) is int for n in value):
        return type(value)(_scaled(n, lengths, units) for n in value)
    if type(value) is not int or value < 1:
        return value
    for before, after in lengths.values():
        if value == before:
            return after
    before, after = units
    fits = value % before == 0 and any(length % value == 0 for length, _ in lengths.values())
    return value // before * after if fits else value


def _around(model: nn.Module, owners: Sequence[str]) -> Iterator[str]:
    """The owners of parameters and what holds them, up to the first module that holds all."""
    parts = [name.split(".") if name else [] for name in owners]
    shared = 0
    while all(len(p) > shared and p[shared] == parts[0][shared] for p in parts):
        shared += 1
    shared = min(shared, *(max(len(p) - 1, 0) for p in parts))
    names: dict[str, None] = {}
    for part in parts:
        for depth in range(len(part), shared - 1, -1):
            names[".".join(part[:depth])] = None
    yield from names


def subsets(changes: Mapping[str, list[Change]], first: Sequence[str]) -> Iterator[list[Change]]:
    """Choices of attributes to try, few at a time: none, what helped before, one, two, all."""
    keys = sorted(changes, key=lambda key: not ("head" in key or "group" in key or "split" in key))
    tried: list[tuple[str, ...]] = [(), tuple(key for key in first if key in changes)]
    tried += (
        [(key,) for key in keys] + list(combinations(keys, 2)) + [tuple(keys)] + list(combinations(keys, 3))
    )
    for choice in list(dict.fromkeys(tried))[:TRIES]:
        yield [change for key in choice for change in changes[key]]
