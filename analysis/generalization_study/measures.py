"""Measures of a trained dense network that are said to follow how well it generalizes.

All are written so that more means a more complex network; none sees the test samples.

Reference: Jiang, Neyshabur, Mobahi, Krishnan and Bengio 2020, "Fantastic generalization measures and where to
find them", ICLR (norms, margin, sharpness); Langford 2005 for the bound by the bits of a file.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from capacity import measure
from capacity.certificates import certificate
from capacity.descriptions import two_part_length
from compression.codec import decode, encode
from compression.rates import quantize_rate_distortion

MEASURES = {
    "capacity": "capacity (MEC)",
    "inverse_rho": "1/rho on the training split",
    "parameters": "parameters",
    "active_parameters": "parameters of active units",
    "path_norm": "path norm",
    "spectral_norm": "product of spectral norms",
    "frobenius_norm": "Frobenius norm",
    "start_distance": "distance from the start",
    "negative_margin": "- margin, 10th percentile",
    "sharpness": "sharpness",
    "file_bits": "bits of the coded file",
    "occam_bound": "error that the file guarantees",
    "unlearned_share": "share of label bits not learned",
}
DRAWS, ROUNDS, RISE = 3, 10, 0.1  # of the perturbations that sharpness tries, and the error that they may add


def measures(
    model: nn.Sequential, start: nn.Sequential, inputs: Tensor, labels: Tensor, *, seed: int = 0
) -> dict[str, float]:
    """All of MEASURES.

    model, start: Linear and ReLU in turn, trained and as initialised
    inputs, labels: (n, d) and (n,), what it was trained on
    """
    with torch.no_grad():
        logits = model(inputs)
        wrong = int((logits.argmax(1) != labels).sum())
        report = measure(model, (inputs.shape[1],))
        squared = [weight.pow(2).sum() for weight in weights_of(model)]
        moved = [(a - b).pow(2).sum() for a, b in zip(model.parameters(), start.parameters(), strict=True)]
        values = {
            "capacity": float(report.capacity_bits),
            "inverse_rho": report.capacity_bits / max(len(labels) - wrong, 1),
            "parameters": float(report.parameters),
            "active_parameters": float(active_parameters(model, inputs)),
            "path_norm": path_norm(model),
            "spectral_norm": spectral_norm(model),
            "frobenius_norm": float(torch.stack(squared).sum().sqrt()),
            "start_distance": float(torch.stack(moved).sum().sqrt()),
            "negative_margin": -margin(logits, labels),
            "sharpness": sharpness(model, inputs, labels, seed),
        }
    return values | by_file(model, inputs, labels)


def weights_of(model: nn.Sequential) -> list[Tensor]:
    """The matrices (outputs, inputs) that inputs are multiplied by in evaluation, from the input on.

    A batch norm is the diagonal one of its scale over the root of its variance.
    """
    weights = []
    for layer in model:
        if isinstance(layer, nn.Linear):
            weights.append(layer.weight.detach())
        elif isinstance(layer, nn.BatchNorm1d):
            assert layer.running_var is not None
            weights.append(torch.diag(layer.weight.detach() / (layer.running_var + layer.eps).sqrt()))
    return weights


def path_norm(model: nn.Sequential) -> float:
    """Root of the sum over all paths of the product of their squared weights, biases apart.

    >>> path_norm(nn.Sequential(nn.Linear(1, 1, bias=False))) >= 0
    True
    """
    total = torch.ones(weights_of(model)[0].shape[1])
    for weight in weights_of(model):
        total = weight.pow(2) @ total
    return float(total.sum().sqrt())


def spectral_norm(model: nn.Sequential) -> float:
    """Product over the layers of the largest singular value."""
    return float(torch.stack([torch.linalg.matrix_norm(w, 2) for w in weights_of(model)]).prod())


def margin(logits: Tensor, labels: Tensor) -> float:
    """The tenth percentile of the right logit minus the best other one.

    >>> margin(torch.tensor([[3.0, 1.0, 0.0]]), torch.tensor([0]))
    2.0
    """
    right = logits.gather(1, labels[:, None])[:, 0]
    others = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    return float((right - others).quantile(0.1))


def active_parameters(model: nn.Sequential, inputs: Tensor) -> int:
    """Parameters between units that are not zero on every input: the hidden ones at least once active."""
    before, total, values = inputs.shape[1], 0, inputs
    for place, layer in enumerate(model):
        values = layer(values)
        if not isinstance(layer, nn.Linear):
            continue
        last = place == len(model) - 1
        alive = layer.out_features if last else int((values > 0).any(0).sum())
        total += alive * (before + (layer.bias is not None))
        before = alive
    return total


def sharpness(model: nn.Sequential, inputs: Tensor, labels: Tensor, seed: int) -> float:
    """1/s of the largest noise s, in shares of each tensor's root mean square, that adds 10 points of error.

    Weights are moved at random; the mean error over a few draws counts; s is found by halving an interval.
    """
    parameters = [p.detach().clone() for p in model.parameters()]
    scales = [p.pow(2).mean().sqrt() for p in parameters]

    def error() -> float:
        return float((model(inputs).argmax(1) != labels).float().mean())

    least, low, high = error(), 1e-3, 10.0
    for _ in range(ROUNDS):
        middle = (low * high) ** 0.5
        generator = torch.Generator().manual_seed(seed)
        errors = []
        for _ in range(DRAWS):
            for p, value, scale in zip(model.parameters(), parameters, scales, strict=True):
                p.data.copy_(value + middle * scale * torch.randn(value.shape, generator=generator))
            errors.append(error())
        low, high = (middle, high) if sum(errors) / DRAWS <= least + RISE else (low, middle)
    for p, value in zip(model.parameters(), parameters, strict=True):
        p.data.copy_(value)
    return 1 / low


def by_file(model: nn.Sequential, inputs: Tensor, labels: Tensor) -> dict[str, float]:
    """Bits of the file of the network rounded by rate, and what follows from it, read back."""
    rounded = quantize_rate_distortion(model, penalty=0.02, relative_step=0.3).model
    with TemporaryDirectory() as folder:
        path = Path(folder) / "network.dcz"
        size = encode(rounded, path)
        network = decode(path, model)
    with torch.no_grad():
        logits = network(inputs)
    wrong = int((logits.argmax(1) != labels).sum())
    length = two_part_length(logits, labels, file_bytes=size)
    return {
        "file_bits": 8.0 * size,
        "occam_bound": certificate(wrong, len(labels), size).error_bound,
        "unlearned_share": 1 - length.learned_share,
    }
