"""Which parameters are on a live path from input to output, for any graph and without tracing it.

A masked or zero weight stores nothing; a unit whose weights are all zero emits a constant, and a unit
whose output reaches nothing stores nothing (Vysogorets and Kempe 2021 call what is left effective
sparsity). Three passes over a copy of the network, in which every layer is cut from the next and its
weights are replaced by 0/1 masks:

1. forward: NaN enters; whatever depends on the data becomes NaN;
2. backward: each layer's output is replaced by random values, NaN enters as gradient at the output, and
   whatever the output depends on receives NaN;
3. forward: NaN leaves the units that were reached both ways; the NaN entering a layer are its live input.

NaN survives every multiplication and addition, so nothing overflows, underflows or cancels, at any depth
and for any sign, unlike a product of weights along paths (SynFlow, Tanaka et al. 2020).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from capacity.errors import InputError
from capacity.inputs import map_tensors, tensors_in
from capacity.layers import Layer, convolution, dense, normalization
from capacity.tracing import Layers, intercepted

ROUNDS = 4  # all positive, all negative, then random signs: a rectifier blocks no path in every round


@dataclass(frozen=True)
class Live:
    """Live parameters of a layer by name, and the live elements per sample that enter and leave it."""

    parameters: Mapping[str, int]
    entering_elements: int
    leaving_elements: int


@dataclass
class _State:
    """What the passes learn about one layer; the lists hold one tensor per call."""

    layer: Layer
    module: nn.Module
    masks: dict[str, Tensor] = field(default_factory=dict)  # non-zero parameters
    live: dict[str, Tensor] = field(default_factory=dict)  # those on a live path
    inputs: list[Tensor] = field(default_factory=list)  # input elements that depend on the data
    outputs: list[Tensor] = field(default_factory=list)  # output elements that do
    wanted: list[Tensor] = field(default_factory=list)  # output elements the network's output depends on
    carried: dict[int, Tensor] = field(default_factory=dict)  # what the last round sent to the input
    entering: int = 0
    leaving: int = 0

    @property
    def linear(self) -> bool:
        return self.layer.rule in (dense, convolution)

    def units(self, elements: Tensor) -> Tensor:
        """Elements of every unit (channel) that has at least one of the given elements."""
        channel = elements.dim() - 1 if self.layer.rule is dense else 1
        others = [axis for axis in range(elements.dim()) if axis != channel]
        return (elements.sum(others, keepdim=True) > 0 if others else elements).expand_as(elements)


def live_parts(real: nn.Module, layers: Layers, example: Any) -> dict[str, Live]:
    """The live part of each layer of `layers`; `real` is a copy of the model and is overwritten.

    Parameters
    ----------
    layers: as found on a copy on the meta device
    example: positional and keyword arguments for one forward pass

    Raises InputError for NaN parameters, naming the layer, and for a model on the meta device.
    """
    return {
        name: Live(
            {key: int(state.live[key].sum()) for key in layers[name][0].parameters},
            state.entering,
            state.leaving,
        )
        for name, state in _visited(real, layers, example).items()
    }


def live_elements(real: nn.Module, layers: Layers, example: Any) -> dict[tuple[str, str], Tensor]:
    """The live elements of each parameter, by layer and own name; else as `live_parts`."""
    return {
        (name, key): state.live[key]
        for name, state in _visited(real, layers, example).items()
        for key in layers[name][0].parameters
    }


def _visited(real: nn.Module, layers: Layers, example: Any) -> "dict[str, _State]":
    modules = dict(real.named_modules())
    paired: Layers = {name: (layer, modules[name]) for name, (layer, _) in layers.items()}
    if next(real.parameters()).device.type == "meta":
        raise InputError("effective=True reads the weights, but the model is on the meta device")
    with torch.no_grad():
        states = {name: _indicators(layer, module) for name, (layer, module) in paired.items()}
    _Passes(real, paired, states, example).run()
    return states


def _indicators(layer: Layer, module: nn.Module) -> _State:
    """Masks of the layer's non-zero parameters; linear and normalizing layers are set to them in place."""
    state = _State(layer, module)
    folded = layer.rule is normalization
    for key, parameter in module.named_parameters():
        if key not in layer.parameters and layer.container:
            continue
        if torch.isnan(parameter).any():
            raise InputError(f"layer {layer.name!r}: {key} holds NaN, so its live paths are undefined")
        mask = parameter != 0
        state.masks[key] = mask
        state.live[key] = mask if folded or layer.container else torch.zeros_like(mask)
        if state.linear or folded:
            parameter.copy_(mask if key == "weight" else torch.zeros_like(mask)).requires_grad_()
    if folded and getattr(module, "running_mean", None) is not None:
        module.running_mean.zero_()  # type: ignore[operator]
        module.running_var.fill_(1)  # type: ignore[operator]
    return state


class _Passes:
    """The three passes over one network."""

    def __init__(self, model: nn.Module, layers: Layers, states: Mapping[str, _State], inputs: Any) -> None:
        self.model, self.layers, self.states, self.inputs = model, layers, states, inputs
        self.generator = torch.Generator().manual_seed(0)
        self.round = 0

    def run(self) -> None:
        with torch.no_grad():
            self._pass(self._forward, _nan)
        for self.round in range(ROUNDS):
            with torch.enable_grad():
                output = self._pass(self._backward, self._random)
                ends = [tensor for tensor in tensors_in(output) if tensor.requires_grad]
                torch.autograd.backward(ends, [torch.full_like(end, torch.nan) for end in ends])
        with torch.no_grad():
            self._pass(self._count, _nan)

    def _pass(self, visit: Callable[..., Any], enter: Callable[[Tensor], Tensor]) -> Any:
        """One pass: `visit(state, number of the call, forward, args, kwargs)` in place of each layer."""
        calls = dict.fromkeys(self.layers, -1)

        def dispatch(layer: Layer, forward: Any, args: Any, kwargs: Any) -> Any:
            state = self.states[layer.name]
            if layer.container:
                return forward(*args, **kwargs)
            if layer.rule is normalization:
                return _switched_off(state, forward(*args, **kwargs))
            calls[layer.name] += 1
            return visit(state, calls[layer.name], forward, args, kwargs)

        with intercepted(self.layers, dispatch):
            args, kwargs = map_tensors(self.inputs, enter)
            return self.model(*args, **kwargs)

    def _forward(self, state: _State, call: int, forward: Any, args: Any, kwargs: Any) -> Any:
        """Pass 1: an output element is NaN where a non-zero weight leads to it from a NaN."""
        output, marked = self._marked(state, forward, args, kwargs)
        state.inputs.append(marked)
        state.outputs.append(torch.isnan(tensors_in(output)[0]))
        state.wanted.append(torch.zeros_like(state.outputs[-1]))
        return output

    def _count(self, state: _State, call: int, forward: Any, args: Any, kwargs: Any) -> Any:
        """Pass 3: only units reached both ways emit NaN; what enters and leaves is counted."""
        output, marked = self._marked(state, forward, args, kwargs)
        both = state.outputs[call] & state.wanted[call]
        kept = state.units(both) if state.linear else both.any().expand_as(both)
        state.entering += int(marked.sum())
        state.leaving += int((torch.isnan(tensors_in(output)[0]) & kept).sum())
        return map_tensors(output, lambda t: torch.where(kept, t, 0.0) if t.shape == kept.shape else t)

    def _marked(self, state: _State, forward: Any, args: Any, kwargs: Any) -> tuple[Any, Tensor]:
        """The layer's output with NaN wherever it depends on a NaN, and which input elements are NaN."""
        inputs = [tensor for tensor in tensors_in((args, kwargs)) if tensor.is_floating_point()]
        marked = [torch.isnan(tensor) for tensor in inputs]
        clean_args, clean_kwargs = map_tensors((args, kwargs), _indicator)
        output = forward(*clean_args, **clean_kwargs)
        if state.linear:
            return _nan_where(output > 0, output), marked[0]
        reached = not inputs or any(bool(m.any()) for m in marked)
        value = torch.nan if reached else 0.0
        filled = map_tensors(output, lambda t: torch.full_like(t, value) if t.is_floating_point() else t)
        return filled, torch.cat([m.flatten() for m in marked]) if marked else torch.zeros(0)

    def _random(self, tensor: Tensor) -> Tensor:
        """Values away from zero, of the sign this round asks for, that require a gradient."""
        if not tensor.is_floating_point():
            return tensor
        size = 1 + torch.rand(tensor.shape, generator=self.generator)
        if self.round == 1:
            size = -size
        elif self.round > 1:
            size *= torch.where(torch.rand(tensor.shape, generator=self.generator) < 0.5, -1.0, 1.0)
        return size.to(tensor.device, tensor.dtype).requires_grad_()

    def _backward(self, state: _State, call: int, forward: Any, args: Any, kwargs: Any) -> Any:
        """Pass 2: cut the layer from the next one, and carry NaN gradients over the cut by its masks."""
        with torch.no_grad():
            clean_args, clean_kwargs = map_tensors((args, kwargs), lambda t: t.detach())
            shaped = forward(*clean_args, **clean_kwargs)
        anchor = torch.zeros((), requires_grad=True)  # keeps the path alive behind integer inputs
        inputs = [tensor for tensor in tensors_in((args, kwargs)) if tensor.requires_grad]
        outputs = [tensor for tensor in tensors_in(shaped) if tensor.is_floating_point()]
        values = [self._random(tensor).detach() for tensor in outputs]

        def carry(gradients: tuple[Tensor | None, ...]) -> list[Tensor]:
            return _carry_back(state, call, forward, inputs, gradients)

        replaced = iter(_Cut.apply(carry, values, anchor, *inputs))
        return map_tensors(shaped, lambda t: next(replaced) if t.is_floating_point() else t)


class _Cut(torch.autograd.Function):
    """Emits given values, and hands the gradients that come back to `carry`."""

    @staticmethod
    def forward(ctx: Any, carry: Any, values: list[Tensor], anchor: Tensor, *inputs: Tensor) -> Any:
        ctx.carry = carry
        return tuple(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        return None, None, None, *ctx.carry(gradients)


def _carry_back(
    state: _State, call: int, forward: Any, inputs: list[Tensor], gradients: tuple[Tensor | None, ...]
) -> list[Tensor]:
    """From NaN at a layer's output to its live parameters and to NaN at its input."""
    reached = [torch.isnan(gradient) for gradient in gradients if gradient is not None]
    if not any(bool(elements.any()) for elements in reached):
        return [torch.zeros_like(tensor) for tensor in inputs]
    if not state.linear:
        state.wanted[call] |= True
        if bool(state.outputs[call].any()):
            state.live.update(state.masks)
        return [torch.full_like(tensor, torch.nan) for tensor in inputs]
    if call in state.carried and not bool((reached[0] & ~state.wanted[call]).any()):
        return [state.carried[call]]
    state.wanted[call] |= reached[0]
    both = state.wanted[call] & state.outputs[call]
    weight = state.module.weight
    assert isinstance(weight, Tensor)
    with torch.enable_grad():
        entering = state.inputs[call].to(weight.dtype).requires_grad_()
        output = forward(entering)
        towards = torch.autograd.grad(output, [entering, weight], both.to(weight.dtype))
    state.live["weight"] |= (towards[1] > 0) & state.masks["weight"]
    if "bias" in state.masks:
        channel = both.dim() - 1 if state.layer.rule is dense else 1
        units = both.any(dim=0).flatten() if both.dim() == 1 else both.transpose(0, channel).flatten(1).any(1)
        state.live["bias"] |= units & state.masks["bias"]
    state.carried[call] = _nan_where(towards[0] > 0, towards[0])
    return [state.carried[call]]


def _nan(tensor: Tensor) -> Tensor:
    return torch.full_like(tensor, torch.nan) if tensor.is_floating_point() else tensor


def _nan_where(condition: Tensor, like: Tensor) -> Tensor:
    return torch.zeros_like(like).masked_fill_(condition, torch.nan)


def _indicator(tensor: Tensor) -> Tensor:
    return torch.isnan(tensor).to(tensor.dtype) if tensor.is_floating_point() else tensor


def _switched_off(state: _State, output: Tensor) -> Tensor:
    """A normalizing layer's output, zero where its scale is zero."""
    scale = state.masks.get("weight")
    if scale is None or bool(scale.all()):
        return output
    if not isinstance(state.module, nn.LayerNorm | nn.RMSNorm):
        scale = scale.view(1, -1, *[1] * (output.dim() - 2))
    return torch.where(scale, output, 0.0)
