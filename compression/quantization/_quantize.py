"""quantize(): dynamic, static, weight-only and quantization-aware integers, on torchao's export path.

The model is exported, annotated by a quantizer, calibrated or trained, and converted into a graph whose
weights are stored as integers. Run as it is, the graph computes what the integers mean in floats, which is
the reference for accuracy; `compiled` turns it into integer kernels where the machine has them.
"""

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any, Literal, TypedDict, Unpack

import torch
from torch import Tensor, fx, nn

from capacity import checks
from capacity.cloning import clone, plain_copy, unwrapped
from capacity.errors import InputError, unknown
from capacity.inputs import example_input, forward, refusing, require_weights, tensors_in
from compression.counting import all_finite, flush_subnormals, rounded_tensors
from compression.epochs import require_batches
from compression.evaluation import exercise
from compression.options import with_options
from compression.quantization.agreement import Watched, agreement_db, warn_if_weak
from compression.quantization.exporting import (
    drop_dropout,
    exported,
    fix_mode,
    follow_mode,
    follows_mode,
    hide_norms,
    norms_of,
    own_modes,
    show_norms,
)
from compression.quantization.module_integers import require_read, store_integers
from compression.quantization.results import (
    QuantizeResult,
    Rounding,
    result_of_graph,
    result_of_modules,
)
from compression.quantization.runtimes import difference
from compression.quantization.stored_integers import (
    buffers_written,
    integer_weights,
    rounds_activations,
    weights_of_observers,
    weights_reached,
)
from compression.training import Retrain, model_of
from compression.verification import Arguments, probes

Scheme = Literal["dynamic", "static", "weight-only", "aware"]
SCHEMES = ("dynamic", "static", "weight-only", "aware")
LOGS = (
    "utils._pytree", "utils.cpp_extension", "fx.experimental.symbolic_shapes", "_dynamo.variables.tensor",
)  # fmt: skip
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class RoundingOptions(TypedDict, total=False):
    """How many bits `quantize` rounds weights to, which of them share a scale, and which layers it leaves."""

    weight_bits: Literal[8, 4]
    group_size: int | None
    keep: Sequence[str]


ROUNDING: RoundingOptions = {"weight_bits": 8, "group_size": None, "keep": ()}


@checks.arguments(
    scheme=checks.word(*SCHEMES),
    calibration=checks.optional(require_batches),
    retrain=checks.optional(checks.function(1)),
    weight_bits=checks.count,
    group_size=checks.optional(checks.count),
    keep=checks.names,
)
@with_options(ROUNDING)
def quantize(
    model: nn.Module,
    *,
    scheme: Scheme,
    input_size: Any,
    calibration: Iterable[Any] | None = None,
    retrain: Retrain | None = None,
    **options: Unpack[RoundingOptions],
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
    weight_bits: 8 or 4; weights are rounded per output channel (per input channel in transposed
        convolutions of several groups), symmetric about zero, so that pruned weights stay zero, in training
        too. 4 is for "weight-only" and "aware"
    group_size: for "weight-only", at most so many weights of an output share a scale instead of all of
        them: as many whole kernels as fit and divide the inputs
    keep: layers that stay in float

    Masks and parametrizations are folded into the weights. Batch norms behind convolutions are folded by
    "static" and "aware"; the graph that `retrain` is given follows train() and eval(), with the dropout
    rates, epsilons and momenta of the model.

    What cannot be exported as a graph (data-dependent control flow, a batch size fixed by the code) keeps its
    modules under "weight-only", whose weights are stored as integers, compared with the floats that they
    stand for on the example and on a random input: see `QuantizeResult.not_exported`.

    Where "static" drowns the outputs for a calibration batch in noise, it warns (`QuantizeResult.sqnr_db`).

    Raises InputError for a missing or empty calibration set, data that does not fit the model, a model
    already quantized, weights that are not finite numbers in single precision, layers to keep that do not
    exist, and whatever torchao cannot quantize.
    """
    model = unwrapped(model)
    weight_bits, group_size, keep = options["weight_bits"], options["group_size"], options["keep"]
    _check(model, scheme, calibration, retrain, weight_bits, keep)
    _check_groups(scheme, group_size)
    require_weights(model)
    plain = plain_copy(model).cpu().eval()
    require_single(plain)
    _check_numbers(plain, scheme)
    subnormals = flush_subnormals(plain)
    args, kwargs = example_input(plain, input_size, device="cpu")
    state = {name: tensor.clone() for name, tensor in plain.named_buffers()}
    with torch.no_grad():  # a wrong size is told here in one line, where the exporter writes a log
        forward(plain, args, kwargs)
    rounding = Rounding(scheme, weight_bits, group_size, tuple(keep))
    watched = None if calibration is None else Watched(calibration)
    try:
        result = _as_graph(plain, (args, kwargs), rounding, watched, retrain)
    except InputError as error:
        if scheme != "weight-only":
            raise
        try:
            result = _in_modules(model, input_size, rounding, error)
        except InputError as second:
            raise InputError(f"{error}; nor can its own modules hold integers: {second}") from error
    sqnr_db = None
    if scheme == "static" and watched is not None:
        sqnr_db = agreement_db(plain_copy(model).cpu().eval(), result.model, watched.first)
        warn_if_weak(scheme, sqnr_db)
    if scheme != "aware":
        _restore(result.model, state)
    return replace(result, group_size=group_size, subnormals=subnormals, keep=tuple(keep), sqnr_db=sqnr_db)


def _as_graph(
    plain: nn.Module,
    example: Arguments,
    rounding: Rounding,
    calibration: Iterable[Any] | None,
    retrain: Retrain | None,
) -> QuantizeResult:
    """The model exported, its weights stored as integers in the graph."""
    args, kwargs = example
    scheme = rounding.scheme
    graph = prepare(plain, example, rounding)
    if scheme in ("static", "aware"):
        assert calibration is not None
        _calibrate(graph, calibration)
    else:  # what rounds the weights must have seen them
        with unquantizable(scheme), torch.no_grad():
            graph(*args, **kwargs)
    if scheme == "aware":
        assert retrain is not None
        graph = _trained(graph, retrain)
    with unquantizable(scheme):
        observers, reached = weights_of_observers(graph), weights_reached(graph)
        converted = convert(graph)
        integers = integer_weights(converted, observers)
    return result_of_graph(plain, converted, rounding, (integers, reached))


@torch.no_grad()
def _restore(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give buffers that a graph itself writes, such as a recurrent state, the values that they had."""
    own = dict(network.named_buffers())
    for name in buffers_written(network):
        if name in state and name in own:
            own[name].copy_(state[name])


def _in_modules(
    model: nn.Module, input_size: Any, rounding: Rounding, obstacle: InputError
) -> QuantizeResult:
    """A copy with its own modules, their weights stored as integers."""
    floats = plain_copy(model).cpu().eval()
    flush_subnormals(floats)
    network = clone(floats)
    with refusing(lambda reason: reason), quiet():
        rows = store_integers(network, rounding.weight_bits, rounding.group_size, rounding.keep)
        rounded = [target for target, reason in rows.values() if not reason]
        if rounded:
            example, _, noise, *_ = probes(floats, input_size)
            require_read(network, floats, rounded, (example, noise))
    return result_of_modules(floats, network, rounding, rows, str(obstacle))


def unquantizable(scheme: str) -> AbstractContextManager[None]:
    """Whatever torch and torchao raise inside becomes an InputError."""
    return refusing(
        lambda reason: (
            f"the model cannot be quantized by scheme {scheme!r} ({reason}); try another scheme, or keep "
            f"the layers that it names in float"
        )
    )


def require_single(plain: nn.Module) -> None:
    """Raise InputError for parameters of another precision than float32."""
    for name, tensor in plain.named_parameters():
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise InputError(
                f"quantization takes float32, and {name} is {tensor.dtype}: pass model.float(), whose inputs "
                f"and calibration data are float32 too"
            )


def _check_numbers(plain: nn.Module, scheme: str) -> None:
    for name, tensor in plain.named_parameters():
        if tensor.is_floating_point() and not all_finite(tensor):
            raise InputError(f"{name} holds NaN or infinity, which no integer stands for")
    for name, module in plain.named_modules():
        average = isinstance(module, nn.modules.batchnorm._BatchNorm) and module.momentum is None
        if scheme == "aware" and average:
            raise InputError(
                f"batch norm {name!r} averages all batches alike (momentum=None), which a graph cannot: "
                f"give it a momentum such as 0.1 for scheme 'aware'"
            )


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
    if rounded_tensors(model) or rounds_activations(model):
        raise InputError("the model is quantized already")
    layers = {name: module for name, module in model.named_modules() if isinstance(module, LAYERS)}
    for name in keep:
        if name not in layers:
            raise unknown("layer to keep in float", name, layers)
    if not layers and not any(parameter.dim() > 1 for parameter in model.parameters()):
        raise InputError("the model has no dense or convolutional layer to quantize")


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings and log lines with which torchao, the exporter and the compiler greet."""
    logs = [logging.getLogger(f"torch.{name}") for name in LOGS]
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


@torch.random.fork_rng()
def prepare(
    plain: nn.Module,
    given: Arguments,
    rounding: Rounding,
) -> fx.GraphModule:
    """The exported model with observers in it, or with trainable rounding; `given`: args and kwargs."""
    scheme = rounding.scheme
    with quiet(), unquantizable(scheme):
        from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e, prepare_qat_pt2e

        from compression.quantization.patterns import few_patterns
        from compression.quantization.quantizers import quantizer_of

        graph = exported(plain, *given)
        norms = norms_of(graph)
        if scheme != "aware":
            drop_dropout(graph)
        quantizer = quantizer_of(scheme, rounding.weight_bits, rounding.keep, rounding.group_size)
        instrument = prepare_qat_pt2e if scheme == "aware" else prepare_pt2e
        hide_norms(graph, without_weights=True)
        with few_patterns():
            prepared: fx.GraphModule = instrument(graph, quantizer)
        show_norms(prepared)
        if scheme == "aware":
            follow_mode(prepared, norms)
        else:
            own_modes(prepared)
    return prepared


@torch.random.fork_rng()  # histograms are merged at random places
def _calibrate(graph: nn.Module, calibration: Iterable[Any]) -> None:
    """Show the observers the calibration data; raises InputError if there is none or it does not fit."""
    try:
        count = exercise(graph, calibration)
    except InputError as error:
        raise InputError(f"the calibration data does not fit the model: {error}") from error
    if not count:
        raise InputError("the calibration data is empty: no observer has seen an activation")


def _trained(graph: nn.Module, retrain: Retrain) -> Any:
    """Train a graph with rounding in it; weights that are zero, pruned ones, stay zero."""
    masks = {name: p.detach() != 0 for name, p in graph.named_parameters() if p.dim() > 1}
    zeros = _KeepZeros({name: mask for name, mask in masks.items() if not bool(mask.all())})
    graph.register_forward_pre_hook(zeros)
    trained = model_of(retrain(graph))
    zeros(trained)
    trained._forward_pre_hooks.clear()
    return trained.cpu()  # where integers are computed, wherever it was trained


class _KeepZeros:
    """A hook before each forward pass: what the masks drop is zero again."""

    def __init__(self, masks: Mapping[str, Tensor]) -> None:
        self.masks = masks

    @torch.no_grad()
    def __call__(self, module: nn.Module, inputs: Any = None) -> None:
        for name, mask in self.masks.items():
            parameter = module.get_parameter(name)
            parameter.mul_(mask.to(parameter.device))


@torch.random.fork_rng()  # torchao traces patterns with random tensors
def convert(graph: Any) -> fx.GraphModule:
    """Weights as integers; float weights that the graph no longer reads are dropped."""
    with quiet():
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

        from compression.quantization.patterns import few_patterns

        graph.eval()
        if follows_mode(graph):
            fix_mode(graph)
            with few_patterns():
                converted: fx.GraphModule = convert_pt2e(graph)
        else:
            hide_norms(graph)
            converted = convert_pt2e(graph)
            show_norms(converted)
        own_modes(converted)
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
    flush_subnormals(converted)
    return converted


def compiled(graph: nn.Module, example: Tensor) -> Callable[[Tensor], Any]:
    """The quantized graph as integer kernels called from C++, by Inductor, for inputs like `example`; frozen.

    Raises InputError where it cannot be compiled (no C++ compiler), with what works instead, where the
    kernels compute something else than the graph for the example, and, when called, for inputs of another
    shape.
    """
    from torch._inductor import config

    ready = torch.compile(graph, dynamic=False)
    refused = refusing(
        lambda reason: (
            f"the quantized graph cannot be compiled here ({reason}); run it as it is, or export it to ONNX"
        ),
        200,
    )
    with refused, quiet(), config.patch(freezing=True, cpp_wrapper=True), torch.no_grad():
        outputs = tensors_in(ready(example))
    theirs = [tensor for tensor in outputs if tensor.is_floating_point()]
    if gap := difference(graph, (example,), {}, theirs):
        raise InputError(f"what the compiled kernels compute {gap}; run the graph as it is")

    def call(inputs: Tensor) -> Any:
        if inputs.shape != example.shape:
            raise InputError(
                f"compiled for inputs of shape {tuple(example.shape)}, found {tuple(inputs.shape)}"
            )
        with torch.no_grad():
            return ready(inputs)

    return call
