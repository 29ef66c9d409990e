"""Three passes that mark, with NaN, what depends on the data and what the output depends on.

In a copy of the network every layer is cut from the next and its weights are replaced by 0/1 masks:

1. forward: NaN enters; whatever depends on the data becomes NaN;
2. backward: each layer's output is replaced by random values, NaN enters as gradient at the output, and
   whatever the output depends on receives NaN;
3. forward: NaN leaves the units that were reached both ways; the NaN entering a layer are its live input.

NaN survives every multiplication and addition, so nothing overflows, underflows or cancels, at any depth
and for any sign, unlike a product of weights along paths (SynFlow, Tanaka et al. 2020). Operations that
swallow it are seen to by `capacity.structure`.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from capacity.constants import constant_inputs, filled
from capacity.inputs import map_tensors, tensors_in
from capacity.kernels import gradients_in_evaluation
from capacity.states import ROUTING, State, Undecided, emitted, entering, floats_in
from capacity.structure import Structure
from capacity.tracing import Layers, intercepted

ROUNDS = 4  # all positive, all negative, then random signs: a rectifier blocks no path in every round


class Passes:
    """The three passes over one network, whose layers hold masks in place of weights (`states.masked`)."""

    def __init__(
        self, model: torch.nn.Module, layers: Layers, states: Mapping[str, State], inputs: Any
    ) -> None:
        self.model, self.layers, self.states, self.inputs = model, layers, states, inputs
        self.constants = constant_inputs(model, layers, states, inputs)
        self.generator = torch.Generator().manual_seed(0)
        self.round = 0
        self.structure = Structure(model)
        self.swallowed = False  # whether marks went into integers, and so may be lost

    def forward(self) -> None:
        """Pass 1."""
        with torch.no_grad():
            self._pass(self._forward, filled)
        self.swallowed = bool(self.structure.ends)

    def backward(self) -> None:
        """Pass 2, in rounds until all that depends on the data is wanted."""
        for self.round in range(ROUNDS):
            with torch.enable_grad(), gradients_in_evaluation(self.model):
                output = self._pass(self._backward, self._random)
                ends = [end for end in (*tensors_in(output), *self.structure.ends) if end.requires_grad]
                if ends:
                    torch.autograd.backward(ends, [torch.full_like(end, torch.nan) for end in ends])
            if all(state.all_wanted for state in self.states.values()):
                break

    def count(self) -> None:
        """Pass 3."""
        with torch.no_grad():
            self._pass(self._count, filled)

    def _pass(self, visit: Callable[..., Any], enter: Callable[[Tensor], Tensor]) -> Any:
        """One pass: `visit(state, number of the call, forward, args, kwargs)` in place of each layer.

        Raises Undecided if it goes another way through the network than the first.
        """
        calls = dict.fromkeys(self.layers, 0)

        def dispatch(layer: Any, forward: Any, args: Any, kwargs: Any) -> Any:
            state = self.states[layer.name]
            if layer.container:
                return self._contained(state, visit, forward, args, kwargs)
            if not layer.counted:
                return _switched_off(state, forward(*args, **kwargs))
            calls[layer.name] += 1
            return visit(state, calls[layer.name] - 1, forward, args, kwargs)

        self.structure = Structure(self.model)
        with intercepted(self.layers, dispatch), self.structure:
            args, kwargs = map_tensors(self.inputs, enter)
            output = self.model(*args, **kwargs)
        if any(calls[name] != len(state.inputs) for name, state in self.states.items()):
            raise Undecided(ROUTING)
        return output

    def _forward(self, state: State, call: int, forward: Any, args: Any, kwargs: Any) -> Any:
        """Pass 1: an output element is NaN where a non-zero weight leads to it from a NaN."""
        output, marked = self._marked(state, call, forward, args, kwargs)
        state.inputs.append(marked)
        state.outputs.append(torch.isnan(emitted(output)))
        state.wanted.append(torch.zeros_like(state.outputs[-1]))
        return output

    def _count(self, state: State, call: int, forward: Any, args: Any, kwargs: Any) -> Any:
        """Pass 3: only units reached both ways emit NaN; what enters and leaves is counted."""
        output, marked = self._marked(state, call, forward, args, kwargs)
        both = state.outputs[call] & state.wanted[call]
        alive = state.units(both) if state.plain else both.any().expand_as(both)
        if call < len(state.seen_entering):
            marked = marked | state.seen_entering[call]
        leaving = torch.isnan(emitted(output))
        if call < len(state.seen_leaving):
            leaving = leaving | state.seen_leaving[call]
        state.live_inputs.append(marked)
        state.leaving += int((leaving & alive).sum())
        values = torch.where(leaving & alive, torch.nan, 0.0)

        def emit(tensor: Tensor) -> Tensor:
            return (
                values.to(tensor.dtype)
                if tensor.shape == alive.shape and tensor.is_floating_point()
                else tensor
            )

        return map_tensors(output, emit)

    def _contained(self, state: State, visit: Any, forward: Any, args: Any, kwargs: Any) -> Any:
        """A module with layers of its own below it, which do the passing; what it sees is counted."""
        if visit == self._count:
            state.live_inputs += [torch.isnan(tensor) for tensor in floats_in((args, kwargs))]
        output = forward(*args, **kwargs)
        if visit == self._count:
            state.leaving += sum(int(torch.isnan(tensor).sum()) for tensor in floats_in(output))
        return output

    def _marked(self, state: State, call: int, forward: Any, args: Any, kwargs: Any) -> tuple[Any, Tensor]:
        """The layer's output with NaN wherever it depends on data, and which input elements are data."""
        own = self.constants.get((state.layer.name, call), ())
        for tensor, constant in zip(entering(state, args, kwargs), own, strict=False):
            if tensor.shape == constant.shape and bool(constant.any()):
                args, kwargs = map_tensors((args, kwargs), partial(_filled, tensor, constant))
        inputs = entering(state, args, kwargs)
        marked = [torch.isnan(tensor) for tensor in inputs]
        clean_args, clean_kwargs = map_tensors((args, kwargs), _indicator)
        output = forward(*clean_args, **clean_kwargs)
        if state.plain:
            return _nan_where(output > 0, output), marked[0]
        reached = not inputs or any(bool(m.any()) for m in marked)
        value = torch.nan if reached else 0.0
        filled = map_tensors(output, lambda t: torch.full_like(t, value) if t.is_floating_point() else t)
        return filled, torch.cat([m.flatten() for m in marked]) if marked else torch.zeros(
            0, dtype=torch.bool
        )

    def _random(self, tensor: Tensor) -> Tensor:
        """Values away from zero, of the sign this round asks for, that require a gradient but are no leaf."""
        if not tensor.is_floating_point():
            return tensor
        return self._values(tensor) * torch.ones(
            (), device=tensor.device, dtype=tensor.dtype, requires_grad=True
        )

    def _values(self, tensor: Tensor) -> Tensor:
        size = 1 + torch.rand(tensor.shape, generator=self.generator)
        if self.round == 1:
            size = -size
        elif self.round > 1:
            size *= torch.where(torch.rand(tensor.shape, generator=self.generator) < 0.5, -1.0, 1.0)
        return size.to(tensor.device, tensor.dtype)

    def _backward(self, state: State, call: int, forward: Any, args: Any, kwargs: Any) -> Any:
        """Pass 2: cut the layer from the next one, and carry NaN gradients over the cut by its masks."""
        with torch.no_grad():
            clean_args, clean_kwargs = map_tensors((args, kwargs), lambda t: t.detach())
            shaped = forward(*clean_args, **clean_kwargs)
        anchor = torch.zeros((), requires_grad=True)  # keeps the path alive behind integer inputs
        inputs = [tensor for tensor in tensors_in((args, kwargs)) if tensor.requires_grad]
        outputs = floats_in(shaped)
        values = [self._values(tensor) for tensor in outputs]

        def carry(gradients: tuple[Tensor | None, ...]) -> list[Tensor]:
            carried = carry_back(state, call, forward, gradients)
            if isinstance(carried, Tensor):
                return [carried] * len(inputs)
            return [torch.full_like(tensor, torch.nan if carried else 0.0) for tensor in inputs]

        replaced = dict(zip(map(id, outputs), _Cut.apply(carry, values, anchor, *inputs), strict=True))
        return map_tensors(shaped, lambda t: replaced.get(id(t), t))


class _Cut(torch.autograd.Function):
    """Emits given values, and hands the gradients that come back to `carry`."""

    @staticmethod
    def forward(ctx: Any, carry: Any, values: list[Tensor], anchor: Tensor, *inputs: Tensor) -> Any:
        ctx.carry = carry
        return tuple(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return None, None, None, *ctx.carry(gradients)


def carry_back(state: State, call: int, forward: Any, gradients: tuple[Tensor | None, ...]) -> Tensor | bool:
    """From NaN at a layer's output to its live parameters and to NaN at its input.

    Returns the gradient of a plain layer's input; of others, whether NaN goes to all of it.
    """
    reached = [torch.isnan(gradient) for gradient in gradients if gradient is not None]
    if not any(bool(elements.any()) for elements in reached):
        return False
    if not state.plain:
        state.wanted[call] |= True
        if bool(state.outputs[call].any()):
            state.live.update(state.masks)
        return True
    if call in state.carried and not bool((reached[0] & ~state.wanted[call]).any()):
        return state.carried[call]
    state.wanted[call] |= reached[0]
    both = state.wanted[call] & state.outputs[call]
    towards = state.ways(forward, state.inputs[call], both)
    state.live["weight"] |= (towards[1] > 0) & state.masks["weight"]
    if "bias" in state.masks:
        state.live["bias"] |= state.any_in_unit(both) & state.masks["bias"]
    state.carried[call] = _nan_where(towards[0] > 0, towards[0])
    return state.carried[call]


def _filled(tensor: Tensor, elements: Tensor, other: Tensor) -> Tensor:
    """NaN in the given elements of one tensor; others as they are."""
    return other.masked_fill(elements, torch.nan) if other is tensor else other


def _nan_where(condition: Tensor, like: Tensor) -> Tensor:
    return torch.zeros_like(like).masked_fill_(condition, torch.nan)


def _indicator(tensor: Tensor) -> Tensor:
    return torch.isnan(tensor).to(tensor.dtype) if tensor.is_floating_point() else tensor


def _switched_off(state: State, output: Any) -> Any:
    """A normalizing layer's output, zero where its scale is zero."""
    scale = state.masks.get("weight")
    if scale is None or not state.torchs_own or bool(scale.all()):
        return output
    if not isinstance(state.module, torch.nn.LayerNorm | torch.nn.RMSNorm):
        scale = scale.view(-1, *[1] * (output.dim() - 2))
    return output.masked_fill(~scale, 0.0)
