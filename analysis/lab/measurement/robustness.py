"""What a trained classifier does when its input is disturbed, and beside nearest neighbours."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from analysis.lab.data.datasets import Split
from capacity.errors import InputError
from compression.evaluation import cohen_kappa, evaluate

if TYPE_CHECKING:
    import pandas as pd


def robustness_curve(
    model: nn.Module, split: Split, *, strengths: Sequence[float], seed: int = 0
) -> "pd.DataFrame":
    """Errors under Gaussian noise and under the fast gradient sign method, a row for each strength.

    strengths: standard deviation of the noise and largest change of a value by the attack, both in units of
        pictures scaled to [0, 1]; what leaves that range is cut off

    Reference: Goodfellow, Shlens and Szegedy 2015, arXiv:1412.6572, equation of section 4.
    """
    import pandas as pd

    rows = []
    for strength in strengths:
        noisy = _scored(model, split, lambda x, y, s=strength: _noise(x, s, seed))
        attacked = _scored(model, split, lambda x, y, s=strength: fgsm(model, split, x, y, s))
        rows.append({"strength": strength, "noise_top1_error": noisy, "fgsm_top1_error": attacked})
    return pd.DataFrame(rows)


def scaled(split: Split, batch: Tensor) -> Tensor:
    """Normalized pictures as values in [0, 1]."""
    mean, std = _moments(split, batch)
    return batch * std + mean


def normalized(split: Split, pictures: Tensor) -> Tensor:
    """Pictures in [0, 1] as the network sees them."""
    mean, std = _moments(split, pictures)
    return (pictures - mean) / std


def fgsm(model: nn.Module, split: Split, pictures: Tensor, labels: Tensor, strength: float) -> Tensor:
    """Pictures in [0, 1], each value moved by `strength` in the direction that raises the loss."""
    with torch.enable_grad():
        moved = pictures.clone().requires_grad_()
        loss = F.cross_entropy(model(normalized(split, moved)), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, moved)
    return (pictures + strength * gradient.sign()).clamp(0, 1)


def _noise(pictures: Tensor, strength: float, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(pictures.shape, generator=generator).to(pictures.device)
    return (pictures + strength * noise).clamp(0, 1)


def _scored(model: nn.Module, split: Split, change: Any) -> float:
    device = next(model.parameters()).device
    batches = (
        (normalized(split, change(scaled(split, x.to(device)), y.to(device))), y)
        for x, y in split.batches(500)
    )
    return evaluate(model, batches).top1_error


def _moments(split: Split, batch: Tensor) -> tuple[Tensor, Tensor]:
    if not split.mean:
        raise InputError("only pictures of whole bytes have a scale to disturb them on")
    shape = (1, len(split.mean), *[1] * (batch.dim() - 2))
    return (torch.tensor(values, device=batch.device).view(shape) for values in (split.mean, split.std))  # type: ignore[return-value]


MOST_NEIGHBOURS = 10_000  # rows that a nearest neighbour is looked for in


def neighbours(split: Split, others: Split, *, count: int = 5) -> np.ndarray:
    """Class of each row of `others` by a vote of its nearest of the first MOST_NEIGHBOURS rows of `split`."""
    from sklearn.neighbors import KNeighborsClassifier

    def flat(part: Split) -> np.ndarray:
        return np.asarray(part.inputs).reshape(len(part), -1).astype(np.float32)

    few = split.take(slice(0, MOST_NEIGHBOURS))
    judge = KNeighborsClassifier(count).fit(flat(few), few.labels.numpy())
    nearest: np.ndarray = judge.predict(flat(others))
    return nearest


def kappa_of(predicted: np.ndarray, labels: Tensor, classes: int) -> float:
    """Cohen's kappa of two annotations of the same rows."""
    pairs = torch.bincount(labels * classes + torch.as_tensor(predicted), minlength=classes**2)
    return cohen_kappa(pairs.view(classes, classes))


def ensemble(logits: Sequence[Tensor]) -> Tensor:
    """Class of each row by the mean of the networks' probabilities."""
    return torch.stack([values.softmax(1) for values in logits]).mean(0).argmax(1)
