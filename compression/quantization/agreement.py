"""How far a rounded network's outputs lie from those of the float network, on data that it was made for."""

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from capacity.cloning import clone
from capacity.inputs import tensors_in
from capacity.seeding import seed_generators
from compression.evaluation import run_batches

WEAK_DB = 6.0  # below it, what rounding adds is half as large as what it is added to
PART = 2**20  # numbers that are taken to double precision at once


class Watched:
    """Batches that are gone through as they are, of which the first is kept."""

    def __init__(self, batches: Iterable[Any]) -> None:
        self.batches = batches
        self.first: list[Any] = []

    def __iter__(self) -> Iterator[Any]:
        for batch in self.batches:
            if not self.first:
                self.first.append(batch)
            yield batch


def agreement_db(floats: nn.Module, rounded: nn.Module, batches: Sequence[Any]) -> float | None:
    """`least_sqnr_db` of what two networks return for these batches, each run as a copy.

    None where that cannot be told: without batches, for outputs that no one can take apart, and where two
    passes of the float network give different ones, as random operations do.
    """
    if not batches:
        return None
    try:
        right = _outputs(floats, batches)
        again = _outputs(floats, batches, seed=1)
        if any(not torch.equal(*pair) for pair in zip(right, again, strict=True)):
            return None
        del again
        return least_sqnr_db(right, _outputs(rounded, batches))
    except Exception:  # whatever a copy or a container raises: the network is rounded, and this is advice
        return None


def _outputs(network: nn.Module, batches: Sequence[Any], *, seed: int = 0) -> list[Tensor]:
    with torch.random.fork_rng():
        seed_generators(seed)
        tensors = tensors_in(run_batches(clone(network), batches))
    return [tensor.detach().cpu() for tensor in tensors if tensor.is_floating_point()]


def least_sqnr_db(floats: Sequence[Tensor], rounded: Sequence[Tensor]) -> float | None:
    """10·log10(Σ y² / Σ (y - ŷ)²) of each output, and of those the least; None where nothing can be compared.

    >>> least_sqnr_db([torch.tensor([3.0, 4.0])], [torch.tensor([3.0, 4.5])])
    20.0
    """
    if [tensor.shape for tensor in floats] != [tensor.shape for tensor in rounded]:
        return None
    ratios = [_ratio_db(*pair) for pair in zip(floats, rounded, strict=True)]
    return min((ratio for ratio in ratios if ratio is not None), default=None)


def _ratio_db(right: Tensor, rounded: Tensor) -> float | None:
    signal, noise = powers(right, rounded)
    if not 0 < signal < math.inf or math.isnan(noise):
        return None
    return decibels(signal, noise)


def powers(right: Tensor, other: Tensor) -> tuple[float, float]:
    """Σ y² and Σ (y - ŷ)² in double precision, of tensors of one shape, part by part.

    >>> powers(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.5]))
    (25.0, 0.25)
    """
    signal = noise = 0.0
    pairs = zip(right.reshape(-1).split(PART), other.reshape(-1).split(PART), strict=True)
    for one, another in ((first.double(), second.double()) for first, second in pairs):
        signal += float(one.square().sum())
        noise += float((one - another).square().sum())
    return signal, noise


def decibels(signal: float, noise: float) -> float:
    """10·log10(signal / noise), of powers.

    >>> decibels(100.0, 1.0), decibels(0.0, 0.0), decibels(0.0, 1.0), decibels(1.0, math.inf)
    (20.0, inf, -inf, -inf)
    """
    if noise == 0:
        return math.inf
    if signal == 0 or noise == math.inf:
        return -math.inf
    return round(10 * (math.log10(signal) - math.log10(noise)), 9)


def warn_if_weak(scheme: str, ratio_db: float | None) -> None:
    """Warn where rounding drowns what a network tells, which shapes and bytes do not show."""
    if ratio_db is not None and ratio_db < WEAK_DB:
        warnings.warn(
            f"scheme {scheme!r}: on the calibration data the rounded network's outputs lie {ratio_db:.1f} dB "
            f"from the float network's (signal to noise); keep layers in float that "
            f"compression.quantization.sqnr.signal_to_noise_db names, or take scheme 'weight-only'",
            stacklevel=5,
        )
