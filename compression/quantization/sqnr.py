"""How much of each layer's signal rounding its weight costs: which layers to keep in float."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from capacity.cloning import clone, plain_copy
from capacity.errors import InputError
from compression.evaluation import exercise
from compression.quantization._quantize import LAYERS
from compression.quantization.agreement import decibels


def signal_to_noise_db(model: nn.Module, *, data: Iterable[Any], weight_bits: int = 8) -> Mapping[str, float]:
    """Signal-to-quantization-noise ratio of each layer's output in dB, with its weight alone rounded.

    10·log10(Σ y² / Σ (y - ŷ)²) over the data; the lowest are the layers to keep in float. Masks and
    parametrizations are folded in before weights are rounded.
    """
    plain = plain_copy(model).cpu().eval()
    power: dict[str, list[float]] = {}
    for name, module in plain.named_modules():
        if isinstance(module, LAYERS):
            module.register_forward_hook(_noise_hook(name, rounded(module.weight, weight_bits), power))
    if not exercise(plain, data):
        raise InputError("there is no data to run the model on")
    return {name: decibels(*powers) for name, powers in power.items()}


def _noise_hook(name: str, weight: Tensor, power: dict[str, list[float]]) -> Any:
    def hook(module: Any, inputs: tuple[Tensor, ...], _: Any) -> None:
        other = clone(module)
        other.weight.data = weight
        output = module.forward(inputs[0])  # without what other hooks make of inputs and outputs
        noise = (other.forward(inputs[0]) - output).double().square().sum()
        before = power.get(name, [0.0, 0.0])
        power[name] = [before[0] + float(output.double().square().sum()), before[1] + float(noise)]

    return hook


def rounded(weight: Tensor, bits: int) -> Tensor:
    """A weight rounded per output channel, symmetric about zero, as floats.

    >>> import torch
    >>> rounded(torch.tensor([[1.0, 0.5, 0.0]]), 8)[0, 2].item()
    0.0
    """
    values = weight.detach()
    largest = values.flatten(1).abs().amax(1).clamp(min=1e-12)
    scale = (largest / (2 ** (bits - 1) - 0.5)).view(-1, *[1] * (values.dim() - 1))
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    levels: Tensor = (values / scale).round().clamp(low, high) * scale
    return levels
