"""What `quantize` was asked for, and what became of each weight by what the result stores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import fx, nn

from capacity.columns import KEY, Column, percent
from capacity.tables import Table, Tabular
from compression.counting import (
    distinct,
    memory_of,
    parameter_count,
    rounded_tensors,
    state_bytes,
    stored_tensors,
)
from compression.quantization.stored_integers import by_memory, readers_of_floats
from compression.targets import Target


@dataclass(frozen=True)
class Rounding:
    """What `quantize` was asked for: see there."""

    scheme: str
    weight_bits: int
    group_size: int | None
    keep: Sequence[str]


@dataclass(frozen=True)
class QuantizedLayer:
    """One weight, under its layer's name: elements, bits of each, and why it stayed in float, if it did."""

    name: str
    elements: int
    weight_bits: int
    reason: str = ""


COLUMNS = (
    Column("name", "layer", importance=KEY),
    Column("elements", "weights", style=",", importance=3),
    Column("weight_bits", "bits", style=",", importance=5),
    Column("reason", "left in float because", prose=True, importance=4),
)


@dataclass(frozen=True)
class QuantizeResult(Tabular):
    """A quantized graph with the call of the model; bytes of parameters and buffers, measured.

    `bytes_after` counts what the graph stores: integers (two to a byte for 4 bits), scales, zero points,
    and whatever stayed in float; parameters that no forward pass reaches count in neither. `layers` holds
    every parameter of two dimensions or more, each called an integer only if the graph stores it as one;
    `float_parameters` leaves out quantized weights and the biases beside them. `subnormals` counts numbers
    too small for a full mantissa, which were set to zero. `keep` names the layers that were to stay in float.
    `sqnr_db` is the outputs' signal-to-quantization-noise ratio on the first calibration batch of "static";
    None for the others, and where the model draws at random.

    Where `not_exported` says why no quantized graph can be made of the model, `model` is a copy with its own
    modules, whose weights are stored as integers: those that no pass reaches too, which then count.
    """

    model: nn.Module
    scheme: str
    bytes_before: int
    bytes_after: int
    layers: tuple[QuantizedLayer, ...]
    float_parameters: int
    group_size: int | None = None
    subnormals: int = 0
    not_exported: str = ""
    keep: tuple[str, ...] = ()
    sqnr_db: float | None = None

    @property
    def left_in_float(self) -> dict[str, str]:
        """Layers that were not quantized, and why."""
        return {layer.name: layer.reason for layer in self.layers if layer.reason}

    def table(self) -> Table:
        """A row per weight."""
        saved = 1 - self.bytes_after / self.bytes_before
        title = (
            f"{self.scheme}: {self.bytes_before:,} -> {self.bytes_after:,} bytes ({percent(saved, 1)} saved)"
        )
        count = sum(not layer.reason for layer in self.layers)
        if self.scheme == "dynamic":
            title += f"; only dense layers ({count} of {len(self.layers)}) change"
        title += f", {self.float_parameters:,} parameters stay in float"
        if self.sqnr_db is not None:
            title += f"; on a calibration batch the outputs lie {self.sqnr_db:.1f} dB above the noise"
        if self.subnormals:
            title += f"; {self.subnormals:,} subnormal numbers set to zero"
        if self.not_exported:
            title += f"; in its own modules, as {self.not_exported.partition(': ')[2] or self.not_exported}"
        return Table(COLUMNS, [vars(layer) for layer in self.layers], title, label="tab:quantize")


def result_of_graph(
    plain: nn.Module, graph: fx.GraphModule, rounding: Rounding, names: tuple[set[str], set[str]]
) -> QuantizeResult:
    """What became of each weight, by what the graph stores: `names` of integers, and of all that was read."""
    scheme, weight_bits, keep = rounding.scheme, rounding.weight_bits, rounding.keep
    inside, reached = (by_memory(plain, dict.fromkeys(layers, True)) for layers in names)
    readers = by_memory(plain, readers_of_floats(graph))
    rows, biases, lost = [], [], []
    for layer, module in plain.named_modules():
        for key, weight in module.named_parameters(recurse=False):
            if weight.dim() < 2:
                continue
            name = layer if key == "weight" else f"{layer}.{key}".removeprefix(".")
            reason = _reason(layer, module, scheme, keep, readers.get(memory_of(weight), ""))
            if memory_of(weight) in inside:
                reason = ""
                bias = module._parameters.get(key.replace("weight", "bias"))
                biases += [] if bias is None else [bias]
            elif memory_of(weight) not in reached:
                reason = "nothing that the model returns reads it, and the graph holds none of it"
                lost.append(weight)
            rows.append(QuantizedLayer(name, weight.numel(), 32 if reason else weight_bits, reason))
    held = [p for p in plain.parameters() if memory_of(p) in inside]
    quantized = sum(tensor.numel() for tensor in distinct([*held, *biases]))
    unread = sum(tensor.numel() for tensor in distinct(lost))
    before = state_bytes(plain) - 4 * unread
    return QuantizeResult(
        graph, scheme, before, stored_bytes(graph, weight_bits), tuple(rows),
        parameter_count(plain) - quantized - unread,
    )  # fmt: skip


def result_of_modules(
    floats: nn.Module,
    network: nn.Module,
    rounding: Rounding,
    rows: Mapping[str, tuple[Target, str]],
    not_exported: str,
) -> QuantizeResult:
    """What became of each weight of a model in its own modules, by `store_integers`."""
    layers = tuple(
        QuantizedLayer(name, target.elements, 32 if reason else rounding.weight_bits, reason)
        for name, (target, reason) in rows.items()
    )
    held = dict(floats.named_parameters(remove_duplicate=False))
    rounded = [target for target, reason in rows.values() if not reason]
    biases = distinct(held[name] for target in rounded for name, _ in target.biases if name in held)
    quantized = sum(target.elements for target in rounded) + sum(bias.numel() for bias in biases)
    return QuantizeResult(
        network, rounding.scheme, state_bytes(floats), stored_bytes(network, rounding.weight_bits), layers,
        parameter_count(floats) - quantized, not_exported=not_exported,
    )  # fmt: skip


def _reason(layer: str, module: nn.Module, scheme: str, keep: Sequence[str], readers: str) -> str:
    """Why a weight that is not an integer is not."""
    if layer in keep:
        return "as asked"
    if scheme == "dynamic" and not isinstance(module, nn.Linear):
        return "dynamic quantization is for dense layers"
    return f"scheme {scheme!r} leaves {readers or 'what is computed from it'} in float"


def stored_bytes(graph: nn.Module, weight_bits: int) -> int:
    """Bytes of all tensors of a quantized network; weights in 4-bit integers count half of their int8."""
    total, state = 0, stored_tensors(graph)
    halves = {memory_of(state[name]) for name in rounded_tensors(graph)} if weight_bits == 4 else set()
    for tensor in distinct(state.values()):
        size = tensor.numel() * tensor.element_size()
        total += -(-size // 2) if memory_of(tensor) in halves else size
    return total
