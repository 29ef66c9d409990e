"""Which parameters are on a live path from input to output, for any graph.

A masked or zero weight stores nothing; a unit whose weights are all zero emits a constant, and a unit
whose output reaches nothing stores nothing (Vysogorets and Kempe 2021 call what is left effective
sparsity). Three steps over a copy of the network, each of which only adds to what lives:

1. marks follow the data forward and the outputs' wants backward (`capacity.marking`);
2. where they leave any non-zero parameter dead, and the model is more than a chain of torch's own modules,
   real passes with weights drawn anew look for life (`capacity.sampling`);
3. what is still dead, but sees data, is changed at random; where outputs change, its layers count as alive
   and are named as undecided.

Where the passes fail, or the way through the model depends on the data, every non-zero parameter is alive.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from capacity.chains import is_chain
from capacity.evidence import add_evidence, backstop
from capacity.inputs import first_line, map_tensors, require_weights
from capacity.layers import Layer
from capacity.marking import Passes
from capacity.sampling import Sampler
from capacity.states import Held, State, as_masks, dead, entering, masked, share_life
from capacity.tracing import Layers, batch_size, intercepted, reached_elements

UNDECIDED = "liveness could not be decided: counted as alive"
OFF_PATH = (
    "on no path that data take to an output (they pass on constants, or nothing uses them): not counted"
)


@dataclass(frozen=True)
class Live:
    """Live parameters of a layer by name, and the live elements per sample that enter and leave it.

    Elements are None where they could not be decided; `raw` is whether raw data enters by a live weight.
    """

    parameters: Mapping[str, int]
    entering_elements: int | None
    leaving_elements: int | None
    raw: bool = True


@dataclass
class _LiveStates:
    """States of all layers, the layers that were not decided, and why if it is all of them."""

    states: dict[str, State]
    held: Held
    undecided: list[str] = field(default_factory=list)
    reason: str = ""
    sampled: bool = False  # whether real passes saw what marks do not say

    def counted(self, name: str) -> bool:
        """Whether the live elements that enter and leave a layer are known."""
        unmarked = self.sampled and self.states[name].layer.container  # real passes look at layers alone
        return not self.reason and name not in self.undecided and not unmarked

    @property
    def notes(self) -> list[str]:
        if self.reason:
            return [f"{UNDECIDED}, every parameter that is not zero ({self.reason})"]
        few = ", ".join(name or "(model)" for name in self.undecided[:4])
        more = f" and {len(self.undecided) - 4} more" if len(self.undecided) > 4 else ""
        return [*([f"{few}{more}: {UNDECIDED}"] if self.undecided else []), *self._off_path()]

    def _off_path(self) -> list[str]:
        """How many parameters are not zero and do not live."""
        pairs = {
            id(state.module.get_parameter(key)): (int(mask.sum()), int((mask & ~state.live[key]).sum()))
            for state in self.states.values()
            for key, mask in state.masks.items()
        }
        nonzero, off = (sum(pair[place] for pair in pairs.values()) for place in (0, 1))
        return [f"{off:,} of {nonzero:,} parameters that are not zero: {OFF_PATH}"] if off else []


def live_parts(
    real: nn.Module, layers: Layers, example: Any, *, mixed: Sequence[str] = ()
) -> tuple[dict[str, Live], list[str]]:
    """The live part of each layer of `layers`, and notes; `real` is a copy of the model and is overwritten.

    Parameters
    ----------
    layers: all layers, frozen ones too, as found on a copy on the meta device
    example: positional and keyword arguments for one forward pass
    mixed: names of layers that raw data and outputs of other layers enter together

    Raises InputError for NaN parameters, naming the layer, and for a model on the meta device.
    """
    visited = _visited(real, layers, example)
    paired = {
        name: (layer, state.module) for name, state in visited.states.items() for layer in [state.layer]
    }
    raw_marks = {} if visited.reason else _raw_elements(real, visited, paired, example, mixed)
    batch = batch_size(*example)
    parts = {}
    for name, state in visited.states.items():
        counts = {key: int(mask.sum()) for key, mask in state.live.items()}
        marks, inward, outward = raw_marks.get(name), None, None
        if visited.counted(name):
            own = marks or [torch.zeros_like(marked) for marked in state.live_inputs]
            pairs = zip(state.live_inputs, own, strict=True)
            inward = sum(int((marked & ~raw).sum()) for marked, raw in pairs) // batch
            outward = state.leaving // batch
        parts[name] = Live(counts, inward, outward, raw=marks is None)
    return parts, visited.notes


def live_elements(real: nn.Module, layers: Layers, example: Any) -> dict[tuple[str, str], Tensor]:
    """The live elements of each parameter, by layer and own name; else as `live_parts`."""
    visited = _visited(real, layers, example)
    return {(name, key): mask for name, state in visited.states.items() for key, mask in state.live.items()}


def used_elements(real: nn.Module, layers: Layers, example: Any) -> dict[tuple[str, str], Tensor]:
    """The elements of parameters that pass anything on, constants too; the others can become zero.

    Parameters and errors as of `live_parts`.
    """
    visited = _visited(real, layers, example, constants=True)
    return {(name, key): mask for name, state in visited.states.items() for key, mask in state.live.items()}


def _visited(real: nn.Module, layers: Layers, example: Any, *, constants: bool = False) -> _LiveStates:
    """What all steps find; with `constants`, those that biases make count as data where they are not zero."""
    modules = dict(real.named_modules())
    paired: Layers = {name: (layer, modules[name]) for name, (layer, _) in layers.items()}
    require_weights(real)
    filled: dict[str, list[Tensor]] | None = None
    if constants:
        filled = _filled_inputs(real, paired, example)
    with torch.no_grad():
        states, held = masked(paired)
    visited = _LiveStates(states, held)
    try:
        _decide(real, paired, visited, example, filled)
    except Exception as error:  # whatever the model's own code raises on marks or random inputs
        visited.reason = first_line(error, 200)
        for state in states.values():
            state.live.update(state.masks)
    held.put_back()
    share_life(states)
    return visited


def _decide(
    real: nn.Module,
    layers: Layers,
    visited: _LiveStates,
    example: Any,
    filled: Mapping[str, list[Tensor]] | None,
) -> None:
    states, passes = visited.states, Passes(real, layers, visited.states, example)
    passes.forward()
    if filled is not None:
        for name, state in states.items():
            state.outputs = [torch.ones_like(marked) for marked in state.outputs]
            if name in filled:
                state.inputs = [
                    marked | full for marked, full in zip(state.inputs, filled[name], strict=True)
                ]
    passes.backward()
    share_life(states)
    if any(dead(state) for state in states.values()) and not (filled is None and is_chain(real)):
        visited.held.put_back()
        sampler = Sampler(real, layers, states, example)
        visited.sampled = sampler.look()
        if visited.sampled:
            add_evidence(sampler, states)
            share_life(states)
        visited.undecided.extend(backstop(sampler, states, everything=passes.swallowed))
        visited.held.masks_again(states)
    if filled is None:
        passes.count()


def _filled_inputs(real: nn.Module, layers: Layers, example: Any) -> dict[str, list[Tensor]]:
    """Input elements of each call of plain layers that are not zero on the example."""
    states = {name: State(layer, module) for name, (layer, module) in layers.items()}
    filled: dict[str, list[Tensor]] = {}

    def visit(layer: Layer, forward: Any, args: Any, kwargs: Any) -> Any:
        if states[layer.name].plain:
            filled.setdefault(layer.name, []).append(entering(states[layer.name], args, kwargs)[0] != 0)
        return forward(*args, **kwargs)

    with torch.no_grad(), intercepted(layers, visit):
        args, kwargs = map_tensors(example, torch.clone)
        real(*args, **kwargs)
    return filled


@torch.no_grad()
def _raw_elements(
    real: nn.Module, visited: _LiveStates, layers: Layers, example: Any, mixed: Sequence[str]
) -> dict[str, list[Tensor]]:
    """For mixed layers that no raw element enters by a live weight: which input elements are raw, by call."""
    plain = [name for name in mixed if visited.states[name].plain]
    names = [name for name in plain if not bool(visited.states[name].live["weight"].all())]
    if not names:
        return {}
    try:
        marks = reached_elements(True, real, layers, *map_tensors(example, torch.clone))
    except Exception:  # whatever the model's own code raises on marks: raw data stays
        return {}
    return {name: marks[name] for name in names if _idle(visited.states[name], marks.get(name, []))}


def _idle(state: State, raw: list[Tensor]) -> bool:
    """Whether there are raw input elements, and no live weight sees any of them."""
    if not any(bool(marked.any()) for marked in raw):
        return False
    with as_masks(state, state.live):
        weight = state.module.get_parameter("weight")
        return not any(bool((state.module(marked.to(weight.dtype)) > 0).any()) for marked in raw)
