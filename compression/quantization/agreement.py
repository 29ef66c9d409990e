"""How far a rounded network's outputs lie from those of the float network, on data that it was made for."""

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any, Self

import torch
from torch import Tensor, nn

from capacity.errors import InputError
from capacity.inputs import tensors_in
from compression.evaluation import run_batches

WEAK_DB = 6.0  # below it, what rounding adds is half as large as what it is added to


def peeked(batches: Iterable[Any]) -> tuple[list[Any], Iterable[Any]]:
    """The first batch, if there is one, and all of them; what can be read but once is read once."""
    iterator: Iterator[Any] = iter(batches)
    first = [batch for _, batch in zip(range(1), iterator, strict=False)]
    return first, chain(first, iterator) if iterator is batches else batches


def outputs_on(network: nn.Module, batches: Sequence[Any]) -> list[Tensor]:
    """Floating outputs for these batches; empty where a second pass gives others, as random operations do."""
    with torch.random.fork_rng():
        first, second = (
            [tensor.double() for tensor in tensors_in(run_batches(network, batches)) if _floats(tensor)]
            for _ in range(2)
        )
    same = len(first) == len(second) and all(map(torch.equal, first, second))
    return first if same else []


def _floats(tensor: Tensor) -> bool:
    return tensor.is_floating_point()


def signal_to_noise_db(floats: Sequence[Tensor], rounded: Sequence[Tensor]) -> float | None:
    """10·log10(Σ y² / Σ (y - ŷ)²) over all outputs; None where nothing finite can be compared.

    >>> signal_to_noise_db([torch.tensor([3.0, 4.0])], [torch.tensor([3.0, 4.5])])
    20.0
    """
    if not floats or [tensor.shape for tensor in floats] != [tensor.shape for tensor in rounded]:
        return None
    signal = sum(float(tensor.detach().square().sum()) for tensor in floats)
    pairs = zip(floats, rounded, strict=True)
    noise = sum(float((one - other.to(one.device)).detach().square().sum()) for one, other in pairs)
    if not 0 < signal < math.inf or math.isnan(noise):
        return None
    return math.inf if noise == 0 else round(10 * math.log10(signal / noise), 9)


@dataclass(frozen=True)
class Agreement:
    """What a float network returns for the first calibration batch, to be compared with the rounded one."""

    scheme: str
    batches: Sequence[Any]
    floats: Sequence[Tensor]

    @classmethod
    def before(
        cls, network: nn.Module, scheme: str, calibration: Iterable[Any] | None
    ) -> tuple[Self, Iterable[Any] | None]:
        """Of scheme "static"; and the calibration batches, which may be readable but once."""
        if scheme != "static" or calibration is None:
            return cls(scheme, (), ()), calibration
        first, calibration = peeked(calibration)
        floats: Sequence[Tensor] = ()
        with suppress(InputError):  # what does not fit is told where it is calibrated with
            floats = outputs_on(network, first)
        return cls(scheme, first, floats), calibration

    def sqnr_db(self, rounded: nn.Module) -> float | None:
        """The ratio of `signal_to_noise_db`; a warning where rounding drowns what the network tells."""
        ratio = signal_to_noise_db(self.floats, outputs_on(rounded, self.batches)) if self.floats else None
        if ratio is not None and ratio < WEAK_DB:
            warnings.warn(
                f"scheme {self.scheme!r}: on the calibration data the rounded network's outputs lie "
                f"{ratio:.1f} dB from the float network's (signal to noise); keep layers in float that "
                f"compression.quantization.sqnr.signal_to_noise_db names, or take scheme 'weight-only'",
                stacklevel=5,
            )
        return ratio
