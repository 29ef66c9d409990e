"""What is known about one layer while its live part is looked for, and its weights as 0/1 masks."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from capacity.errors import InputError
from capacity.inputs import tensors_in
from capacity.layers import Layer
from capacity.tracing import Layers

ROUTING = "the way through the model depends on the data"


class Undecided(RuntimeError):
    """Passes cannot say what lives, for the reason given."""


@dataclass
class State:
    """What the passes learn about one layer; the lists hold one tensor per call.

    A layer is `plain` if it is torch's own dense layer or convolution: each weight leads from input elements
    to one output unit and does nothing else. Others are alive as a whole or not at all. Plain and torch's own
    normalizing layers can be `masked`: run on masks in place of their weights.
    """

    layer: Layer
    module: nn.Module
    masks: dict[str, Tensor] = field(default_factory=dict)  # non-zero parameters
    live: dict[str, Tensor] = field(default_factory=dict)  # those on a live path
    inputs: list[Tensor] = field(default_factory=list)  # input elements that depend on the data
    outputs: list[Tensor] = field(default_factory=list)  # output elements that do
    wanted: list[Tensor] = field(default_factory=list)  # output elements the network's output depends on
    carried: dict[int, Tensor] = field(default_factory=dict)  # what the last round sent to the input
    seen_entering: list[Tensor] = field(default_factory=list)  # by real passes: varies and is wanted
    seen_leaving: list[Tensor] = field(default_factory=list)  # by real passes: varies
    live_inputs: list[Tensor] = field(default_factory=list)  # input elements from units reached both ways
    leaving: int = 0

    def __post_init__(self) -> None:
        own = getattr(type(self.module), "forward", None)
        listed = [base for base in type(self.module).__mro__ if base.__module__.startswith("torch.nn.")]
        patched = "forward" in self.module.__dict__
        self.torchs_own = bool(listed) and own is vars(listed[0]).get("forward", own) and not patched
        self.folded = self.torchs_own and self.layer.rule.elementwise and not self.layer.counted
        linear = self.torchs_own and self.layer.rule.elementwise and self.layer.counted
        self.plain = linear and "weight" in self.module._parameters
        self.masked = self.plain or self.folded

    @property
    def all_wanted(self) -> bool:
        """Whether every output element that depends on the data is wanted already."""
        pairs = zip(self.outputs, self.wanted, strict=True)
        return all(bool((wanted | ~marked).all()) for marked, wanted in pairs)

    def axis(self, elements: Tensor) -> int:
        """The axis of units (channels) in an output."""
        weight = self.module.weight
        assert isinstance(weight, Tensor)
        return elements.dim() - weight.dim() + 1

    def units(self, elements: Tensor) -> Tensor:
        """Elements of every unit (channel) that has at least one of the given elements."""
        channel = self.axis(elements)
        others = [axis for axis in range(elements.dim()) if axis != channel]
        return (elements.sum(others, keepdim=True) > 0 if others else elements).expand_as(elements)

    def any_in_unit(self, elements: Tensor) -> Tensor:
        """Per unit, whether it has at least one of the given elements."""
        return (
            elements.transpose(0, self.axis(elements)).flatten(1).any(1) if elements.dim() > 1 else elements
        )

    def ways(self, forward: Any, entering: Tensor, leaving: Tensor) -> tuple[Tensor, Tensor]:
        """Positive where a weight lies between the input and output elements given: at inputs, at weights."""
        weight = self.module.weight
        assert isinstance(weight, Tensor)
        with torch.enable_grad():
            entering = entering.to(weight.dtype).requires_grad_()
            output = forward(entering)
            towards = torch.autograd.grad(output, [entering, weight], leaving.to(weight.dtype))
        return towards[0], towards[1]


@dataclass
class Held:
    """The numbers of a network, kept while masks stand in their place."""

    parameters: dict[int, tuple[nn.Parameter, Tensor]] = field(default_factory=dict)
    buffers: list[tuple[nn.Module, str, Tensor]] = field(default_factory=list)

    def put_back(self) -> None:
        """The network as it was."""
        for parameter, values in self.parameters.values():
            parameter.data = values
        for module, key, values in self.buffers:
            module._buffers[key] = values

    def masks_again(self, states: Mapping[str, State]) -> None:
        """Masks in place of the numbers, as after `masked`."""
        for state in states.values():
            if state.masked:
                _set(state, state.masks)
        for module, key, values in self.buffers:
            module._buffers[key] = torch.full_like(values, 0.0 if key == "running_mean" else 1.0)


def masked(layers: Layers) -> tuple[dict[str, State], Held]:
    """A state for each layer; plain and normalizing layers hold masks of their non-zero weights from now on.

    Raises InputError for NaN parameters, naming the layer.
    """
    states, held, masks = {}, Held(), dict[int, Tensor]()
    for name, (layer, module) in layers.items():
        state = states[name] = State(layer, module)
        passed_on = layer.container or not layer.counted
        for key, parameter in module.named_parameters(recurse=not layer.container):
            if id(parameter) not in masks:
                masks[id(parameter)] = require_numbers(name, key, parameter).detach() != 0
            mask = masks[id(parameter)]
            state.masks[key] = mask
            state.live[key] = mask.clone() if passed_on else torch.zeros_like(mask)
            if state.masked:
                held.parameters.setdefault(id(parameter), (parameter, parameter.data))
                parameter.requires_grad_()
        if state.folded:
            named = ((key, module._buffers.get(key)) for key in ("running_mean", "running_var"))
            held.buffers.extend((module, key, buffer) for key, buffer in named if buffer is not None)
    held.masks_again(states)
    return states, held


def require_numbers(layer: str, key: str, parameter: Tensor) -> Tensor:
    """The parameter itself; raises InputError, naming it, if it holds NaN."""
    if parameter.is_floating_point() and bool(torch.isnan(parameter).any()):
        raise InputError(f"layer {layer!r}: {key} holds NaN, so its live paths are undefined")
    return parameter


def _set(state: State, masks: Mapping[str, Tensor]) -> None:
    """Masks as a layer's weights, and its bias zero."""
    for key, parameter in state.module.named_parameters():
        mask = masks[key] if key == "weight" else torch.zeros_like(masks[key])
        parameter.data = mask.to(parameter.dtype)


@contextmanager
def as_masks(state: State, masks: Mapping[str, Tensor]) -> Iterator[None]:
    """Within it, a plain layer's weight is the mask given and its bias zero; others are as they were."""
    held = [(parameter, parameter.data) for parameter in state.module.parameters()]
    if state.plain:
        _set(state, masks)
    try:
        yield
    finally:
        for parameter, values in held:
            parameter.data = values


def dead(state: State) -> bool:
    """Whether any parameter that is not zero is on no live path so far."""
    return any(bool((state.masks[key] & ~state.live[key]).any()) for key in state.masks)


def share_life(states: Mapping[str, State]) -> None:
    """Let a tied parameter be live in each of its layers where it is live in one."""
    alive: dict[int, Tensor] = {}
    places = [
        (state, key, id(parameter))
        for state in states.values()
        for key, parameter in state.module.named_parameters()
        if key in state.live
    ]
    for state, key, place in places:
        alive[place] = alive[place] | state.live[key] if place in alive else state.live[key]
    for state, key, place in places:
        state.live[key] = alive[place]


def floats_in(value: Any) -> list[Tensor]:
    """The tensors of floats in a value."""
    return [tensor for tensor in tensors_in(value) if tensor.is_floating_point()]


def emitted(output: Any) -> Tensor:
    """The tensor that stands for a layer's output."""
    return next(iter(floats_in(output)), torch.zeros(0))


def entering(state: State, args: Any, kwargs: Any) -> list[Tensor]:
    """The input tensors of a layer that are looked at: of plain ones the first."""
    return floats_in((args, kwargs))[:1] if state.plain else floats_in((args, kwargs))


def like(seen: Tensor | None, marked: Tensor) -> Tensor:
    """Marks in the shape of others; raises Undecided where the passes found other shapes."""
    if seen is None:
        return torch.zeros_like(marked)
    if seen.shape == marked.shape:
        return seen
    if seen.numel() == marked.numel():
        return seen.reshape(marked.shape)
    raise Undecided("shapes inside the model depend on the data")
