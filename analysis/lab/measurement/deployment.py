"""Every figure of a compressed network, measured one way whatever the technique.

Operations, bytes and times are never guessed from one another: `theoretical_bytes` is what papers often
report, `file_bytes` what lies on disk; a mask alone is flagged, and a speed-up stands only beside a time.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from analysis.lab.runner import Runner
from capacity import InputError, measure
from capacity.cloning import plain_copy
from compression.codec import coding_report, encode
from compression.costs import flops, peak_memory_bytes, time_calls, wall_ms
from compression.counting import distinct, nonzero_count, parameter_count, stored_tensors
from compression.evaluation import evaluate, outputs
from compression.masks import masks_of
from compression.quantization import QuantizeResult, compiled
from compression.quantization.files import export_onnx, save_quantized

BATCHES = (1, 32)


@dataclass(frozen=True)
class CompressedModel:
    """A compressed network, ready to be measured.

    Parameters
    ----------
    model: what is run
    counted: the float network whose parameters, operations and capacity count; a quantized graph has those
        of the network it was made from, since rounding to a bit or more leaves the capacity as it is
    weight_bits: bits of a weight in theory
    quantized: what `quantize` returned, for graphs
    coded: whether its file is the one that `encode` writes
    """

    model: nn.Module
    counted: nn.Module
    weight_bits: float = 32
    quantized: QuantizeResult | None = None
    coded: bool = False


class Timing(Protocol):
    """Settings of a command: how often a network is timed, and by which integer kernels."""

    @property
    def repeats(self) -> int: ...
    @property
    def compile(self) -> bool: ...
    @property
    def onnx(self) -> bool: ...


def measure_deployment(
    contender: CompressedModel,
    base: nn.Module,
    runner: Runner,
    timing: Timing,
) -> dict[str, Any]:
    """All figures of a contender beside the baseline `base`; see METRICS for what each is.

    `right` holds which test points it classified correctly, as hexadecimal digits of packed bits; a language
    model, whose points depend on those before, has `perplexity` instead.
    """
    logits, targets = outputs(contender.model, runner.data.test.batches(500))
    scores = evaluate(nn.Identity(), [(logits, targets)])
    plain = plain_copy(contender.counted)
    report = measure(
        plain, runner.data.input_size, convention=runner.config.convention, scope="trainable", effective=True
    )
    nonzero = nonzero_count(plain)
    row: dict[str, Any] = scores.to_dict() | {
        "capacity_bits": report.capacity_bits,
        "points_per_bit": runner.bits_used(report, scores)["points_per_bit"],
        "convention": report.convention,
        "parameters": parameter_count(plain),
        "nonzero_parameters": nonzero,
        "live_parameters": report.parameters,
        "flops": flops(plain, runner.data.input_size),
        "theoretical_bytes": _theoretical_bytes(contender, nonzero),
        "mask_only": bool(masks_of(contender.model)) and not contender.coded,
    }
    if targets.dim() > 1:
        row["perplexity"] = math.exp(scores.cross_entropy_nats)
    else:
        row["right"] = packed(logits.argmax(1) == targets)
    row |= _bytes(contender)
    return row | _costs(contender, base, runner, timing)


METRICS = (  # what is measured; how each is called and shown: analysis.lab.reporting.columns
    "top1_error", "perplexity", "top5_error", "kappa", "capacity_bits", "points_per_bit", "parameters",
    "nonzero_parameters", "live_parameters", "flops", "file_bytes", "coded_bytes", "theoretical_bytes",
    "latency_1_ms", "speedup_1", "latency_32_ms", "speedup_32", "peak_memory_bytes",
)  # fmt: skip


def packed(right: Tensor) -> str:
    """Booleans as hexadecimal digits, eight to two of them.

    >>> packed(torch.tensor([True, False, False, False, False, False, False, True, True]))
    '8180'
    """
    return np.packbits(right.cpu().numpy()).tobytes().hex()


def unpacked(digits: str, count: int) -> np.ndarray:
    """What `packed` packed: (count,) booleans.

    >>> unpacked("8180", 9).sum()
    np.int64(3)
    """
    return np.unpackbits(np.frombuffer(bytes.fromhex(digits), dtype=np.uint8), count=count).astype(bool)


def file_bytes(model: nn.Module) -> int:
    """Bytes of the model's state dict as a safetensors file, tied tensors stored once."""
    from safetensors.torch import save

    state = {name: tensor.detach() for name, tensor in stored_tensors(model).items()}
    once = {id(tensor) for tensor in distinct(state.values())}
    return len(save({k: value.contiguous().clone() for k, value in state.items() if id(value) in once}))


def _theoretical_bytes(contender: CompressedModel, nonzero: int) -> int:
    """Non-zero parameters at their bits, as papers count; of coded networks the entropy of what is coded."""
    if not contender.coded:
        return round(nonzero * contender.weight_bits / 8)
    tensors = coding_report(plain_copy(contender.model)).tensors
    return round(sum(t.entropy_bytes + t.book_bytes for t in tensors))


def _bytes(contender: CompressedModel) -> dict[str, Any]:
    """Bytes of the file that this technique would be shipped in, and of one with all that is known coded."""
    with TemporaryDirectory() as folder:
        coded = encode(plain_copy(contender.model), Path(folder) / "net.dcz")
        if contender.quantized is not None:
            size = save_quantized(contender.quantized, Path(folder) / "net.safetensors")
        else:
            size = coded if contender.coded else file_bytes(plain_copy(contender.model))
    return {"file_bytes": size, "coded_bytes": coded}


def _costs(contender: CompressedModel, base: nn.Module, runner: Runner, timing: Timing) -> dict[str, Any]:
    """Times beside the baseline's in eager mode, taking turns; nothing where only the reference path runs."""
    size = runner.data.input_size
    row: dict[str, Any] = {"execution": "eager", "threads": torch.get_num_threads(), "steady": True}
    row["peak_memory_bytes"] = None
    if contender.quantized is None:
        row["peak_memory_bytes"] = peak_memory_bytes(contender.model, size)
    plain, reference = plain_copy(contender.model).eval(), plain_copy(base).eval()
    integers = None
    if contender.quantized is not None:
        integers = IntegerKernels(contender.quantized, size, timing.compile, timing.onnx)
    for batch in BATCHES:
        x = samples(size, batch).to(runner.device if integers is None else "cpu")
        run: Callable[[], Any] | None = partial(plain, x)
        if integers is not None:
            run, row["execution"] = integers.on(x)
        names = (f"latency_{batch}_ms", f"base_latency_{batch}_ms", f"speedup_{batch}")
        if run is None:
            row |= dict.fromkeys(names)
            continue
        beside = reference.to(x.device)
        pair = [partial(wall_ms, synchronized(call, x.device)) for call in (run, partial(beside, x))]
        ours, theirs = time_calls(pair, devices=[str(x.device)] * 2, batch_size=batch, repeats=timing.repeats)
        figures_ = (ours.median_ms, theirs.median_ms, theirs.median_ms / ours.median_ms)
        row |= dict(zip(names, figures_, strict=True))
        row["steady"] = row["steady"] and ours.steady and theirs.steady
    return row


def samples(size: Any, count: int) -> Tensor:
    """So many random samples of a shape; where it is an example of ids, that one repeated.

    >>> samples(torch.tensor([[3, 1]]), 2).tolist()
    [[3, 1], [3, 1]]
    """
    return size.repeat_interleave(count, 0) if isinstance(size, Tensor) else torch.randn(count, *size)


def synchronized(call: Callable[[], Any], device: torch.device) -> Callable[[], Any]:
    """A call that ends when its device has finished, so that a wall clock sees all of it."""
    if device.type != "cuda":
        return call

    def to_the_end() -> None:
        call()
        torch.cuda.synchronize()

    return to_the_end


class IntegerKernels:
    """A quantized graph in integer kernels: compiled for each shape, or exported once to ONNX Runtime."""

    def __init__(self, result: QuantizeResult, size: Any, compile_integers: bool, onnx: bool = True) -> None:
        self.result, self.size, self.compile_integers, self.onnx = result, size, compile_integers, onnx

    def on(self, x: Tensor) -> tuple[Callable[[], Any] | None, str]:
        """How to run it on `x`, and by what; None where only the reference path in float does."""
        if self.compile_integers:
            try:
                return partial(compiled(self.result.model, x), x), "compiled"
            except InputError:
                pass
        session = self._session
        if session is None:
            return None, "reference, not timed"
        name, values = session.get_inputs()[0].name, x.numpy()
        return lambda: session.run(None, {name: values}), "ONNX Runtime"

    @cached_property
    def _session(self) -> Any:
        """The graph in ONNX Runtime; None where not asked for, not installed, or without a form for it."""
        if not self.onnx or find_spec("onnxruntime") is None:
            return None
        with TemporaryDirectory() as folder:
            try:
                export_onnx(self.result.model, Path(folder) / "net.onnx", input_size=self.size)
            except InputError:
                return None
            return onnx_session(Path(folder) / "net.onnx")


def onnx_session(path: Path) -> Any:
    """A network in ONNX Runtime on as many threads as torch has, fit to be timed beside torch.

    Its threads do not spin while they wait: they would take the cores from whatever is timed in turns with
    it, and torch looked half as fast as it is.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options)
