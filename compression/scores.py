"""Scores where targets are no classes: numbers to estimate ("mse"), several labels to a sample ("bce")."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

NAMED_SCORES = {"total", "loss", "mae", "r2", "label_error", "exact_match_error", "macro_f1", "mean_iou"}


@dataclass(frozen=True)
class Scores:
    """Mean loss over `total` samples, and metrics by name.

    "mse" gives `mae`, the mean absolute error, and `r2`, the share of the targets' variance that is
    explained, the mean over the numbers of a target. "bce" gives `label_error`, the share of labels that are
    wrong at a probability of a half, `exact_match_error`, that of samples with a wrong label, and the means
    over labels that occur of F1 and of intersection over union, `macro_f1` and `mean_iou`. One's own come
    beside them.
    """

    total: int
    loss: float
    metrics: Mapping[str, float] = field(default_factory=dict, hash=False)

    def __getitem__(self, name: str) -> float:
        return self.metrics[name]

    def to_dict(self) -> dict[str, float]:
        """All numbers by name."""
        return {"total": self.total, "loss": self.loss, **self.metrics}

    def __str__(self) -> str:
        named = "".join(f", {name.replace('_', ' ')} {value:.4g}" for name, value in self.metrics.items())
        return f"loss {self.loss:.4g}{named} ({self.total:,} samples)"


class Tally(Protocol):
    """What adds up over batches by `+`, and becomes scores."""

    def scores(self) -> Scores: ...


def columns(values: Tensor) -> Tensor:
    """(N, K): a row for each sample or position, a column for each of its K numbers.

    (B, K) as it is; maps (B, K, H, W) and volumes have K channels; (B,) and (B, T) maps of three axes one.
    """
    if values.dim() == 2:
        return values
    if values.dim() < 4:
        return values.reshape(-1, 1)
    return values.movedim(1, -1).reshape(-1, values.shape[1])


@dataclass(frozen=True)
class Deviations:
    """Squares of regression, added up in double precision about the mean so far.

    Reference: Chan, Golub and LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample
    variances".
    """

    samples: int
    rows: int
    mean: Tensor  # (K,), as those below
    around_mean: Tensor
    squared: Tensor
    absolute: Tensor

    @classmethod
    def of(cls, outputs: Tensor, targets: Tensor) -> "Deviations":
        """Of a batch."""
        truth = columns(targets).double()
        apart, mean = columns(outputs).double() - truth, truth.mean(0)
        parts = (mean, (truth - mean).square().sum(0), apart.square().sum(0), apart.abs().sum(0))
        return cls(len(targets), len(truth), *(part.cpu() for part in parts))

    def __add__(self, other: "Deviations") -> "Deviations":
        rows, step = self.rows + other.rows, other.mean - self.mean
        between = step.square() * self.rows * other.rows / rows
        return Deviations(
            self.samples + other.samples, rows, self.mean + step * other.rows / rows,
            self.around_mean + other.around_mean + between, self.squared + other.squared,
            self.absolute + other.absolute,
        )  # fmt: skip

    def scores(self) -> Scores:
        """R2 of a target that does not vary is 1 where it is met and 0 otherwise, as in scikit-learn."""
        explained = 1 - self.squared / self.around_mean
        still = self.around_mean == 0
        r2 = torch.where(still, (self.squared == 0).double(), explained).mean()
        squared, absolute = (float(sums.mean()) / self.rows for sums in (self.squared, self.absolute))
        return Scores(self.samples, squared, {"mae": absolute, "r2": float(r2)})


@dataclass(frozen=True)
class Answers:
    """Counts of yes and no for each of K labels."""

    samples: int
    answers: int
    exact: int
    loss: float
    hits: Tensor  # (K,), as those below: truths that were guessed, truths, guesses
    truths: Tensor
    guesses: Tensor

    @classmethod
    def of(cls, outputs: Tensor, targets: Tensor) -> "Answers":
        """Of a batch; NaN is the wrong answer, whatever the right one is."""
        truth = targets > 0.5
        guess = torch.where(outputs.isnan(), ~truth, outputs > 0)
        exact = int((guess == truth).reshape(len(targets), -1).all(1).sum())
        counts = [columns(part).sum(0).cpu() for part in (guess & truth, truth, guess)]
        loss = float(F.binary_cross_entropy_with_logits(outputs, targets, reduction="sum"))
        return cls(len(targets), targets.numel(), exact, loss, *counts)

    def __add__(self, other: "Answers") -> "Answers":
        return Answers(*(value + getattr(other, key) for key, value in vars(self).items()))

    def scores(self) -> Scores:
        """Labels that neither occur nor are guessed are left out of the means; without any they are NaN."""
        named = self.truths + self.guesses
        seen = named > 0
        wrong = float((named - 2 * self.hits).sum())
        return Scores(
            self.samples,
            self.loss / self.answers,
            {
                "label_error": wrong / self.answers,
                "exact_match_error": 1 - self.exact / self.samples,
                "macro_f1": float((2 * self.hits / named)[seen].mean()),
                "mean_iou": float((self.hits / (named - self.hits))[seen].mean()),
            },
        )


@dataclass(frozen=True)
class Losses:
    """An objective's losses, each as often as its batch has samples."""

    samples: int
    total: float

    def __add__(self, other: "Losses") -> "Losses":
        return Losses(self.samples + other.samples, self.total + other.total)

    def scores(self) -> Scores:
        """The mean over samples."""
        return Scores(self.samples, self.total / self.samples)


TALLIES: Mapping[str, Callable[[Tensor, Tensor], Tally]] = {"mse": Deviations.of, "bce": Answers.of}
