"""What a data set is: three splits of inputs and labels; and how rows are held out, by seed or by column."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from capacity.columns import counted
from capacity.errors import InputError
from compression.batches import Augment, TensorBatches

if TYPE_CHECKING:
    import pandas as pd

SPLIT_SEED = 0  # the held-out rows are the same in every run, unless told otherwise
TEST_SHARE = 0.2  # of one's own data without a test split


@dataclass(frozen=True)
class Split:
    """Pictures (N, C, H, W) as uint8, (N, features) floats or (N, length) token ids, and labels (N,).

    Of language models labels are (N, length): the id that follows at each position.
    """

    inputs: Tensor | np.ndarray
    labels: Tensor
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Any) -> "Split":
        """The split of these rows only."""
        return replace(self, inputs=self.inputs[rows], labels=self.labels[rows])

    def evenly(self, count: int) -> "Split":
        """So many samples, evenly spaced: where they lie class by class, some of each class."""
        if count >= len(self):
            return self
        return self.take(torch.arange(count) * len(self) // max(1, count))

    def to(self, device: torch.device | str) -> "Split":
        inputs = self.inputs.to(device) if isinstance(self.inputs, Tensor) else self.inputs
        return replace(self, inputs=inputs, labels=self.labels.to(device))

    def batches(
        self, batch_size: int, *, shuffle: bool = False, augment: Augment | None = None, seed: int = 0
    ) -> TensorBatches:
        """Batches normalized by the training split's mean and standard deviation."""
        return TensorBatches(
            self.inputs, self.labels, batch_size, shuffle, self.mean, self.std, augment, seed
        )  # fmt: skip


@dataclass(frozen=True)
class DataSet:
    """A named data set; `classes` names them in order of their index, `notes` says what reading changed."""

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.train.inputs.shape[1:])

    @property
    def input_size(self) -> Any:
        """What `measure` and the others take as `input_size`: a sample's shape; of token ids a sample."""
        inputs = self.train.inputs
        if isinstance(inputs, Tensor) and inputs.dtype == torch.int64:
            return inputs[:1]
        return self.shape

    def map(self, change: Callable[[Split], Split]) -> "DataSet":
        """The same change to each split."""
        return replace(
            self, train=change(self.train), validation=change(self.validation), test=change(self.test)
        )


@dataclass(frozen=True)
class Rows:
    """Which rows of a table or folder are in which split, each in random order."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def normalized(*parts: Split) -> list[Split]:
    """Splits of bytes, with the mean and standard deviation per channel of the first; others as they are."""
    if parts[0].inputs.dtype != torch.uint8:
        return list(parts)
    mean, std = _moments(torch.as_tensor(parts[0].inputs))
    return [replace(part, mean=mean, std=std) for part in parts]


def held_out(train: Split, validation: float, seed: int, name: str) -> tuple[Split, Split]:
    """Training rows that stay, and those held out for validation, drawn at random.

    Raises InputError for too few rows.
    """
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    held = max(1, round(validation * len(train)))
    if held >= len(train):
        raise InputError(f"{name}: {len(train)} training rows are too few to hold any out for validation")
    return train.take(order[held:]), train.take(order[:held])


def stratified(
    labels: np.ndarray, rows: np.ndarray, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows that stay, and a share of them, at least one, in which classes are as frequent as among all.

    labels: (N,) class indices; rows: (n,) indices into them. Both results are in random order.

    >>> stay, held = stratified(np.array([0] * 80 + [1] * 20), np.arange(100), 0.2, seed=0)
    >>> len(stay), int((held < 80).sum()), int((held >= 80).sum())
    (80, 16, 4)
    """
    generator = np.random.default_rng(seed)
    rows = generator.permutation(rows)
    place = np.empty(len(rows))
    for label in np.unique(labels[rows]):
        members = labels[rows] == label
        place[members] = (np.arange(members.sum()) + 0.5) / members.sum()
    order = np.argsort(place, kind="stable")
    count = max(1, round(share * len(rows)))
    return generator.permutation(rows[order[count:]]), generator.permutation(rows[order[:count]])


def split_rows(labels: np.ndarray, validation: float, seed: int, name: str) -> Rows:
    """A stratified fifth for the test, then `validation` of the rest for validation.

    Raises InputError for too few rows.
    """
    if len(labels) < 10:
        raise InputError(
            f"{name} has {counted(len(labels), 'row')} with a label; at least 10 are needed to split them"
        )
    rest, test = stratified(labels, np.arange(len(labels)), TEST_SHARE, seed)
    train, held = stratified(labels, rest, validation, seed + 1)
    return Rows(train, held, test)


SPLIT_NAMES = {
    "train": "train", "training": "train", "validation": "validation", "valid": "validation",
    "val": "validation", "dev": "validation", "test": "test", "testing": "test",
}  # fmt: skip


def rows_by_name(
    names: "pd.Series[Any]", labels: np.ndarray, validation: float, seed: int, place: str
) -> Rows:
    """Rows by the split that each names; validation is held out of training where none names it.

    names: (N,) words, indexed by the row's number in its file. Raises InputError for other names, and where
    training or test rows are missing.
    """
    splits = np.array([SPLIT_NAMES.get(str(name).strip().lower(), "") for name in names])
    form = "the split column holds train, test and, if you like, validation"
    if (splits == "").any():
        first = int(np.argmax(splits == ""))
        raise InputError(f"{place} row {names.index[first] + 1} is {str(names.iloc[first])!r}: {form}")
    rows = {part: np.flatnonzero(splits == part) for part in ("train", "validation", "test")}
    for part in ("train", "test"):
        if not len(rows[part]):
            raise InputError(f"{place} names no {part} rows: {form}")
    if not len(rows["validation"]):
        if len(rows["train"]) < 2:
            raise InputError(f"{place} names 1 training row, too few to hold any out for validation")
        rows["train"], rows["validation"] = stratified(labels, rows["train"], validation, seed)
    return Rows(np.random.default_rng(seed).permutation(rows["train"]), rows["validation"], rows["test"])


def require_classes(train: Split, classes: Sequence[str], name: str) -> None:
    """Raise InputError for fewer than two classes, in the data or among the training rows."""
    if len(classes) < 2 or len(train.labels.unique()) < 2:
        only = classes[int(train.labels[0])] if len(train) else ""
        raise InputError(
            f"{name} has a single class, {only!r}: a classifier needs rows of at least two to learn from"
        )


def _moments(pictures: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of uint8 pictures scaled to [0, 1]; from exact counts."""
    counts = torch.stack(
        [torch.bincount(c.flatten(), minlength=256) for c in pictures.transpose(0, 1)]
    ).double()
    values = torch.arange(256, dtype=torch.float64) / 255
    share = counts / counts.sum(1, keepdim=True)
    mean = share @ values
    std = (share @ values.square() - mean.square()).clamp(min=1e-12).sqrt()
    return tuple(mean.tolist()), tuple(std.tolist())
