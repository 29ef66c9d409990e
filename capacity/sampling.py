"""Evidence of life from real passes: what varies with the data, and what the outputs' gradient reaches.

Casts to integers, sorting and code of the model's own can swallow the NaN of `capacity.marking`, and what
comes after them would look dead. Here every non-zero weight of a dense, convolutional or normalizing layer is
drawn anew (zeros stay), inputs of several magnitudes enter, and what is seen to vary or to be wanted in any
draw is alive: this only ever adds to what lives.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from capacity.inputs import map_tensors, tensors_in
from capacity.kernels import gradients_in_evaluation
from capacity.layers import Layer
from capacity.seeding import seed_generators
from capacity.states import ROUTING, State, Undecided, emitted, entering, like
from capacity.tracing import Layers, intercepted

DRAWS = 60  # at most; drawing ends earlier where nothing new is seen
PATIENCE = 3  # draws that show nothing but what the marks say
DOUBT = 12  # draws in a row that show nothing new, once one did
TRIES = 24  # of other values for what is still dead: a sample passes a comparison only now and then
Call = tuple[str, int]  # layer, number of the call


class Sampler:
    """Passes through one network, whose dense, convolutional and normalizing weights it draws anew."""

    def __init__(self, model: nn.Module, layers: Layers, states: Mapping[str, State], example: Any) -> None:
        self.model, self.layers, self.states, self.example = model, layers, states, example
        self.generator = torch.Generator().manual_seed(0)
        self.original = [(parameter, parameter.data) for parameter in model.parameters()]
        self.varied_in: dict[Call, Tensor] = {}
        self.varied_out: dict[Call, Tensor] = {}
        self.wanted_in: dict[Call, Tensor] = {}
        self.wanted_out: dict[Call, Tensor] = {}
        self.with_gradient: set[tuple[str, str]] = set()  # layer, own name of the parameter
        self.before: dict[Call, tuple[list[Tensor], Tensor]] = {}
        self.watched: list[tuple[Call, list[Tensor], list[Tensor]]] = []

    def look(self) -> bool:
        """Draw until nothing new is seen; whether anything was that the marks do not say.

        Raises Undecided where the model takes none of the inputs, or its way depends on them.
        """
        for parameter in self.model.parameters():
            if parameter.is_floating_point():
                parameter.requires_grad_()
        seen, idle, taken, failure = 0, 0, 0, Exception()
        for draw in range(DRAWS):
            try:
                self._draw_once(draw)
            except Undecided:
                raise
            except Exception as error:  # an input that this model does not take
                failure = error
                continue
            taken, total = taken + 1, self._total()
            idle = idle + 1 if total == seen else 0
            seen = total
            if idle == (DOUBT if total else PATIENCE):
                break
        if not taken:
            raise Undecided(f"no random input is taken: {failure}") from failure
        self.model.zero_grad(set_to_none=True)
        return seen > 0

    def changes(self, parts: Mapping[tuple[str, str], Tensor]) -> bool:
        """Whether other values of these elements of parameters change the outputs, in any draw.

        parts: layer and own name of a parameter -> which of its elements
        """
        for draw in range(TRIES):
            if draw % 2:
                self._draw_weights()
            else:  # the network's own weights
                self._put_back()
            inputs = self._inputs(draw)
            originals = [(self._parameter(*place), self._parameter(*place).data) for place in parts]
            try:
                with torch.no_grad():
                    before = [tensor.clone() for tensor in tensors_in(self._pass(inputs, None))]
                    for elements, (parameter, values) in zip(parts.values(), originals, strict=True):
                        other = self._noise(values, 1.0) * values.abs().mean().clamp(min=0.1) + values
                        parameter.data = torch.where(elements, other, values)
                    after = tensors_in(self._pass(inputs, None))
            except Exception:  # an input that this model does not take
                continue
            finally:
                for parameter, values in originals:
                    parameter.data = values
            if len(before) != len(after) or any(_differ(*pair) for pair in zip(before, after, strict=True)):
                return True
        return False

    def _put_back(self) -> None:
        for parameter, values in self.original:
            parameter.data = values

    def _parameter(self, layer: str, key: str) -> nn.Parameter:
        return self.layers[layer][1].get_parameter(key)

    def _draw_once(self, draw: int) -> None:
        """Two inputs and one gradient under one draw of weights."""
        self._draw_weights()
        self.model.zero_grad(set_to_none=True)
        self.before, self.watched = {}, []
        with torch.no_grad():
            self._pass(self._inputs(draw), "remember")
        anchor = torch.ones((), requires_grad=True)
        inputs = map_tensors(
            self._inputs(draw), lambda t: t * anchor.to(t.device, t.dtype) if t.is_floating_point() else t
        )
        with torch.enable_grad(), gradients_in_evaluation(self.model):
            output = self._pass(inputs, "watch")
            ends = [t for t in tensors_in(output) if t.requires_grad and bool(t.isfinite().all())]
            if ends:
                with suppress(RuntimeError):  # code that changes in place what a gradient needs
                    torch.autograd.backward(ends, [self._noise(end, 1.0) for end in ends])
        for call, given, gone in self.watched:
            _add(self.wanted_in, call, given)
            _add(self.wanted_out, call, gone)
        for name, state in self.states.items():
            uncalled = state.layer.counted and not (state.layer.container or state.inputs)
            for key, parameter in state.module.named_parameters() if uncalled else ():
                if key in state.masks and parameter.grad is not None and bool((parameter.grad != 0).any()):
                    self.with_gradient.add((name, key))

    def _total(self) -> int:
        """How much was seen that the marks do not say already."""
        total = len(self.with_gradient)
        for name, state in self.states.items():
            pairs = (
                (state.inputs, self.varied_in),
                (state.outputs, self.varied_out),
                (state.wanted, self.wanted_out),
            )
            for known, seen in pairs:
                for call, marked in enumerate(known):
                    total += int((like(seen.get((name, call)), marked) & ~marked).sum())
        return total

    @torch.no_grad()
    def _draw_weights(self) -> None:
        """Other values for every weight that is not zero, of a size that keeps signals in bounds."""
        for state in self.states.values():
            if not state.masked:
                continue
            for key, parameter in state.module.named_parameters(recurse=False):
                if state.folded:
                    values = 0.5 + torch.rand(parameter.shape, generator=self.generator)
                elif parameter.dim() > 1:
                    fan = max(int(state.masks[key].sum()) / len(parameter), 1)
                    values = torch.randn(parameter.shape, generator=self.generator) * (2 / fan) ** 0.5
                else:
                    values = torch.randn(parameter.shape, generator=self.generator) * 0.3
                drawn = values.to(parameter.device, parameter.dtype)
                parameter.data = torch.where(state.masks[key], drawn, torch.zeros_like(drawn))

    def _inputs(self, draw: int) -> Any:
        """Random arguments in the shapes of the example; integers from 0 to the largest of the example.

        Floats are in turn normal, whole numbers in the range of the example, and normal with standard
        deviations of 10 and 0.1.
        """

        def change(tensor: Tensor) -> Tensor:
            if tensor.dtype == torch.bool or tensor.is_complex() or not tensor.numel():
                return tensor
            if tensor.is_floating_point() and draw % 4 != 1:
                return self._noise(tensor, (1.0, 1.0, 10.0, 0.1)[draw % 4])
            high = max(int(tensor.max()), 1) if bool(tensor.isfinite().all()) else 1
            drawn = torch.randint(0, high + 1, tensor.shape, generator=self.generator)
            return drawn.to(tensor.device, tensor.dtype)

        return map_tensors(self.example, change)

    def _noise(self, tensor: Tensor, magnitude: float) -> Tensor:
        drawn = torch.randn(tensor.shape, generator=self.generator) * magnitude
        return drawn.to(tensor.device, tensor.dtype)

    def _pass(self, inputs: Any, note: str | None) -> Any:
        """One pass; `note` is "remember" for the first input, "watch" for the second, else None."""
        calls = dict.fromkeys(self.layers, 0)

        def visit(layer: Layer, forward: Any, args: Any, kwargs: Any) -> Any:
            if note is None or layer.container or not layer.counted:
                return forward(*args, **kwargs)
            state, call = self.states[layer.name], (layer.name, calls[layer.name])
            calls[layer.name] += 1
            given = entering(state, args, kwargs)
            if note == "remember":
                inputs = [tensor.detach().clone() for tensor in given]
                output = forward(*args, **kwargs)
                self.before[call] = inputs, emitted(output).detach().clone()
                return output
            self._expected(call, given)
            _add(
                self.varied_in,
                call,
                [_differs(*pair) for pair in zip(self.before[call][0], given, strict=True)],
            )
            wanted_in = [_wanted(tensor) for tensor in given]
            output = forward(*args, **kwargs)
            _add(self.varied_out, call, [_differs(self.before[call][1], emitted(output))])
            self.watched.append((call, wanted_in, [_wanted(emitted(output))]))
            return output

        with torch.random.fork_rng(), intercepted(self.layers, visit):
            seed_generators(0)
            args, kwargs = inputs
            output = self.model(*args, **kwargs)
        if note and any(calls[name] != len(state.inputs) for name, state in self.states.items()):
            raise Undecided(ROUTING)
        return output

    def _expected(self, call: Call, given: list[Tensor]) -> None:
        """Raise Undecided unless the two inputs went the same way with the same shapes."""
        before = self.before.get(call)
        if before is None or [t.shape for t in before[0]] != [t.shape for t in given]:
            raise Undecided(ROUTING)


def _wanted(tensor: Tensor) -> Tensor:
    """Elements that will have had a gradient, once gradients have come back."""
    wanted = torch.zeros(tensor.shape, dtype=torch.bool, device=tensor.device)
    if tensor.requires_grad:

        def note(gradient: Tensor) -> None:
            wanted.logical_or_(gradient != 0)

        tensor.register_hook(note)
    return wanted


def _differs(one: Tensor, two: Tensor) -> Tensor:
    """Elements that differ; NaN is like NaN. Raises Undecided for other shapes."""
    if one.shape != two.shape:
        raise Undecided(ROUTING)
    return (one != two.detach()) & ~(one.isnan() & two.detach().isnan())


def _differ(one: Tensor, two: Tensor) -> bool:
    return one.shape != two.shape or bool(_differs(one, two).any())


def _add(seen: dict[Call, Tensor], call: Call, parts: list[Tensor]) -> None:
    """Marks of one draw to those of others; several tensors are laid end to end."""
    marks = parts[0] if len(parts) == 1 else torch.cat([part.flatten() for part in parts]) if parts else None
    if marks is not None:
        seen[call] = seen[call] | marks if call in seen else marks
