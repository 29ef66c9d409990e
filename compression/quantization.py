"""quantize(): dynamic, static, weight-only and quantization-aware integers, on torchao's export path.

The model is exported, annotated by a quantizer, calibrated or trained, and converted into a graph whose
weights are stored as integers. Run as it is, the graph computes what the integers mean in floats, which is
the reference for accuracy; `compiled` turns it into integer kernels where the machine has them.
"""

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from capacity.cloning import clone, fold_masks
from capacity.errors import InputError, unknown
from capacity.inputs import example_input
from capacity.report import render
from compression.evaluation import exercise
from compression.training import Retrain, model_of

if TYPE_CHECKING:
    import pandas as pd

Scheme = Literal["dynamic", "static", "weight-only", "aware"]
SCHEMES = ("dynamic", "static", "weight-only", "aware")
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class QuantizedLayer:
    """One layer: elements of its weight, bits of each, and why it stayed in float, if it did."""

    name: str
    elements: int
    weight_bits: int
    reason: str = ""


@dataclass(frozen=True)
class QuantizeResult:
    """A quantized graph with the call of the model; bytes of parameters and buffers, measured.

    `bytes_after` counts what the graph stores: integers (two to a byte for 4 bits), scales, zero points,
    and whatever stayed in float.
    """

    model: nn.Module
    scheme: str
    bytes_before: int
    bytes_after: int
    layers: tuple[QuantizedLayer, ...]
    float_parameters: int
    group_size: int | None = None

    @property
    def left_in_float(self) -> dict[str, str]:
        """Layers that were not quantized, and why."""
        return {layer.name: layer.reason for layer in self.layers if layer.reason}

    def to_frame(self) -> "pd.DataFrame":
        """A row per dense or convolutional layer."""
        import pandas as pd

        return pd.DataFrame([vars(layer) for layer in self.layers])

    def to_latex(self) -> str:
        """A booktabs table of `to_frame`."""
        return self.to_frame().to_latex(index=False, escape=True)

    def __str__(self) -> str:
        from rich.table import Table

        table = Table()
        for column in ("layer", "weights", "bits", "left in float because"):
            table.add_column(column, justify="right" if column in ("weights", "bits") else "left")
        for layer in self.layers:
            table.add_row(layer.name, f"{layer.elements:,}", str(layer.weight_bits), layer.reason)
        saved = 1 - self.bytes_after / self.bytes_before
        title = f"{self.scheme}: {self.bytes_before:,} -> {self.bytes_after:,} bytes ({saved:.1%} saved)"
        count = sum(not layer.reason for layer in self.layers)
        if self.scheme == "dynamic":
            title += f"; only dense layers ({count} of {len(self.layers)}) change"
        return f"{title}, {self.float_parameters:,} parameters stay in float\n{render(table)}"


def quantize(
    model: nn.Module,
    *,
    scheme: Scheme,
    input_size: Any,
    calibration: Iterable[Any] | None = None,
    retrain: Retrain | None = None,
    weight_bits: Literal[8, 4] = 8,
    group_size: int | None = None,
    keep: Sequence[str] = (),
) -> QuantizeResult:
    """A quantized copy of the model; the model itself is not changed.

    Parameters
    ----------
    scheme: "dynamic", int8 weights of dense layers, activations quantized as they come; "static", int8
        weights and activations of dense and convolutional layers, with ranges from `calibration`;
        "weight-only", integer weights of dense and convolutional layers, activations in float; "aware",
        static with the rounding trained in by `retrain`
    input_size: as for `capacity.measure`; the batch dimension stays free
    calibration: (inputs, targets) batches from the training data; needed by "static", and by "aware"
        for ranges before training
    retrain: graph with rounding in it -> trained graph, or what `fit` returns; needed by "aware"
    weight_bits: 8 or 4; weights are rounded per output channel, symmetric about zero, so that pruned
        weights stay zero, in training too. 4 is for "weight-only" and "aware"
    group_size: for "weight-only", at most so many weights of an output share a scale instead of all of
        them: as many whole kernels as fit and divide the inputs
    keep: layers that stay in float

    Masks are folded into the weights. Batch norms behind convolutions are folded by "static" and "aware".

    Raises InputError for a missing or empty calibration set, data that does not fit the model, a model
    already quantized, and layers to keep that do not exist.
    """
    _check(model, scheme, calibration, retrain, weight_bits, keep)
    _check_groups(scheme, group_size)
    plain = fold_masks(clone(model)).cpu().eval()
    args, kwargs = example_input(plain, input_size, device="cpu")
    if kwargs:
        raise InputError("quantization exports the model and takes positional inputs only: a shape or a list")
    graph = prepare(plain, args, scheme, weight_bits, keep, group_size)
    if scheme in ("static", "aware"):
        assert calibration is not None
        _calibrate(graph, calibration)
    elif scheme in ("weight-only", "dynamic"):  # what rounds the weights must have seen them
        with torch.no_grad():
            graph(*args)
    if scheme == "aware":
        assert retrain is not None
        graph = _trained(graph, plain, retrain)
    return replace(_result(plain, convert(graph), scheme, weight_bits, keep), group_size=group_size)


def _check_groups(scheme: str, group_size: int | None) -> None:
    if group_size is None:
        return
    if scheme != "weight-only":
        raise InputError(f"group_size is for scheme 'weight-only', found scheme {scheme!r}")
    if group_size < 1:
        raise InputError(f"group_size must be at least 1, found {group_size}")


def _check(
    model: nn.Module, scheme: str, calibration: Any, retrain: Any, weight_bits: int, keep: Sequence[str]
) -> None:
    if scheme not in SCHEMES:
        raise unknown("scheme", scheme, SCHEMES)
    if weight_bits not in (4, 8):
        raise InputError(f"weight_bits must be 8 or 4, found {weight_bits}")
    if weight_bits == 4 and scheme in ("dynamic", "static"):
        raise InputError(
            f"scheme {scheme!r} has int8 kernels only: use weight_bits=8, or scheme 'weight-only' or 'aware'"
        )
    if scheme in ("static", "aware") and calibration is None:
        raise InputError(
            f"scheme {scheme!r} needs calibration data: without it no observer has seen an activation, and "
            f"the ranges would be guesses"
        )
    if scheme == "aware" and retrain is None:
        raise InputError("scheme 'aware' needs retrain: graph -> trained graph")
    if isinstance(model, torch.fx.GraphModule) and any(
        "quantize" in str(n.target) for n in model.graph.nodes
    ):
        raise InputError("the model is quantized already")
    layers = {name: module for name, module in model.named_modules() if isinstance(module, LAYERS)}
    for name in keep:
        if name not in layers:
            raise unknown("layer to keep in float", name, layers)
    if not layers:
        raise InputError("the model has no dense or convolutional layer to quantize")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings and log lines with which torchao, the exporter and the compiler greet."""
    logs = [logging.getLogger(f"torch.utils.{name}") for name in ("_pytree", "cpp_extension")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


def _without_dropout(model: nn.Module) -> nn.Module:
    for name, module in list(model.named_modules()):
        if name and isinstance(module, nn.modules.dropout._DropoutNd):
            model.set_submodule(name, nn.Identity())
    return model


def prepare(
    plain: nn.Module,
    args: tuple[Any, ...],
    scheme: str,
    weight_bits: int,
    keep: Sequence[str],
    group_size: int | None = None,
) -> torch.fx.GraphModule:
    """The exported model with observers in it, or with trainable rounding."""
    if scheme != "aware":  # dropout does nothing here, and torchao loses an activation's range behind it
        plain = _without_dropout(clone(plain))
    with _quiet():
        from torchao.quantization.pt2e import allow_exported_model_train_eval
        from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e, prepare_qat_pt2e

        from compression.quantizers import quantizer_of

        batch = torch.export.Dim("batch", min=1, max=65_536)
        twice = tuple(torch.cat([tensor, tensor]) for tensor in args)
        try:
            exported = torch.export.export(plain, twice, dynamic_shapes=tuple({0: batch} for _ in twice))
        except Exception as error:  # whatever the exporter stumbles over
            reason = " ".join(str(error).split())[:300]
            raise InputError(f"the model cannot be exported for quantization: {reason}") from error
        quantizer = quantizer_of(scheme, weight_bits, keep, group_size)
        instrument = prepare_qat_pt2e if scheme == "aware" else prepare_pt2e
        graph: torch.fx.GraphModule = instrument(exported.module(), quantizer)
        allow_exported_model_train_eval(graph)
    return graph


def _calibrate(graph: nn.Module, calibration: Iterable[Any]) -> None:
    """Show the observers the calibration data; raises InputError if there is none or it does not fit."""
    try:
        count = exercise(graph, calibration)
    except InputError as error:
        raise InputError(f"the calibration data does not fit the model: {error}") from error
    if not count:
        raise InputError("the calibration data is empty: no observer has seen an activation")


def _trained(graph: nn.Module, plain: nn.Module, retrain: Retrain) -> Any:
    """Train a graph with rounding in it; weights that are zero in the model, pruned ones, stay zero."""
    names = {name for name, _ in graph.named_parameters()}
    kept = {name: p.detach() != 0 for name, p in plain.named_parameters() if name in names and p.dim() > 1}
    zeros = _KeepZeros({name: mask for name, mask in kept.items() if not bool(mask.all())})
    graph.register_forward_pre_hook(zeros)
    trained = model_of(retrain(graph))
    zeros(trained)
    trained._forward_pre_hooks.clear()
    return trained


class _KeepZeros:
    """A hook before each forward pass: what the masks drop is zero again."""

    def __init__(self, masks: Mapping[str, Tensor]) -> None:
        self.masks = masks

    @torch.no_grad()
    def __call__(self, module: nn.Module, inputs: Any = None) -> None:
        for name, mask in self.masks.items():
            parameter = module.get_parameter(name)
            parameter.mul_(mask.to(parameter.device))


def convert(graph: Any) -> torch.fx.GraphModule:
    """Weights as integers; float weights that the graph no longer reads are dropped."""
    with _quiet():
        from torchao.quantization.pt2e import allow_exported_model_train_eval
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

        graph.eval()
        converted: torch.fx.GraphModule = convert_pt2e(graph)
        allow_exported_model_train_eval(converted)
    for node in converted.graph.nodes:
        if str(node.target) == "torchao.dequantize_affine":  # groups are symmetric: no zero points to keep
            node.args = (*node.args[:3], None, *node.args[4:])
    converted.graph.eliminate_dead_code()
    converted.recompile()
    used = {str(node.target) for node in converted.graph.nodes if node.op == "get_attr"}
    for name in [*dict(converted.named_parameters()), *dict(converted.named_buffers())]:
        if name not in used:
            owner, _, key = name.rpartition(".")
            delattr(converted.get_submodule(owner), key)
    converted.eval()
    return converted


def _result(
    plain: nn.Module, graph: torch.fx.GraphModule, scheme: str, weight_bits: int, keep: Sequence[str]
) -> QuantizeResult:
    rows, inside = [], 0
    for name, module in plain.named_modules():
        if not isinstance(module, LAYERS):
            continue
        dense = isinstance(module, nn.Linear)
        reason = "dynamic quantization is for dense layers" if scheme == "dynamic" and not dense else ""
        reason = "as asked" if name in keep else reason
        weight = module.weight
        rows.append(QuantizedLayer(name, weight.numel(), 32 if reason else weight_bits, reason))
        if not reason:
            inside += weight.numel() + (module.bias.numel() if module.bias is not None else 0)
    before = sum(t.numel() * t.element_size() for t in plain.state_dict().values())
    total = sum(p.numel() for p in plain.parameters())
    return QuantizeResult(
        graph, scheme, before, stored_bytes(graph, weight_bits), tuple(rows), total - inside
    )


def stored_bytes(graph: nn.Module, weight_bits: int) -> int:
    """Bytes of all tensors of a quantized graph; int8 tensors that hold 4-bit values count half."""
    total = 0
    for tensor in graph.state_dict().values():
        size = tensor.numel() * tensor.element_size()
        total += -(-size // 2) if weight_bits == 4 and tensor.dtype == torch.int8 else size
    return total


def compiled(graph: nn.Module, example: Tensor) -> Callable[[Tensor], Any]:
    """The quantized graph as integer kernels called from C++, by Inductor, for inputs like `example`; frozen.

    Raises InputError where it cannot be compiled (no C++ compiler), with what works instead, and, when
    called, for inputs of another shape.
    """
    from torch._inductor import config

    ready = torch.compile(graph, dynamic=False)
    try:
        with _quiet(), config.patch(freezing=True, cpp_wrapper=True), torch.no_grad():
            ready(example)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"the quantized graph cannot be compiled here ({reason}); run it as it is, or export it to ONNX"
        ) from error

    def call(inputs: Tensor) -> Any:
        if inputs.shape != example.shape:
            raise InputError(
                f"compiled for inputs of shape {tuple(example.shape)}, found {tuple(inputs.shape)}"
            )
        with torch.no_grad():
            return ready(inputs)

    return call
