"""What can be pruned: every matrix of a model, where its units lie, and what is left alone and why."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from capacity import checks
from capacity.errors import InputError, unknown
from capacity.inputs import require_python
from compression.dataflow import plain_name
from compression.masks import Masks, masked_value
from compression.outputs import OutputLayers, output_layers

T = TypeVar("T")
Unit = Literal["weight", "neuron"]
RECURRENT = (nn.RNNBase, nn.RNNCellBase)
EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
SEPARATE = ("q_proj_weight", "k_proj_weight", "v_proj_weight")


@dataclass(frozen=True)
class Place:
    """Where the units of a matrix lie: along which axis, in how many groups, and with which biases.

    `axis` is None where a row is no neuron of its own: gates of a recurrence, matrices of several experts.
    """

    axis: int | None
    groups: int = 1
    bias: str = ""
    bias_start: int = 0


@dataclass(frozen=True)
class Target:
    """A matrix to prune. `names` are the parameter's full ones, its own first, then those tied to it."""

    layer: str
    key: str
    module: nn.Module
    place: Place
    names: tuple[str, ...]
    shape: torch.Size
    known: bool  # a kind of layer that is known to multiply with it
    biases: tuple[tuple[str, torch.Size], ...] = ()  # full names and shapes, of tied layers too

    @property
    def name(self) -> str:
        """The layer's name, or the parameter's full one where it is no layer's `weight`."""
        return self.layer if self.key == "weight" else self.names[0]

    @property
    def elements(self) -> int:
        return self.shape.numel()

    @property
    def units(self) -> int:
        """How many neurons or channels its rows are."""
        return int(self.shape[0] if self.place.axis == 0 else self.shape[1] * self.place.groups)

    def among(self, wanted: Mapping[str, T]) -> T:
        """What is asked for it, by any of its names or its layers'; one of them must be there."""
        names = {self.name, self.layer, *self.names, *(name.rpartition(".")[0] for name in self.names)}
        return next(value for name, value in wanted.items() if name in names)

    def value(self) -> Tensor:
        """The matrix with its mask applied."""
        return masked_value(self.module, self.key)

    def mask(self, masks: Masks) -> Tensor | None:
        """Its mask among masks by name, whichever of its names they use."""
        return next((masks[name] for name in self.names if name in masks), None)

    def by_unit(self, tensor: Tensor) -> Tensor:
        """A tensor of the matrix's shape as (units, weights of each)."""
        if self.place.axis == 0:
            return tensor.flatten(1)
        parts = torch.unflatten(tensor, 0, (self.place.groups, -1)).transpose(1, 2)  # groups, units, inputs
        return parts.flatten(0, 1).flatten(1)

    def spread(self, units: Tensor) -> Tensor:
        """A value of each unit, repeated over its weights; in the matrix's shape."""
        shape = self.shape
        if self.place.axis == 0:
            return units.view(-1, *[1] * (len(shape) - 1)).expand(shape)
        grouped = units.view(self.place.groups, 1, -1, *[1] * (len(shape) - 2))
        return grouped.expand(self.place.groups, shape[0] // self.place.groups, *shape[1:]).reshape(shape)


@dataclass(frozen=True)
class Choice:
    """What to prune by name, and every other matrix with the reason why it is left."""

    chosen: Mapping[str, Target]
    left: Mapping[str, tuple[Target, str]]


def joined(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def distinct_parameters(model: nn.Module) -> dict[tuple[str, ...], nn.Parameter]:
    """Every parameter once, under all its names."""
    names: dict[int, dict[str, None]] = {}
    tensors = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if isinstance(parameter, nn.UninitializedParameter):
            raise InputError(f"parameter {name!r} is not initialized; run the model once on real data")
        names.setdefault(id(parameter), {})[plain_name(model, name)] = None
        tensors[id(parameter)] = parameter
    parameters: dict[tuple[str, ...], nn.Parameter] = {}
    for key, several in names.items():
        parameters.setdefault(tuple(several), tensors[key])  # of two parts of one weight, the first
    return parameters


def targets(model: nn.Module) -> dict[str, Target]:
    """Every matrix of floating-point numbers that is a parameter, tied ones once, by name."""
    require_python(model)
    targets_ = {}
    for names in distinct_parameters(model):
        layer, _, key = names[0].rpartition(".")
        module = model.get_submodule(layer)
        held = module._parameters.get(key)
        tensor = masked_value(module, key) if held is None else held
        if tensor.dim() > 1 and tensor.is_floating_point():
            place = _place(module, key)
            target = Target(
                layer, key, module, place or Place(None), names, tensor.shape, place is not None,
                _biases(model, names, place.bias if place else ""),
            )  # fmt: skip
            targets_[target.name] = target
    return targets_


def _biases(model: nn.Module, names: Iterable[str], key: str) -> tuple[tuple[str, torch.Size], ...]:
    """The biases of the layers that a matrix belongs to."""
    owners = [name.rpartition(".")[0] for name in names] if key else []
    biases = {owner: getattr(model.get_submodule(owner), key, None) for owner in owners}
    return tuple((joined(owner, key), bias.shape) for owner, bias in biases.items() if bias is not None)


def _place(module: nn.Module, key: str) -> Place | None:
    """Where the units of a known layer's matrix lie; None for any other parameter."""
    if isinstance(module, RECURRENT) and key.startswith("weight_"):
        return Place(None)
    if isinstance(module, nn.MultiheadAttention):
        if key == "in_proj_weight":
            return Place(0, bias="in_proj_bias")
        if key in SEPARATE:
            return Place(0, bias="in_proj_bias", bias_start=SEPARATE.index(key) * module.embed_dim)
    if key != "weight":
        return None
    if isinstance(module, nn.modules.conv._ConvTransposeNd):
        return Place(1, module.groups, "bias")
    if isinstance(module, nn.Linear | nn.modules.conv._ConvNd | nn.Bilinear):
        return Place(0, bias="bias")
    if isinstance(module, EMBEDDINGS):
        return Place(1)
    return Place(1, bias="bias") if is_transposed(module) else None


def is_transposed(module: nn.Module) -> bool:
    """Whether it is the library transformers' dense layer, whose weight is inputs by outputs."""
    return any(kind.__name__ == "Conv1D" for kind in type(module).__mro__) and hasattr(module, "nf")


def choose(
    model: nn.Module, layers: Iterable[str] | None, *, unit: Unit = "weight", input_size: Any = None
) -> Choice:
    """The targets named, or by default every one but outputs, embeddings and what multiplies nothing.

    A layer's name stands for all its matrices. A matrix tied to an output layer's or an embedding's is
    treated as that. Raises InputError for unknown names, with the nearest match, and for a named layer
    that has no units of the kind.
    """
    every = targets(model)
    if layers is not None:
        layers = checks.names("layers", layers)
        chosen = {t.name: t for name in layers for t in named(every, name, unit=unit)}
        left = {name: (t, "not among the layers named") for name, t in every.items() if name not in chosen}
        return Choice(chosen, left)
    outputs = output_layers(model, input_size)
    reasons = {name: _reason(model, target, outputs, unit) for name, target in every.items()}
    return Choice(
        {name: target for name, target in every.items() if not reasons[name]},
        {name: (every[name], reason) for name, reason in reasons.items() if reason},
    )


def prunable(
    model: nn.Module, layers: Iterable[str] | None, *, unit: Unit = "weight", input_size: Any = None
) -> dict[str, Target]:
    """The matrices to prune, by name; see `choose`."""
    return dict(choose(model, layers, unit=unit, input_size=input_size).chosen)


def named(every: Mapping[str, Target], name: str, *, unit: Unit) -> list[Target]:
    """All targets of a layer's or a parameter's name; raises InputError if there are none."""
    chosen = [
        target
        for target in every.values()
        if name == target.layer or any(name in (alias, alias.rpartition(".")[0]) for alias in target.names)
    ]
    if not chosen:
        raise unknown("layer to prune", name, every)
    if unit == "neuron" and (stiff := [target for target in chosen if target.place.axis is None]):
        raise InputError(
            f"layer {name!r}: the rows of {stiff[0].names[0]!r} are not neurons of their own, which could "
            f"be masked one by one; prune its weights (unit='weight')"
        )
    return chosen


def _reason(model: nn.Module, target: Target, outputs: OutputLayers, unit: Unit) -> str:
    """Why a target is left alone by default; empty if it is not."""
    owners = [name.rpartition(".")[0] for name in target.names]
    if any(_is_output(model, name, outputs) for name in target.names):
        tied = "" if _is_output(model, target.names[0], outputs) else "it is tied to an output layer: "
        guess = "" if outputs.by_dataflow else f", by {outputs.evidence}: pass input_size to know"
        return f"{tied}its units are the model's outputs{guess}"
    if any(isinstance(model.get_submodule(owner), EMBEDDINGS) for owner in owners):
        return "an embedding, which is pruned if it is named"
    if not target.known:
        kind = type(target.module).__name__
        if outputs.multiplied is None:
            return f"how {kind} uses it is not known: pass input_size, or name it"
        if not outputs.multiplied & set(target.names):
            return "it multiplies nothing that comes from the input"
    if unit == "neuron" and target.place.axis is None:
        return "its rows are not neurons of their own; unit='weight' prunes it"
    return ""


def _is_output(model: nn.Module, name: str, outputs: OutputLayers) -> bool:
    layer = name.rpartition(".")[0]
    if outputs.by_dataflow and not isinstance(model.get_submodule(layer), RECURRENT):
        return name in outputs.parameters
    return layer in outputs.names
