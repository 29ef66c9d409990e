"""What real passes say about layers that marks left for dead."""

from collections.abc import Mapping

import torch
from torch import Tensor

from capacity.marking import carry_back
from capacity.sampling import Sampler
from capacity.states import State, as_masks, like


def add_evidence(sampler: Sampler, states: Mapping[str, State]) -> None:
    """What real passes saw, as marks; and what has a gradient in layers that are never called."""
    for name, state in states.items():
        if not state.inputs:
            if any((name, key) in sampler.with_gradient for key in state.masks):
                state.live.update(state.masks)
            continue
        for call in range(len(state.inputs)):
            place = name, call
            marked = state.inputs[call]
            varied = like(sampler.varied_in.get(place), marked)
            wanted_in = like(sampler.wanted_in.get(place), marked)
            state.inputs[call] = marked | varied
            state.outputs[call] = state.outputs[call] | like(
                sampler.varied_out.get(place), state.outputs[call]
            )
            state.seen_entering.append(varied & wanted_in)
            state.seen_leaving.append(like(sampler.varied_out.get(place), state.outputs[call]))
            wanted = state.wanted[call] | like(sampler.wanted_out.get(place), state.wanted[call])
            state.carried.pop(call, None)
            with as_masks(state, state.masks):
                gradient = torch.zeros(wanted.shape, device=wanted.device).masked_fill(wanted, torch.nan)
                carry_back(state, call, state.module.forward, (gradient,))


def backstop(sampler: Sampler, states: Mapping[str, State], *, everything: bool) -> list[str]:
    """Names of layers whose dead parameters may change the outputs after all; these are alive from now on.

    everything: whether marks of data may have been lost, so that all dead parameters are in doubt
    """
    parts = {
        (name, key): elements
        for name, state in states.items()
        for key, elements in (_dead_of(state) if everything else _doubtful(state)).items()
        if bool(elements.any())
    }
    if not parts or not sampler.changes(parts):
        return []
    names = list(dict.fromkeys(name for name, _ in parts))
    for name in names:
        state = states[name]
        state.live.update(state.masks)
        state.wanted = [torch.ones_like(wanted) for wanted in state.wanted]
    return names


def _dead_of(state: State) -> dict[str, Tensor]:
    return {key: state.masks[key] & ~state.live[key] for key in state.masks}


def _doubtful(state: State) -> dict[str, Tensor]:
    """Dead parameters that see data: outputs of the network must not depend on them."""
    dead = _dead_of(state)
    if not state.plain or not state.inputs:
        seen = not state.inputs or any(not m.numel() or bool(m.any()) for m in state.inputs)
        return dead if seen else {}
    places = torch.zeros_like(dead["weight"])
    units = torch.zeros((), dtype=torch.bool, device=places.device)
    ones = {key: torch.ones_like(mask) for key, mask in state.masks.items()}
    with as_masks(state, ones):
        for marked, outputs in zip(state.inputs, state.outputs, strict=True):
            places |= state.ways(state.module.forward, marked, torch.ones_like(outputs))[1] > 0
            units = units | state.any_in_unit(outputs)
    doubtful = {"weight": dead["weight"] & places}
    return doubtful | ({"bias": dead["bias"] & units} if "bias" in dead else {})
