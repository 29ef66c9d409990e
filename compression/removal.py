"""Which units a shrunk network lost, and the network that it must equal: the whole one with those units cut.

What a consumer (a dense layer, a convolution) would have read of a removed unit is zero; a normalization
computes over the units that are left. On a difference the layers that made it are found group by group.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from compression.verification import Arguments, outputs, relative_difference

WIDTHS = ("in_features", "in_channels", "input_size", "num_features", "num_channels", "num_parameters")
CONSUMERS = (nn.Linear, nn.modules.conv._ConvNd, nn.RNNBase, nn.Bilinear)


@dataclass
class Removals:
    """Places removed so far, by module and side, as they were numbered in the whole network."""

    entering: dict[str, list[int]] = field(default_factory=dict)  # of consumers
    normalized: dict[str, list[int]] = field(default_factory=dict)  # of modules with a number per channel
    left: dict[tuple[str, bool], Tensor] = field(default_factory=dict)

    def note(self, graph: Any, group: Any, names: dict[nn.Module, str]) -> list[str]:
        """Note a group that is about to be removed; the names of its layers."""
        layers = []
        for dependency, places in group:
            module = dependency.target.module
            name = names.get(module)
            if name is None or not isinstance(module, nn.Module):
                continue
            consumer = isinstance(module, CONSUMERS)
            leaving = graph.is_out_channel_pruning_fn(dependency.handler)
            if consumer and leaving:
                layers.append(name)
            elif consumer:
                self._add(self.entering, name, places, module)
            elif any(True for _ in module.parameters(recurse=False)):
                self._add(self.normalized, name, places, module)
        return layers

    def _add(self, kind: dict[str, list[int]], name: str, places: Sequence[int], module: nn.Module) -> None:
        key = (name, kind is self.entering)
        here = self.left.setdefault(key, torch.arange(_width(module)))
        chosen = torch.tensor(sorted({place for place in places if place < len(here)}), dtype=torch.long)
        kind.setdefault(name, []).extend(here[chosen].tolist())
        stays = torch.ones(len(here), dtype=torch.bool)
        stays[chosen] = False
        self.left[key] = here[stays]


def _width(module: nn.Module) -> int:
    """Numbers that enter a consumer for each sample or position; channels of a normalization."""
    for name in (
        "in_features",
        "in_channels",
        "input_size",
        "num_features",
        "num_channels",
        "num_parameters",
    ):
        if isinstance(getattr(module, name, None), int):
            return int(getattr(module, name))
    weight = next(module.parameters(recurse=False))
    return int(weight.shape[-1])


def cut_network(whole: nn.Module, shrunk: nn.Module, removals: Removals) -> list[Any]:
    """Make `whole`, in place, ignore what was removed from `shrunk`; returns handles that undo it."""
    handles: list[Any] = []
    for name, places in removals.entering.items():
        module = whole.get_submodule(name)
        dimension = 1 if isinstance(module, nn.modules.conv._ConvNd) else -1
        handles.append(module.register_forward_pre_hook(_zero(torch.tensor(places), dimension)))
    for name in removals.normalized:
        module, smaller = whole.get_submodule(name), shrunk.get_submodule(name)
        kept = removals.left[(name, False)]
        last = isinstance(module, nn.LayerNorm) or type(module).__name__.endswith("RMSNorm")
        handles.append(module.register_forward_hook(_only(kept, smaller, -1 if last else 1)))
    return handles


def _zero(places: Tensor, dimension: int) -> Callable[..., Any]:
    def hook(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        first = inputs[0].index_fill(dimension, places.to(inputs[0].device), 0.0)
        return (first, *inputs[1:])

    return hook


def _only(kept: Tensor, smaller: nn.Module, dimension: int) -> Callable[..., Any]:
    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        index = kept.to(output.device)
        part = smaller(inputs[0].index_select(dimension, index))
        return torch.zeros_like(output).index_copy(dimension, index, part)

    return hook


def cut_difference(
    whole: nn.Module, shrunk: nn.Module, removals: Removals, inputs: Sequence[Arguments]
) -> float:
    """How far the shrunk network's outputs lie from those of the whole one with the same units cut."""
    handles = cut_network(whole, shrunk, removals)
    try:
        return relative_difference(outputs(whole, inputs), outputs(shrunk, inputs))
    finally:
        for handle in handles:
            handle.remove()
