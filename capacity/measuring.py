"""measure(): the memory-equivalent capacity of any nn.Module, layer by layer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from capacity.cloning import evaluation_copy
from capacity.effective import Live, live_parts
from capacity.errors import InputError, unknown
from capacity.inputs import example_input
from capacity.layers import RULES, Layer, Rule, find_layers
from capacity.report import CapacityReport, LayerCapacity, describe_scope
from capacity.rules import check_convention, input_cap, passes_on, stored_bits
from capacity.tracing import Layers, Trace, trace

SCOPES = ("all", "trainable")


def measure(
    model: nn.Module,
    input_size: Any,
    *,
    convention: str = "previous",
    scope: str | Sequence[str] = "all",
    effective: bool = False,
    rules: Mapping[type[nn.Module], Rule] = RULES,
) -> CapacityReport:
    """Memory-equivalent capacity of a model in bits, layer by layer.

    The model itself is not run and not changed: a copy without weights, on the meta device and in
    evaluation mode, is. Only `effective=True` reads weights (and copies them).

    Parameters
    ----------
    model: any nn.Module
    input_size: shape of one sample without the batch, such as (1, 28, 28); a list or dict of shapes for
        several inputs; or an example batch as tensor
    convention: how a layer is capped by what feeds it: "previous", "running" or "uncapped"
        (`capacity.rules`)
    scope: "all" layers, "trainable" ones only (frozen layers become part of the data path), or names of
        modules, such as ["classifier"]; layers outside the scope count as part of the data path
    effective: count only non-zero parameters on a live path from input to output
    rules: module type -> rule; extend with {**RULES, MyLayer: my_rule}

    Raises InputError for an unknown convention, scope or module name, a model without parameters in
    scope, and an input the model cannot take.

    Reference: Friedland, Krell and Metere 2018, arXiv:1810.02328, section 4.

    >>> from torch import nn
    >>> measure(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)), (2,)).capacity_bits
    8
    """
    check_convention(convention)
    wanted = _scope_filter(model, scope)
    hollow = evaluation_copy(model, device="meta")
    total = sum(parameter.numel() for parameter in model.parameters())
    layers: Layers = {layer.name: (layer, module) for layer, module in find_layers(hollow, rules, wanted)}
    if not layers:
        found = f"scope {describe_scope(scope)!r} holds none of them" if total else "it has none at all"
        raise InputError(f"the model has no parameters to measure: {found}")
    args, kwargs = example_input(model, input_size, device="meta")
    try:
        traces = trace(hollow, layers, args, kwargs)
    except InputError:
        raise
    except Exception as error:
        raise InputError(_cannot_run(model, input_size, error)) from error
    live = live_parts(model, layers, input_size) if effective else None
    rows = _rows(layers, traces, live, convention)
    return CapacityReport(
        layers=tuple(rows),
        convention=convention,
        scope=describe_scope(scope),
        effective=effective,
        input_size=_describe_input(args, kwargs),
        total_parameters=total,
        notes=tuple(_notes(rows)),
    )


def _rows(
    layers: Layers, traces: Mapping[str, Trace], live: Mapping[str, Live] | None, convention: str
) -> list[LayerCapacity]:
    """Rows in order of execution, layers that were never reached last."""
    rows: list[LayerCapacity] = []
    passed: dict[str, int] = {}
    order = {name: place for place, name in enumerate(traces)}
    named = [name for name in layers if name in traces or layers[name][0].counted]
    for name in sorted(named, key=lambda name: order.get(name, len(order))):
        layer, module = layers[name]
        note = traces.get(name)
        owned = live[name].parameters if live is not None else layer.parameters
        stored, parameters = layer.rule(module, owned), sum(owned.values())
        if note is None:
            text = f"not reached by a forward pass: its {parameters:,} parameters store nothing"
            rows.append(LayerCapacity(name, layer.kind, parameters, None, 0, 0, (), text))
            continue
        entering = live[name].entering_elements if live is not None else note.entering_elements
        leaving = live[name].leaving_elements if live is not None else note.leaving_elements
        feeding = [passed[source] for source in note.sources if source in passed]
        if len(feeding) < len(note.sources):  # fed by itself or a later call: nothing to propagate
            feeding.append(entering)
        unknown_origin = note.untraced and not note.sources
        cap = input_cap(
            convention, raw=note.raw or unknown_origin, entering_bits=entering, passed_bits=feeding
        )
        passed[name] = passes_on(leaving, cap)
        sources = tuple(sorted(note.sources, key=order.__getitem__))
        text = _row_note(layer, unknown_origin)
        capacity = stored_bits(stored, cap)
        rows.append(LayerCapacity(name, layer.kind, parameters, cap, leaving, capacity, sources, text))
    folded = [layer for name, (layer, _) in layers.items() if not layer.counted]
    for layer in folded:
        parameters = sum((live[layer.name].parameters if live is not None else layer.parameters).values())
        rows.append(
            LayerCapacity(layer.name, layer.kind, parameters, None, 0, 0, (), "folds into its neighbour")
        )
    place = {name: position for position, name in enumerate(layers)}
    if folded:
        rows.sort(key=lambda row: place[row.name])
    return rows


def _row_note(layer: Layer, unknown_origin: bool) -> str:
    if unknown_origin:
        return "no data was traced to its input (constants, or the model detaches): not capped"
    return "no rule for its type: counted by its parameters" if layer.kind == "generic" else ""


def _notes(rows: Sequence[LayerCapacity]) -> list[str]:
    texts: dict[str, list[str]] = {}
    for row in rows:
        if row.note and row.kind != "normalization":
            texts.setdefault(row.note, []).append(row.name or "(model)")
    return [f"{', '.join(names)}: {text}" for text, names in texts.items()]


def _scope_filter(model: nn.Module, scope: str | Sequence[str]) -> Callable[[str, nn.Parameter], bool]:
    """Which parameters, by full name, the scope holds."""
    if scope == "all":
        return lambda name, parameter: True
    if scope == "trainable":
        return lambda name, parameter: parameter.requires_grad
    if isinstance(scope, str):
        raise unknown("scope", scope, [*SCOPES, '["module", ...]'])
    known = [name for name, _ in model.named_modules() if name]
    for name in scope:
        if name not in known:
            raise unknown("module in scope", name, known)
    prefixes = tuple(name + "." for name in scope)
    return lambda name, parameter: name.startswith(prefixes)


def _cannot_run(model: nn.Module, input_size: Any, error: Exception) -> str:
    shown = " ".join(str(error).split())[:300]
    return f"{type(model).__name__} cannot take an input of size {input_size!r}: {shown}"


def _describe_input(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    parts = [str(tuple(value.shape[1:])) for value in args]
    parts += [f"{name}={tuple(value.shape[1:])}" for name, value in kwargs.items()]
    return ", ".join(parts)
