"""Data sets as tensors: digits, torchvision's, docstrings, and tables, texts and pictures of one's own.

Every data set comes in three splits. The test split is the published one (for digits a fixed stratified
fifth; for one's own data without one, a stratified fifth by seed); validation is held out of the training
split, so that choices never touch the test split.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from analysis.lab.data.folders import read_folder, read_pictures
from analysis.lab.data.splits import (
    SPLIT_SEED,
    DataSet,
    Split,
    held_out,
    normalized,
    require_classes,
)
from analysis.lab.settings import ColumnsSettings
from capacity.errors import InputError, unknown
from capacity.inputs import as_integer, first_line

__all__ = ["NAMES", "TORCHVISION", "DataSet", "Split", "load"]

TORCHVISION = {
    "mnist": "MNIST",
    "fashion-mnist": "FashionMNIST",
    "kmnist": "KMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "flowers102": "Flowers102",
}
NAMES = (
    "digits",
    *TORCHVISION,
    "docstrings",
    "libraries",
    "imagefolder:PATH",
    "table:FILE.csv",
    "text:FILE.csv",
)
OWN = ("imagefolder", "table", "text")


def load(
    name: str,
    *,
    data: str = "data",
    validation: float = 0.1,
    image_size: int = 224,
    columns: ColumnsSettings | None = None,
) -> DataSet:
    """Load a data set by name.

    Parameters
    ----------
    name: one of NAMES; `imagefolder:PATH` reads PATH/train/CLASS/*.jpg and PATH/test/CLASS/*.jpg, or
        PATH/CLASS/*.jpg, which is split here; `table:` and `text:` read a CSV file
    data: folder where torchvision's data sets lie, or are downloaded to
    validation: fraction of the training split to hold out
    image_size: side in pixels to which pictures are resized and cropped, unless all are of one smaller
        square size
    columns: which columns of a CSV file are what, and the seed of the rows held out

    Raises InputError for an unknown name, files and folders that are empty, damaged or of another form, and
    a single class.
    """
    as_integer("image_size", image_size)
    if not 0 < validation < 1:
        raise InputError(f"validation must be a fraction between 0 and 1, found {validation}")
    columns = columns or ColumnsSettings()
    kind, _, place = name.partition(":")
    if kind in OWN and place:
        dataset = _own(kind, Path(place), image_size, validation, columns)
    elif name == "docstrings":
        from analysis.lab.data.docstrings import read_docstrings

        dataset = read_docstrings(validation, columns.split_seed)
    elif name == "libraries":
        from analysis.lab.data.docstrings import read_libraries

        dataset = read_libraries(validation, columns.split_seed)
    elif name == "digits":
        dataset = _hold_out(name, *_digits(), validation, columns.split_seed)
    elif name in TORCHVISION:
        dataset = _hold_out(name, *_torchvision(name, data, image_size), validation, columns.split_seed)
    else:
        raise unknown("data set", name, NAMES)
    require_classes(dataset.train, dataset.classes, name)
    return dataset


def _own(kind: str, path: Path, image_size: int, validation: float, columns: ColumnsSettings) -> DataSet:
    """One's own data; pandas and scikit-learn are imported where they are used."""
    if kind == "imagefolder":
        parts = read_folder(path, image_size, validation, columns.split_seed)
        return DataSet(f"imagefolder:{path}", *parts)
    if kind == "table":
        from analysis.lab.data.tables import read_table

        return read_table(path, columns, validation)
    from analysis.lab.data.texts import read_text

    return read_text(path, columns, validation)


def _hold_out(
    name: str, train: Split, test: Split, classes: tuple[str, ...], validation: float, seed: int
) -> DataSet:
    train, test = normalized(train, test)
    for part in (train, test):
        lowest, highest = int(part.labels.min()), int(part.labels.max())
        if lowest < 0 or highest >= len(classes):
            raise InputError(
                f"{name} is damaged: labels run from {lowest} to {highest}, "
                f"but there are {len(classes)} classes"
            )
    return DataSet(name, *held_out(train, validation, seed, name), test, classes)


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
    train, validation, test = (read_pictures(part, image_size) for part in parts)
    both = Split(
        torch.cat([torch.as_tensor(part.inputs) for part in (train, validation)]),
        torch.cat([train.labels, validation.labels]),
    )
    return both, test, tuple(str(number) for number in range(102))
