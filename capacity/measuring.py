"""measure(): the memory-equivalent capacity of any nn.Module, layer by layer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from capacity import checks
from capacity.cloning import memory_view, unwrapped
from capacity.effective import Live, live_parts
from capacity.errors import InputError, unknown
from capacity.inputs import example_input, require_python, tensors_in
from capacity.layers import RULES, Layer, Rule, functional, require_rules
from capacity.parametrized import norm_hooks
from capacity.passes import (
    device_of,
    layers_of,
    measurable_copy,
    parents_of_uncalled,
    traces_of,
    unreached_ties,
)
from capacity.report import CapacityReport, LayerCapacity, describe_scope
from capacity.rules import Convention, check_convention, input_cap, passes_on, stored_bits
from capacity.tracing import Layers, Trace

SCOPES = ("all", "trainable")


@checks.arguments(effective=checks.flag, rules=require_rules)
@torch.random.fork_rng()  # which networks that draw in evaluation mode would move on
def measure(
    model: nn.Module,
    input_size: Any,
    *,
    convention: Convention = "previous",
    scope: Literal["all", "trainable"] | Sequence[str] = "all",
    effective: bool = False,
    rules: Mapping[type[nn.Module], Rule] = RULES,
) -> CapacityReport:
    """Memory-equivalent capacity of a model in bits, layer by layer.

    The model itself is not run and not changed: a copy without weights, on the meta device and in
    evaluation mode, is. Only `effective=True`, and models that refuse the meta device or detach their
    data, need a copy with weights; the report says so.

    Parameters
    ----------
    model: any nn.Module
    input_size: shape of one sample without the batch, such as (1, 28, 28); a list or dict of shapes for
        several inputs; or example batches as tensors (see `capacity.inputs`)
    convention: how a layer is capped by what feeds it: "previous", "running" or "uncapped"
        (`capacity.rules`)
    scope: "all" layers, "trainable" ones only (frozen layers become part of the data path), or names of
        modules, such as ["classifier"]; layers outside the scope count as part of the data path
    effective: count only non-zero parameters on a live path from input to output, as the network stands:
        a zero stores nothing, whatever its gradient, nor does what is only seen through zeros. Weights that
        start at zero (last layers of branches, layer scales) are named in the report's notes
    rules: module type -> rule; extend with {**RULES, MyLayer: my_rule}

    Raises InputError for an unknown convention, scope or module name, a model without parameters in
    scope or with integer ones that no rule names, and an input the model cannot take.

    Reference: Friedland, Metere and Krell 2018, arXiv:1810.02328.

    >>> from torch import nn
    >>> measure(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)), (2,)).capacity_bits
    8
    """
    check_convention(convention)
    model = unwrapped(model)
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError("a TorchScript module hides its layers; measure the nn.Module it was made from")
    wanted = _scope_filter(model, scope)
    hollow = measurable_copy(model, rules, device="meta")
    total = sum({memory_view(p): p.numel() for p in model.parameters()}.values())
    layers = layers_of(hollow, rules, wanted)
    if not layers:
        raise _nothing_to_measure(scope, total)
    traces, notes = traces_of(model, hollow, layers, input_size, rules)
    uncalled, last = parents_of_uncalled(hollow, traces), unreached_ties(layers, traces)
    if uncalled or last:
        rules = {**rules, **dict.fromkeys(uncalled, functional)}
        layers = layers_of(hollow, rules, wanted, last)
        traces, notes = traces_of(model, hollow, layers, input_size, rules)
    live = None
    if effective:
        every = layers_of(hollow, rules, lambda name, p: wanted(name, p) or _holds_numbers(p), last)
        live, live_notes = _live(model, rules, every, traces, input_size)
        notes = [*notes, *live_notes, *_moved(traces), *_all_zero(model)]
    rows = _rows(layers, traces, live, convention)
    return CapacityReport(
        layers=tuple(rows),
        convention=convention,
        scope=describe_scope(scope),
        effective=effective,
        input_size=_describe_input(example_input(hollow, input_size, device="meta")),
        total_parameters=total,
        notes=(*notes, *_notes(rows, layers), *_parametrized(model, hollow)),
    )


def _parametrized(model: nn.Module, hollow: nn.Module) -> list[str]:
    """Where weights are made of more or fewer parameters than they have (weight norms): which, and both."""
    held, made = (sum(p.numel() for p in one.parameters()) for one in (model, hollow))
    names = [name for name, module in model.named_modules() if is_parametrized(module) or norm_hooks(module)]
    if held == made or not names:
        return []
    text = f"counted as the weights that its parametrizations make, {made:,} numbers of {held:,} parameters"
    return [f"{_few(names)}: {text} in the whole model"]


def _moved(traces: Mapping[str, Trace]) -> list[str]:
    """Which layers' inputs cannot be told apart into live and dead ones, though data reach them."""
    names = [name for name, note in traces.items() if note.moved]
    text = "comparisons or casts hide which of its inputs live: all count as alive"
    return [f"{_few(names)}: {text}"] if names else []


def _all_zero(model: nn.Module) -> list[str]:
    """Which tensors are zero throughout though no mask says so: values that are not zero open a path."""
    tensors = [(name, p) for name, p in model.named_parameters() if "bias" not in name.rpartition(".")[2]]
    names = [name for name, parameter in tensors if parameter.numel() and not parameter.any()]
    text = (
        "zero throughout: as the network stands they store nothing, nor does what is only seen through them"
    )
    return [f"{_few(names)}: {text}; training may change both"] if names else []


def _nothing_to_measure(scope: str | Sequence[str], total: int) -> InputError:
    why = f"scope {describe_scope(scope)!r} holds none of them" if total else "it has none at all"
    return InputError(f"the model has no parameters to measure: {why}")


def _live(
    model: nn.Module,
    rules: Mapping[type[nn.Module], Rule],
    every: Layers,
    traces: Mapping[str, Trace],
    size: Any,
) -> tuple[dict[str, Live], list[str]]:
    """The live part of every layer, in scope or not: what lies outside is on the data path."""
    require_python(model)
    real = measurable_copy(model, rules)
    mixed = [name for name, note in traces.items() if note.raw and note.sources]
    return live_parts(real, every, example_input(real, size, device=device_of(real)), mixed=mixed)


def _holds_numbers(parameter: nn.Parameter) -> bool:
    return parameter.is_floating_point() or parameter.is_complex()


def _rows(
    layers: Layers, traces: Mapping[str, Trace], live: Mapping[str, Live] | None, convention: Convention
) -> list[LayerCapacity]:
    """Rows in order of execution, layers that were never reached last."""
    rows: list[LayerCapacity] = []
    passed: dict[str, int] = {}
    order = {name: place for place, name in enumerate(traces)}
    named = [
        name for name, (layer, _) in layers.items() if name in traces or (layer.counted and layer.parameters)
    ]
    for name in sorted(named, key=lambda name: order.get(name, len(order))):
        layer, module = layers[name]
        note = traces.get(name)
        owned = _owned(layer, live)
        stored, parameters = layer.rule(module, owned), sum(owned.values())
        if note is None:
            text = f"not reached by a forward pass: its {parameters:,} parameters store nothing"
            rows.append(LayerCapacity(name, layer.kind, parameters, None, 0, 0, layer.storage_bits, (), text))
            continue
        entering, leaving, raw = _elements(name, note, live)
        feeding = [passed[source] for source in note.sources if source in passed]
        if len(feeding) < len(note.sources) or not note.sources:  # a later call, itself, or detached
            feeding.append(entering)
        constant = not note.called or (bool(note.untraced) and not note.raw and not note.entering_elements)
        cap = input_cap(convention, raw=raw or constant, entering_bits=entering, passed_bits=feeding)
        passed[name] = passes_on(leaving, cap)
        sources = tuple(sorted(note.sources, key=order.__getitem__))
        text = _row_note(layer, note, constant)
        capacity = stored_bits(stored, cap)
        rows.append(
            LayerCapacity(
                name, layer.kind, parameters, cap, leaving, capacity, layer.storage_bits, sources, text
            )
        )
    return _with_folded(rows, layers, live)


def _owned(layer: Layer, live: Mapping[str, Live] | None) -> Mapping[str, int]:
    """The parameters a layer owns that count."""
    if live is None:
        return layer.parameters
    return {key: live[layer.name].parameters[key] for key in layer.parameters}


def _elements(name: str, note: Trace, live: Mapping[str, Live] | None) -> tuple[int, int, bool]:
    """Elements that enter and leave a layer, the live ones where known, and whether raw data enters."""
    if live is None:
        return note.entering_elements, note.leaving_elements, note.raw
    entering, leaving = live[name].entering_elements, live[name].leaving_elements
    if note.moved and leaving is not None:
        return note.entering_elements, leaving, note.raw
    if entering is None or leaving is None:
        return note.entering_elements, note.leaving_elements, note.raw
    return entering, leaving, note.raw and live[name].raw


def _with_folded(
    rows: list[LayerCapacity], layers: Layers, live: Mapping[str, Live] | None
) -> list[LayerCapacity]:
    """The rows with normalizations put behind the layer that is defined before them."""
    names, before = [row.name for row in rows], ""
    for name, (layer, _) in layers.items():
        if not layer.counted:
            text, parameters = "folds into its neighbour", sum(_owned(layer, live).values())
            row = LayerCapacity(name, layer.kind, parameters, None, 0, 0, layer.storage_bits, (), text)
            place = names.index(before) + 1 if before in names else 0
            rows.insert(place, row)
            names.insert(place, name)
        before = name
    return rows


def _row_note(layer: Layer, note: Trace, constant: bool) -> str:
    if not note.called:
        return "its weights are used without calling it, so its input is unknown: not capped"
    if constant and not note.followed:
        return "what reaches its input cannot be followed: not capped"
    if constant:
        return "no data reaches its input, only constants: not capped"
    return "no rule for its type: counted by its parameters" if layer.kind == "generic" else ""


def _notes(rows: Sequence[LayerCapacity], layers: Layers) -> list[str]:
    texts: dict[str, list[str]] = {}
    for row in rows:
        if row.note and layers[row.name][0].counted:
            texts.setdefault(row.note, []).append(row.name or "(model)")
    return [f"{_few(names)}: {text}" for text, names in texts.items()]


def _few(names: Sequence[str]) -> str:
    rest = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + rest


def _scope_filter(model: nn.Module, scope: str | Sequence[str]) -> Callable[[str, nn.Parameter], bool]:
    """Which parameters, by full name, the scope holds."""
    if isinstance(scope, str) and scope == "all":
        return lambda name, parameter: True
    if isinstance(scope, str) and scope == "trainable":
        return lambda name, parameter: parameter.requires_grad
    if isinstance(scope, str):
        raise unknown("scope", scope, [*SCOPES, '["module", ...]'])
    checks.each(checks.instance(str))("scope", scope)
    known = [name for name, _ in model.named_modules() if name]
    for name in scope:
        if name not in known:
            raise unknown("module in scope", name, known)
    prefixes = tuple(name + "." for name in scope)
    return lambda name, parameter: name.startswith(prefixes)


def _describe_input(example: tuple[tuple[Any, ...], dict[str, Any]]) -> str:
    args, kwargs = example
    parts = [str(tuple(t.shape[1:])) for value in args for t in tensors_in(value)]
    parts += [f"{name}={tuple(t.shape[1:])}" for name, value in kwargs.items() for t in tensors_in(value)]
    return ", ".join(parts)
