"""Whether what runs a network in another way computes what the network computes."""

import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from capacity.cloning import clone
from capacity.errors import InputError
from capacity.inputs import first_line, forward, map_tensors, tensors_in
from capacity.seeding import seed_generators
from compression.counting import all_finite
from compression.quantization.agreement import decibels, powers

AGREE_DB = 40.0  # signal to noise from which on two ways to compute a network are the same one
SLACK_DB = 10.0  # by which sums in another order in every layer may move outputs more than a few draws
MOVED = 3e-6  # the part of a number that a long sum in single precision rounds
DRAWS = 3  # a single one may turn no integer into the next
LEAST = 1e-6  # below, outputs are as good as zero


def require_agreement(
    program: Any, network: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], path: str | Path
) -> None:
    """Raise InputError where ONNX Runtime's outputs lie further from the network's than rounding explains.

    Below 40 dB the network is compared with itself, its numbers moved by millionths: integers between the
    layers turn the order of a sum into other steps, and a deep network these into outputs that differ by
    almost as much as rounding does in all. Nothing is compared without ONNX Runtime, for outputs that are
    drawn at random and for those that are no floats. Warns where ONNX Runtime cannot run what was exported.
    """
    if find_spec("onnxruntime") is None:
        return
    try:
        program.initialize_inference_session(_session)
        theirs = [tensor for tensor in program(*args, **kwargs) if tensor.is_floating_point()]
    except Exception as error:  # whatever a runtime says of operations that it does not have
        reason = first_line(error)
        warnings.warn(f"{path} could not be tried: ONNX Runtime cannot run it: {reason}", stacklevel=4)
        return
    finally:
        program.release()
    if gap := difference(network, args, kwargs, theirs):
        raise InputError(f"{path} was not written: what ONNX Runtime computes from it {gap}")


def difference(
    network: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], theirs: Sequence[Tensor]
) -> str:
    """How outputs that something else computed differ from a network's by more than rounding explains.

    Empty where they agree: see `require_agreement`.
    """
    right = _outputs(network, args, kwargs)
    apart_db = distance_db(right, theirs)
    if apart_db >= AGREE_DB or distance_db(right, _outputs(network, args, kwargs, seed=1)) < AGREE_DB:
        return ""
    moved = (_outputs(*_moved(network, args, kwargs, seed)) for seed in range(DRAWS))
    least_db = min(AGREE_DB, min(distance_db(right, outputs) for outputs in moved) - SLACK_DB)
    if apart_db >= least_db:
        return ""
    return (
        f"lies {apart_db:.1f} dB from the network's outputs (signal to noise), where {least_db:.1f} dB are "
        "expected"
    )


def distance_db(right: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    """10·log10(Σ y² / Σ (y - ŷ)²) of each output, and of those the least; infinite for equal ones.

    Outputs of zeros agree with what is next to zero, and what is not finite with the same.

    >>> distance_db([torch.tensor([3.0, 4.0])], [torch.tensor([3.0, 4.5])])
    20.0
    >>> distance_db([torch.zeros(2)], [torch.zeros(3)])
    -inf
    """
    if [tensor.shape for tensor in right] != [tensor.shape for tensor in others]:
        return -torch.inf
    return min((_apart_db(*pair) for pair in zip(right, others, strict=True)), default=torch.inf)


def _apart_db(right: Tensor, other: Tensor) -> float:
    if not (all_finite(right) and all_finite(other)):
        finite = right.isfinite()
        if not torch.equal(*(tensor[~finite].double().nan_to_num() for tensor in (right, other))):
            return -torch.inf
        right, other = right[finite], other[finite]
        if not all_finite(other):
            return -torch.inf
    signal, noise = powers(right, other)
    if signal == 0 and noise <= LEAST**2 * right.numel():
        return torch.inf
    return decibels(signal, noise)


def _outputs(network: nn.Module, args: Any, kwargs: Any, *, seed: int = 0) -> list[Tensor]:
    with torch.random.fork_rng(), torch.no_grad():
        seed_generators(seed)
        outputs = tensors_in(forward(clone(network), args, kwargs))
    return [tensor for tensor in outputs if tensor.is_floating_point()]


def _moved(network: nn.Module, args: Any, kwargs: Any, seed: int = 0) -> tuple[nn.Module, Any, Any]:
    """A copy whose floats, and inputs that, are moved by a part that rounding may move them by."""
    generator = torch.Generator().manual_seed(seed)

    def moved(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        noise = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype).to(tensor.device)
        return tensor * (1 + MOVED * noise)

    copied = clone(network)
    with torch.no_grad():
        for tensor in (*copied.parameters(), *copied.buffers()):
            tensor.copy_(moved(tensor))
    return copied, map_tensors(args, moved), map_tensors(kwargs, moved)


def _session(model: str | bytes) -> Any:
    """A session whose threads wait without turning, and which says nothing of its own."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
