"""Quantized graphs on disk: safetensors with the integers, and ONNX for other runtimes."""

import io
import json
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from capacity import checks
from capacity.cloning import clone, plain_copy
from capacity.errors import InputError, missing
from capacity.inputs import example_input, first_line, forward, require_weights
from compression.checkpoints import most_bytes, require_storable
from compression.counting import all_finite, rounded_tensors, stored_tensors
from compression.epochs import evaluation_mode
from compression.quantization._quantize import (
    SCHEMES,
    convert,
    prepare,
    quiet,
    require_single,
    unquantizable,
)
from compression.quantization.calls import free_batch
from compression.quantization.exporting import FIXED_BATCH, obstacle
from compression.quantization.module_integers import store_integers
from compression.quantization.onnx_forms import ForOnnx
from compression.quantization.onnx_functions import read_once
from compression.quantization.onnx_weights import fit_biases, keep_activations
from compression.quantization.results import QuantizeResult, Rounding
from compression.quantization.runtimes import require_agreement
from compression.shrinking.files import digest
from compression.storage import require_plain, write_atomically, write_tensors
from compression.verification import Arguments

SMALLEST, LARGEST = 2.0**-126, torch.finfo(torch.float32).max  # of a step in single precision
FORMS = ("graph", "modules")
VERSION = 2  # before 2, each input of a transposed convolution had a scale
SCALARS = (  # by name: torchao registers them when it is first imported
    "quantized_decomposed.quantize_per_tensor.default",
    "quantized_decomposed.dequantize_per_tensor.default",
)


@checks.arguments(result=checks.instance(QuantizeResult), path=checks.path)
def save_quantized(result: QuantizeResult, path: str | Path) -> int:
    """Write a quantized graph's tensors, ranges and their SHA-256 as one safetensors file; returns its bytes.

    4-bit weights are packed two to a byte. The architecture is not in the file.
    """
    from safetensors.torch import save_file

    require_storable(result.model)
    bits = {layer.weight_bits for layer in result.layers if not layer.reason}
    four = bits == {4}
    packed = rounded_tensors(result.model) if four else set()
    tensors = {
        key: pack(value.cpu()) if key in packed else value.cpu().contiguous().clone()
        for key, value in _distinct_state(result.model).items()
    }
    facts = {
        "form": "modules" if result.not_exported else "graph",
        "scheme": result.scheme,
        "weight_bits": 4 if four else 8,
        "group_size": result.group_size,
        "keep": list(result.keep),
        "version": VERSION,
        "ranges": [list(node.args[1:3]) for node in _scalar_nodes(result.model)],
    }
    text = json.dumps(facts)
    metadata = {"quantized": text, "sha256": digest(text, tensors)}
    write_tensors(path, lambda beside: save_file(tensors, beside, metadata=metadata))
    return Path(path).stat().st_size


@checks.arguments(model=checks.module, path=checks.path)
def load_quantized(model: nn.Module, path: str | Path, *, input_size: Any) -> nn.Module:
    """The quantized graph in a file, rebuilt from `model` (fresh from its factory), filled, and run once.

    Raises InputError for a damaged file (every bit counts), for ranges that no integers have, and for
    another architecture. Nothing in the file is executed.
    """
    require_weights(model)
    tensors, facts = _read(model, require_plain(path, most_bytes(model)))
    plain = plain_copy(model).cpu().eval()
    args, kwargs = example_input(plain, input_size, device="cpu")
    require_single(plain)
    if facts.form == "modules":
        network = plain
        with unquantizable(facts.scheme):
            store_integers(plain, facts.weight_bits, facts.group_size, facts.keep, empty=True)
    else:
        network = _graph_of(plain, (args, kwargs), facts)
    _fill(network, tensors, facts, path)
    with unquantizable(facts.scheme), torch.no_grad():
        clone(network)(*args, **kwargs)
    return network


def _graph_of(plain: nn.Module, example: Arguments, facts: "_Facts") -> nn.Module:
    """The graph that `quantize` makes of a model of this architecture."""
    from compression.quantization.quantizers import TURNED

    args, kwargs = example
    with torch.no_grad():  # as `quantize` does: what a first pass keeps is a constant of the graph
        forward(plain, args, kwargs)
    rounding = Rounding(facts.scheme, facts.weight_bits, facts.group_size, facts.keep)
    graph = prepare(plain, example, rounding)
    turned = any(node.target in TURNED for node in graph.graph.nodes)
    if facts.version < VERSION and facts.scheme == "weight-only" and turned:
        raise InputError(
            "an earlier release wrote this file, and rounded transposed convolutions otherwise: quantize the "
            "model and save it again"
        )
    with unquantizable(facts.scheme), torch.no_grad():
        graph(*args, **kwargs)
        return convert(graph)


def _distinct_state(network: nn.Module) -> dict[str, Tensor]:
    """Tensors of a state dict, in modules those that several layers share under their first name only."""
    state: dict[str, Tensor] = {}
    seen: set[int] = set()
    for key, value in stored_tensors(network).items():
        if isinstance(network, fx.GraphModule) or id(value) not in seen:
            state[key] = value
        seen.add(id(value))
    return state


@torch.no_grad()
def _fill(network: nn.Module, tensors: dict[str, Tensor], facts: "_Facts", path: str | Path) -> None:
    """Put what a file holds into a network's own tensors; raises InputError for another architecture."""
    nodes, own = _scalar_nodes(network), _distinct_state(network)
    fits = tensors.keys() == own.keys() and len(nodes) == len(facts.ranges)
    if fits and facts.weight_bits == 4:
        tensors = _unpacked(tensors, own, rounded_tensors(network), path)
    if not fits or any(
        (tensors[key].shape, tensors[key].dtype) != (own[key].shape, own[key].dtype) for key in own
    ):
        raise InputError(
            f"{path} holds another architecture than the model given"
            + (", or was written by an earlier release" if facts.version < VERSION else "")
        )
    for node, (scale, zero) in zip(nodes, facts.ranges, strict=True):
        node.args = (node.args[0], scale, zero, *node.args[3:])
    if isinstance(network, fx.GraphModule):
        network.recompile()
    for key, value in tensors.items():
        if isinstance(network, fx.GraphModule) or 0 in own[key].stride():
            _replace(network, own[key], value)  # which may be the caller's, or cannot be written
        else:  # where whatever else holds it sees it
            own[key].copy_(value)
            own[key].requires_grad_(False)


def _replace(network: nn.Module, tensor: Tensor, value: Tensor) -> None:
    """Put a tensor in the place of another, under all its names."""
    fresh = nn.Parameter(value, requires_grad=False) if isinstance(tensor, nn.Parameter) else value
    for module in network.modules():
        for name in [*module._parameters, *module._buffers]:
            if getattr(module, name) is tensor:
                setattr(module, name, fresh)


def _unpacked(
    tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], packed: set[str], path: str | Path
) -> dict[str, Tensor]:
    """The tensors of a file, 4-bit weights in the shapes that the network's own have."""
    try:
        return {
            key: unpack(value, own[key].shape) if key in packed else value for key, value in tensors.items()
        }
    except InputError as error:
        raise InputError(f"{path} is damaged: {error}") from error


@dataclass(frozen=True)
class _Facts:
    """What a file says besides its tensors, each within what integers allow."""

    scheme: str
    weight_bits: int
    group_size: int | None
    keep: list[str]
    ranges: list[tuple[float, int]]
    form: str = "graph"
    version: int = 1

    def __post_init__(self) -> None:
        words = isinstance(self.keep, list) and all(isinstance(name, str) for name in self.keep)
        if type(self.version) is not int or not 1 <= self.version <= VERSION:
            raise ValueError(f"its version is {self.version!r:.20}, and this release reads up to {VERSION}")
        if self.form == "modules" and self.version < 2:
            raise ValueError("an earlier release wrote it: quantize the model and save it again")
        if self.form not in FORMS or (self.form == "modules" and self.scheme != "weight-only"):
            raise ValueError("its form is none that is known")
        if self.scheme not in SCHEMES or not words:
            raise ValueError("its scheme or the layers left in float are none that are known")
        if type(self.weight_bits) is not int or self.weight_bits not in (4, 8):
            raise ValueError("its weights have neither 4 nor 8 bits")
        if self.group_size is not None and not (type(self.group_size) is int and 0 < self.group_size < 2**31):
            raise ValueError("its group_size is no number of weights")
        for scale, zero in self.ranges:
            if type(scale) is not float or not SMALLEST <= scale <= LARGEST:
                raise ValueError(f"a scale of {scale!r:.20} is no step between integers")
            if type(zero) is not int or not 0 <= zero <= 255:
                raise ValueError(f"a zero point of {zero!r:.20} is none of 256 integers")


def _read(model: nn.Module, path: Path) -> tuple[dict[str, Tensor], _Facts]:
    """Tensors and facts of a file whose SHA-256 is right and whose numbers can be."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            text = metadata["quantized"]
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if metadata.get("sha256") != digest(text, tensors):
            raise ValueError("its SHA-256 is not the one that was stored; save it again")
        facts = _Facts(**{"group_size": None, **json.loads(text)})
        _require_integers(tensors)
        layers = dict(model.named_modules())
        if unknown := [name for name in facts.keep if name not in layers]:
            raise ValueError(f"the model has no layer {unknown[0]!r:.40}")
    except FileNotFoundError as error:
        raise InputError(f"{path} is no file") from error
    except (
        SafetensorError,
        OSError,
        KeyError,
        TypeError,
        ValueError,
        OverflowError,
        RecursionError,
    ) as error:
        raise InputError(f"{path} is damaged or holds no quantized network: {error}") from error
    return tensors, facts


def _require_integers(tensors: Mapping[str, Tensor]) -> None:
    """Raise ValueError for steps between integers that are none, and for zeros outside of them."""
    for key, tensor in tensors.items():
        name = key.rpartition(".")[2]
        if tensor.is_floating_point() and not all_finite(tensor):
            raise ValueError(f"{key} holds NaN or infinity")
        scales = name.startswith("_scale") or (name == "scales" and ".parametrizations." in f".{key}")
        if scales and not bool((tensor > 0).all()):
            raise ValueError(f"{key} holds a scale that is not positive")
        if name.startswith("_zero_point") and not bool(((tensor >= -128) & (tensor <= 255)).all()):
            raise ValueError(f"{key} holds a zero point outside of the integers")


@checks.arguments(graph=checks.module, path=checks.path)
def export_onnx(graph: nn.Module, path: str | Path, *, input_size: Any) -> int:
    """Write a float or quantized network as ONNX; returns its bytes.

    Integers of a graph become pairs of QuantizeLinear and DequantizeLinear.

    The batch dimension stays free. Raises InputError without the extra [onnx], for scheme "dynamic", for what
    cannot be exported, for what fixes the size of the batch, and where ONNX Runtime, if it is installed,
    computes something else from it: see `runtimes.require_agreement`.
    """
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise missing("onnx", "export to ONNX") from error
    nodes = graph.graph.nodes if isinstance(graph, fx.GraphModule) else ()
    if any("choose_qparams" in str(node.target) for node in nodes):
        raise InputError(
            "ranges that are found while running have no ONNX form in torch's exporter: "
            "use scheme 'static', 'weight-only' or 'aware'"
        )
    if any(tensor.device.type != "cpu" for tensor in (*graph.parameters(), *graph.buffers())):
        graph = clone(graph, device="cpu")
    args, kwargs = example_input(graph, input_size, device="cpu")
    out, err = redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO())
    with evaluation_mode(graph), quiet(), out, err, read_once():
        forward(graph, args, kwargs)
        try:
            args, kwargs, shapes = free_batch(graph, args, kwargs)
            with ForOnnx():
                program = torch.onnx.export(
                    graph, args, kwargs=kwargs, dynamo=True, dynamic_shapes=shapes, verbose=False
                )
        except Exception as error:  # whatever the exporter stumbles over, which it says in its cause
            reason = obstacle(first_line(error.__cause__ or error))
            raise InputError(f"the network cannot be exported to ONNX: {reason}") from error
    assert program is not None
    _require_free(program, path)
    keep_activations(program)
    fit_biases(program)
    with evaluation_mode(graph):
        require_agreement(program, graph, args, kwargs, path)
    write_atomically(path, lambda beside: program.save(str(beside)))
    return Path(path).stat().st_size


def _require_free(program: Any, path: str | Path) -> None:
    """Raise InputError where no input of an ONNX program has a size that is free."""
    sizes = [size for value in program.model.graph.inputs for size in value.shape or ()]
    if sizes and all(isinstance(size, int) for size in sizes):
        raise InputError(f"{path} was not written: {FIXED_BATCH}")


def _scalar_nodes(network: nn.Module) -> list[fx.Node]:
    """Nodes that hold a scale and a zero point as numbers; a network that is no graph has none."""
    nodes = network.graph.nodes if isinstance(network, fx.GraphModule) else ()
    return [node for node in nodes if str(node.target) in SCALARS]


def pack(values: Tensor) -> Tensor:
    """4-bit signed integers, two to a byte, the first in the low half.

    >>> pack(torch.tensor([-8, 7, 3], dtype=torch.int8)).tolist()
    [120, 3]
    """
    if values.numel() and (int(values.min()) < -8 or int(values.max()) > 7):
        raise InputError("integers beyond -8 to 7 have no four bits")
    flat = values.flatten().to(torch.int16) & 15
    if flat.numel() % 2:
        flat = torch.cat([flat, flat.new_zeros(1)])
    return (flat[0::2] | (flat[1::2] << 4)).to(torch.uint8)


def unpack(packed: Tensor, shape: torch.Size) -> Tensor:
    """What `pack` packed, as int8 of this shape; raises InputError if the number of bytes is not its.

    >>> unpack(torch.tensor([120, 3], dtype=torch.uint8), torch.Size([3])).tolist()
    [-8, 7, 3]
    """
    if packed.dtype != torch.uint8 or packed.numel() != -(-shape.numel() // 2):
        raise InputError(f"4-bit weights of shape {tuple(shape)} do not lie in {packed.numel()} elements")
    wide = packed.to(torch.int16)
    halves = torch.stack([wide & 15, wide >> 4], dim=1).flatten()[: shape.numel()]
    return torch.where(halves > 7, halves - 16, halves).to(torch.int8).view(shape)
