"""Measures of a network, all above zero: what its architecture, its weights and its file say of it.

Reference: Jiang et al. 2020 for norms, margin and sharpness; Bartlett et al. 2019 for the bound by pieces.
"""

from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from analysis.generalization_study.measures import (
    by_file,
    margin,
    path_norm,
    sharpness,
    spectral_norm,
    weights_of,
)
from capacity import CONVENTIONS, bounds, measure
from compression.codec import encode

MEASURES = {
    "previous_bits": "capacity, 'previous'",
    "running_bits": "capacity, 'running'",
    "uncapped_bits": "capacity, 'uncapped'",
    "effective_bits": "effective capacity",
    "points_per_bit": "rho and G",
    "piece_bits": "proven: pieces (VC dimension)",
    "storage_bits": "proven: bits of the weights",
    "parameters": "parameters",
    "nonzero_share": "share of weights not zero",
    "frobenius_norm": "Frobenius norm",
    "path_norm": "path norm",
    "spectral_norm": "product of spectral norms",
    "sharpness": "sharpness",
    "margin": "margin, 10th percentile",
    "file_bytes": "file, weights as they are",
    "rounded_bits": "file, rounded by rate",
    "rounding_noise": "noise of 4-bit weights",
}
LEVELS = 7  # on either side of zero, of a weight of four bits


def measures(model: nn.Sequential, inputs: Tensor, labels: Tensor, *, seed: int = 0) -> dict[str, float]:
    """All of MEASURES.

    model: Linear, ReLU and BatchNorm1d in turn, in evaluation mode
    inputs, labels: (n, d) and (n,), what it was trained on
    """
    size = (inputs.shape[1],)
    proven = bounds(model, size)
    numbers = {f"{name}_bits": float(_capacity(model, size, name)) for name in CONVENTIONS}
    with torch.no_grad():
        logits = model(inputs)
        right = int((logits.argmax(1) == labels).sum())
        weights = [layer.weight.detach() for layer in model if isinstance(layer, nn.Linear)]
        numbers |= {
            "effective_bits": float(measure(model, size, effective=True).capacity_bits),
            "points_per_bit": right / numbers["previous_bits"],
            "piece_bits": float(proven.piece_bits or 0),
            "storage_bits": float(proven.storage_bits),
            "parameters": float(proven.parameters),
            "nonzero_share": sum(int((w != 0).sum()) for w in weights) / sum(w.numel() for w in weights),
            "frobenius_norm": float(torch.stack([w.pow(2).sum() for w in weights_of(model)]).sum().sqrt()),
            "path_norm": path_norm(model),
            "spectral_norm": spectral_norm(model),
            "sharpness": sharpness(model, inputs, labels, seed),
            "margin": margin(logits, labels),
            "rounding_noise": rounding_noise(model, inputs),
        }
    numbers["rounded_bits"] = by_file(model, inputs, labels)["file_bits"]
    with TemporaryDirectory() as folder:
        numbers["file_bytes"] = float(encode(model, Path(folder) / "network.dcz"))
    return {name: numbers[name] for name in MEASURES}


def _capacity(model: nn.Module, size: tuple[int, ...], convention: Any) -> int:
    return measure(model, size, convention=convention).capacity_bits


def rounding_noise(model: nn.Sequential, inputs: Tensor) -> float:
    """Root mean square by which outputs move, over theirs, when each layer's weights are rounded to 4 bits.

    Multiples of a seventh of the layer's largest weight, from -7 to 7.
    """
    rounded = deepcopy(model)
    for layer in rounded:
        if isinstance(layer, nn.Linear):
            step = layer.weight.detach().abs().max() / LEVELS
            layer.weight.data.copy_((layer.weight / step).round() * step)
    outputs = model(inputs)
    return float((rounded(inputs) - outputs).pow(2).mean().sqrt() / outputs.pow(2).mean().sqrt())
