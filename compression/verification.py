"""Do two networks compute the same? Outputs compared on an example and on random inputs of several sizes.

Whatever removes, zeroes or replaces weights asks here before it returns.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from capacity.errors import InputError
from capacity.inputs import example_input, map_tensors, tensors_in
from capacity.kernels import single_precision
from capacity.seeding import seed_generators
from compression.epochs import evaluation_mode

MAGNITUDES = (0.1, 1.0, 10.0)  # standard deviations of random inputs, beside the example itself
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def probes(model: nn.Module, input_size: Any, *, seed: int = 0) -> list[Arguments]:
    """Positional and keyword arguments of several forward passes, a batch of one each unless given.

    The first is the example of `capacity.measure`; the others hold normal noise of each of MAGNITUDES in
    place of its floats and, in place of integers, integers drawn from the range the example spans.
    """
    place = next(iter([*model.parameters(), *model.buffers()]), torch.zeros(()))
    example = example_input(model, input_size, device=str(place.device))
    generator = torch.Generator().manual_seed(seed)

    def noise(tensor: Tensor, magnitude: float) -> Tensor:
        if tensor.is_floating_point():
            drawn = torch.randn(tensor.shape, generator=generator) * magnitude
            return drawn.to(tensor.device, tensor.dtype)
        if tensor.dtype == torch.bool or tensor.is_complex() or not tensor.numel():
            return tensor
        low, high = int(tensor.min()), int(tensor.max())
        return torch.randint(low, high + 1, tensor.shape, generator=generator).to(tensor.device, tensor.dtype)

    return [example] + [
        map_tensors(example, lambda t, size=size: noise(t, size))  # type: ignore[misc]
        for size in MAGNITUDES
    ]


def outputs(model: nn.Module, inputs: Sequence[Arguments], *, seed: int = 0) -> list[list[Tensor]]:
    """Tensors that the model returns in evaluation mode for each input, in order; its mode is left as it was.

    Random operations inside the model draw from `seed` anew for each input.
    """
    outputs_ = []
    with evaluation_mode(model), torch.no_grad(), torch.random.fork_rng(), single_precision():
        for args, kwargs in inputs:
            seed_generators(seed)
            outputs_.append([tensor.clone() for tensor in tensors_in(model(*args, **kwargs))])
    return outputs_


def require_telling(expected: Sequence[Sequence[Tensor]]) -> None:
    """Raise InputError for outputs that say nothing: none at all, or none that is a finite number."""
    tensors = [tensor for each in expected for tensor in each]
    if not tensors:
        raise InputError("the model returns no tensors, so nothing tells whether it stays the same")
    if any(tensor.numel() for tensor in tensors) and not any(bool(t.isfinite().any()) for t in tensors):
        raise InputError(
            "the model's outputs are NaN or infinite, on an example and on random inputs, so nothing tells "
            "whether it stays the same"
        )


def relative_difference(expected: Sequence[Sequence[Tensor]], actual: Sequence[Sequence[Tensor]]) -> float:
    """The largest |expected - found| over all outputs, each in units of its largest expected magnitude.

    NaN and infinities count as equal where both have them, else as infinitely far; so do outputs of
    another number or shape.

    >>> relative_difference([[torch.tensor([2.0, 4.0])]], [[torch.tensor([2.0, 3.0])]])
    0.25
    """
    largest = 0.0
    for before, after in zip(expected, actual, strict=True):
        if [tensor.shape for tensor in before] != [tensor.shape for tensor in after]:
            return math.inf
        for one, two in zip(before, after, strict=True):
            largest = max(largest, _apart(one, two))
    return largest


def _apart(one: Tensor, two: Tensor) -> float:
    if not one.numel():
        return 0.0
    one, two = one.detach().double(), two.detach().double()
    equal = (one == two) | (one.isnan() & two.isnan())
    if bool(equal.all()):
        return 0.0
    finite = one.isfinite() & two.isfinite()
    if bool((~finite & ~equal).any()):
        return math.inf
    scale = float(one[one.isfinite()].abs().max())
    return float((one - two)[~equal].abs().max()) / max(scale, torch.finfo(torch.float32).tiny)


def tolerance(model: nn.Module) -> float:
    """The relative difference that rounding explains, by the coarsest of the model's floating types."""
    kinds = {tensor.dtype for tensor in model.parameters() if tensor.is_floating_point()}
    return max((TOLERANCES.get(kind, 1e-4) for kind in kinds), default=1e-4)
