"""The forward passes a measurement needs: on the meta device, on real memory where a model refuses that."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import nn

from capacity.attention import unpack_attention
from capacity.cloning import evaluation_copy
from capacity.errors import InputError
from capacity.inputs import example_input, first_line, refusing, untakable
from capacity.layers import RULES, Layer, Rule, find_layers
from capacity.routing import add_other_ways
from capacity.tracing import Layers, Trace, moved_by, reached_by, trace

Rules = Mapping[type[nn.Module], Rule]


def measurable_copy(model: nn.Module, rules: Rules, *, device: str | None = None) -> nn.Module:
    """A copy for measuring, attention taken apart unless the caller has a rule of their own for it."""
    copied = evaluation_copy(model, device=device)
    packed = nn.MultiheadAttention
    return unpack_attention(copied) if rules.get(packed) == RULES[packed] else copied


def layers_of(
    model: nn.Module,
    rules: Rules,
    wanted: Callable[[str, nn.Parameter], bool],
    last: Collection[str] = (),
) -> dict[str, tuple[Layer, nn.Module]]:
    """The layers of a model by name, with their modules; those in `last` own no tied parameters."""
    return {layer.name: (layer, module) for layer, module in find_layers(model, rules, wanted, last)}


def unreached_ties(layers: Layers, traces: Mapping[str, Trace]) -> set[str]:
    """Layers that no pass reached and that own parameters of layers which one did."""
    reached = {
        id(parameter)
        for name, (_, module) in layers.items()
        if name in traces
        for parameter in module.parameters()
    }
    return {
        name
        for name, (layer, module) in layers.items()
        if name not in traces and layer.counted
        if any(id(parameter) in reached for parameter in module.parameters(recurse=not layer.container))
    }


def parents_of_uncalled(model: nn.Module, traces: Mapping[str, Trace]) -> set[type[nn.Module]]:
    """Types of the modules that use weights of layers below them without calling those layers.

    Such a module is one layer: what enters it is known. The whole model is none.
    """
    parents = {name.rpartition(".")[0] for name, note in traces.items() if not note.called}
    return {type(model.get_submodule(parent)) for parent in parents if parent} - {type(model)}


def device_of(model: nn.Module) -> str:
    """Where a model's parameters lie."""
    return str(next(model.parameters()).device)


def traces_of(
    model: nn.Module,
    hollow: nn.Module,
    layers: Layers,
    input_size: Any,
    rules: Rules,
) -> tuple[dict[str, Trace], list[str]]:
    """Traces from a pass on the meta device or, where the model refuses that, on real memory; and notes."""
    traces, reason = _traces_on_meta(hollow, layers, input_size)
    notes: list[str] = []
    if not reason and not any(note.untraced for note in traces.values()):
        return traces, notes
    if device_of(model) == "meta":
        if reason:
            raise InputError(f"{untakable(model, input_size)} on the meta device: {reason}")
        return traces, notes
    real = measurable_copy(model, rules)
    modules = dict(real.named_modules())
    layers = {name: (layer, modules[name]) for name, (layer, _) in layers.items()}
    args, kwargs = example_input(real, input_size, device=device_of(real))
    with refusing(lambda why: _unfollowed(model, real, input_size, (args, kwargs), why)):
        if reason:
            traces = trace(real, layers, args, kwargs)
            notes.append(f"measured by a real forward pass, the meta device being refused: {reason}")
            notes += add_other_ways(real, layers, traces, args, kwargs)
        if any(note.untraced for note in traces.values()):
            _find_detached(real, layers, traces, args, kwargs)
    return traces, notes


def _unfollowed(model: nn.Module, real: nn.Module, input_size: Any, example: Any, reason: str) -> str:
    """Why there are no traces: the model does not take its input, or it does and nothing can be followed."""
    args, kwargs = example
    try:
        with torch.no_grad():
            real(*args, **kwargs)
    except Exception:  # whatever the model's own code raises
        return f"{untakable(model, input_size)}: {reason}"
    return (
        f"{type(model).__name__} runs, but what its layers pass to one another cannot be followed: {reason}; "
        "the model without the part that computes gradients or maps functions can be measured"
    )


def _traces_on_meta(hollow: nn.Module, layers: Layers, input_size: Any) -> tuple[dict[str, Trace], str]:
    """Traces from a pass on the meta device, or why that failed."""
    try:
        args, kwargs = example_input(hollow, input_size, device="meta")
        return trace(hollow, layers, args, kwargs), ""
    except InputError:
        raise
    except Exception as error:
        return {}, first_line(error)


def _find_detached(
    model: nn.Module,
    layers: Layers,
    traces: Mapping[str, Trace],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    """Where gradients say nothing, ask NaN: does raw data reach the layer, and do counted outputs?

    Where NaN says nothing either, other numbers are tried: of a layer that they change, all inputs count.
    """
    try:
        raw, outputs = (reached_by(of_raw, model, layers, args, kwargs) for of_raw in (True, False))
    except Exception:  # whatever the model's own code raises on NaN
        raw = outputs = dict.fromkeys(layers, 0)
    for name, note in traces.items():
        if note.untraced:
            note.raw = note.raw or raw[name] > 0
            note.entering_elements = max(note.entering_elements, outputs[name])
            note.untraced = 0 if raw[name] or outputs[name] else note.untraced
    if not any(note.untraced for note in traces.values()):
        return
    by_data, by_outputs = (moved_by(of_raw, model, layers, args, kwargs) for of_raw in (True, False))
    for name, note in traces.items():
        if not note.untraced:
            continue
        if by_data is None or by_outputs is None:
            note.followed = False
            continue
        note.moved = name in by_data | by_outputs
        note.raw = note.raw or name in by_data
        note.entering_elements += note.untraced if name in by_outputs else 0
        note.untraced = 0 if note.moved else note.untraced
