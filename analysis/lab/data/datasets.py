"""Data sets as tensors: digits, torchvision's, and folders of one's own pictures.

Every data set comes in three splits. The test split is the published one (for digits a fixed stratified
fifth); validation is held out of the training split, so that choices never touch the test split.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analysis.lab.data.pictures import as_bytes, open_picture
from capacity.errors import InputError, unknown
from capacity.inputs import first_line, whole_number
from compression.batches import Augment, TensorBatches

SPLIT_SEED = 0  # the held-out rows are the same in every run


@dataclass(frozen=True)
class Split:
    """Pictures (N, C, H, W) as uint8, or (N, features) floats, and labels (N,)."""

    inputs: Tensor | np.ndarray
    labels: Tensor
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Any) -> "Split":
        """The split of these rows only."""
        return replace(self, inputs=self.inputs[rows], labels=self.labels[rows])

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
    """A named data set; `classes` names them in order of their index."""

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]

    @property
    def input_size(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.train.inputs.shape[1:])

    def map(self, change: Callable[[Split], Split]) -> "DataSet":
        """The same change to each split."""
        return replace(
            self, train=change(self.train), validation=change(self.validation), test=change(self.test)
        )


TORCHVISION = {
    "mnist": "MNIST",
    "fashion-mnist": "FashionMNIST",
    "kmnist": "KMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "flowers102": "Flowers102",
}
NAMES = ("digits", *TORCHVISION, "imagefolder:PATH")


def load(name: str, *, data: str = "data", validation: float = 0.1, image_size: int = 224) -> DataSet:
    """Load a data set by name.

    Parameters
    ----------
    name: one of NAMES; `imagefolder:PATH` reads PATH/train/CLASS/*.jpg and PATH/test/CLASS/*.jpg
    data: folder where torchvision's data sets lie, or are downloaded to
    validation: fraction of the training split to hold out
    image_size: side in pixels to which pictures are resized and cropped, unless all are of one smaller
        square size

    Raises InputError for an unknown name, a folder that is empty or damaged, and class folders that
    differ between splits.
    """
    whole_number("image_size", image_size)
    if not 0 < validation < 1:
        raise InputError(f"validation must be a fraction between 0 and 1, found {validation}")
    if name == "digits":
        train, test, classes = _digits()
    elif name in TORCHVISION:
        train, test, classes = _torchvision(name, data, image_size)
    elif name.startswith("imagefolder:"):
        train, test, classes = _imagefolder(Path(name.partition(":")[2]), image_size)
    else:
        raise unknown("data set", name, NAMES)
    return _hold_out(name, train, test, classes, validation)


def _hold_out(name: str, train: Split, test: Split, classes: tuple[str, ...], validation: float) -> DataSet:
    if train.inputs.dtype == torch.uint8:
        mean, std = _moments(torch.as_tensor(train.inputs))
        train, test = replace(train, mean=mean, std=std), replace(test, mean=mean, std=std)
    for part in (train, test):
        lowest, highest = int(part.labels.min()), int(part.labels.max())
        if lowest < 0 or highest >= len(classes):
            raise InputError(
                f"{name} is damaged: labels run from {lowest} to {highest}, "
                f"but there are {len(classes)} classes"
            )
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(SPLIT_SEED))
    held = max(1, round(validation * len(train)))
    if held >= len(train):
        raise InputError(f"{name}: {len(train)} training pictures are too few to hold any out for validation")
    return DataSet(name, train.take(order[held:]), train.take(order[:held]), test, classes)


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


def _digits() -> tuple[Split, Split, tuple[str, ...]]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    pictures = torch.from_numpy((bunch.images * (255 / 16)).round().astype(np.uint8))[:, None]
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    train, test = train_test_split(
        np.arange(len(labels)), test_size=0.2, stratify=bunch.target, random_state=SPLIT_SEED
    )
    return (
        Split(pictures[train], labels[train]),
        Split(pictures[test], labels[test]),
        tuple(str(digit) for digit in range(10)),
    )


def _torchvision(name: str, data: str, image_size: int) -> tuple[Split, Split, tuple[str, ...]]:
    from torchvision import datasets

    maker = getattr(datasets, TORCHVISION[name])

    def read(**which: Any) -> Any:
        try:
            return maker(root=data, download=False, **which)
        except RuntimeError as missing:
            try:
                return maker(root=data, download=True, **which)
            except Exception as error:
                raise InputError(
                    f"{name} is not in the folder {data!r} or damaged ({first_line(missing, 200)}), "
                    f"and could not be downloaded ({first_line(error, 200)})"
                ) from error
        except Exception as error:  # whatever torchvision's readers stumble over
            raise InputError(f"{name} in the folder {data!r} is damaged: {first_line(error, 200)}") from error

    if name == "flowers102":
        parts = [read(split=split) for split in ("train", "val", "test")]
        return _flowers(parts, image_size)
    train, test = read(train=True), read(train=False)
    return _arrays(train), _arrays(test), tuple(map(str, train.classes))


def _arrays(source: Any) -> Split:
    pictures, labels = torch.as_tensor(source.data), torch.as_tensor(source.targets)
    pictures = pictures[:, None] if pictures.dim() == 3 else pictures.permute(0, 3, 1, 2).contiguous()
    if len(pictures) != len(labels) or len(labels) == 0:
        raise InputError(f"damaged data: {len(pictures)} pictures and {len(labels)} labels")
    return Split(pictures, labels.long())


def _flowers(parts: list[Any], image_size: int) -> tuple[Split, Split, tuple[str, ...]]:
    train, validation, test = (_pictures(part, image_size) for part in parts)
    both = Split(
        torch.cat([torch.as_tensor(part.inputs) for part in (train, validation)]),
        torch.cat([train.labels, validation.labels]),
    )
    return both, test, tuple(str(number) for number in range(102))


def _imagefolder(path: Path, image_size: int) -> tuple[Split, Split, tuple[str, ...]]:
    from torchvision.datasets import ImageFolder

    parts = []
    for split in ("train", "test"):
        folder = path / split
        if not folder.is_dir():
            raise InputError(f"imagefolder needs {folder}/CLASS/picture.jpg, but {folder} is not a folder")
        try:
            parts.append(ImageFolder(str(folder), loader=open_picture))
        except FileNotFoundError as error:
            raise InputError(f"no pictures in {folder}: {first_line(error, 200)}") from error
    train, test = parts
    if train.classes != test.classes:
        odd = sorted(set(train.classes) ^ set(test.classes))
        raise InputError(f"{path}: train and test have different class folders; in only one of them: {odd}")
    parts = [_pictures(train, image_size), _pictures(test, image_size)]
    if parts[0].inputs.shape[1:] != parts[1].inputs.shape[1:]:
        parts = [_decode(train, image_size), _decode(test, image_size)]
    return parts[0], parts[1], tuple(train.classes)


def _pictures(source: Any, image_size: int) -> Split:
    """Decode pictures; if they are square, small and all of one size they stay, else all are resized."""
    _, height, width = _picture(source, 0)[0].shape
    if width == height <= image_size:
        try:
            return _decode(source, None)
        except _SizesDiffer:
            pass
    return _decode(source, image_size)


class _SizesDiffer(Exception):
    """The pictures are not all of one size."""


def _picture(source: Any, row: int) -> tuple[Tensor, int]:
    """A picture (3, H, W) as bytes, and its label.

    Raises InputError that names the file.
    """
    try:
        picture, label = source[row]
        return as_bytes(picture), int(label)
    except Exception as error:  # whatever a damaged file makes its decoder stumble over
        samples = getattr(source, "samples", None) or getattr(source, "_image_files", None)
        where = f"picture {row}"
        if samples:
            where = str(samples[row][0] if isinstance(samples[row], tuple) else samples[row])
        raise InputError(f"{where} cannot be read as a picture: {first_line(error, 200)}") from error


def _decode(source: Any, image_size: int | None) -> Split:
    from torchvision.transforms import v2

    change = None if image_size is None else v2.Compose([v2.Resize(image_size), v2.CenterCrop(image_size)])
    pictures: Tensor | None = None
    labels = torch.zeros(len(source), dtype=torch.int64)
    for row in range(len(source)):
        tensor, labels[row] = _picture(source, row)
        tensor = tensor if change is None else change(tensor)
        if pictures is None:
            pictures = torch.zeros((len(source), *tensor.shape), dtype=torch.uint8)
        if tensor.shape != pictures.shape[1:]:
            raise _SizesDiffer
        pictures[row] = tensor
    assert pictures is not None
    return Split(pictures, labels)
