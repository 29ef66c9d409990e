"""Folders of one's own pictures, a folder per class; with train and test folders, or split here."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from analysis.lab.data.pictures import as_bytes, open_picture
from analysis.lab.data.splits import Rows, Split, held_out, normalized, split_rows
from capacity.errors import InputError
from capacity.inputs import first_line

FORM = "PATH/CLASS/picture.jpg, or PATH/train/CLASS/picture.jpg and PATH/test/CLASS/picture.jpg"
MOST_FOLDERS = 100_000
VALIDATION = ("validation", "valid", "val")
Parts = tuple[Split, Split, Split, tuple[str, ...]]


def read_folder(path: Path, image_size: int, validation: float, seed: int) -> Parts:
    """Training, validation and test pictures of a folder, and its classes.

    Without train and test folders a stratified fifth is for the test, and `validation` of the rest for
    validation. Beside train, a validation folder is the test where there is no other.

    Raises InputError for a folder of another form, and class folders that differ.
    """
    if not path.is_dir():
        raise InputError(f"imagefolder: {path} is not a folder; it must hold {FORM}")
    given = {part: path / part for part in ("train", "test") if (path / part).is_dir()}
    extra = next((path / name for name in VALIDATION if (path / name).is_dir()), None)
    if "test" not in given and "train" in given and extra is not None:
        given["test"], extra = extra, None
    if not given:
        return _split_here(path, image_size, validation, seed)
    for part in ("train", "test"):
        if part not in given:
            raise InputError(f"imagefolder: {path / part} is not a folder; {path} must hold {FORM}")
    if extra is not None:
        given["validation"] = extra
    return _published(
        path, {part: _source(folder) for part, folder in given.items()}, image_size, validation, seed
    )


def _split_here(path: Path, image_size: int, validation: float, seed: int) -> Parts:
    source = _source(path)
    every = read_pictures(source, image_size)
    rows: Rows = split_rows(every.labels.numpy(), validation, seed, f"imagefolder:{path}")
    train, held, test = normalized(*(every.take(rows_) for rows_ in (rows.train, rows.validation, rows.test)))
    return train, held, test, tuple(source.classes)


def _published(path: Path, sources: dict[str, Any], image_size: int, validation: float, seed: int) -> Parts:
    classes = sources["train"].classes
    for part, source in sources.items():
        if source.classes != classes:
            odd = sorted(set(classes) ^ set(source.classes))
            raise InputError(
                f"{path}: train and {part} have different class folders; in only one of them: {odd}"
            )
    parts = {part: read_pictures(source, image_size) for part, source in sources.items()}
    if len({part.inputs.shape[1:] for part in parts.values()}) > 1:
        parts = {part: _decode(source, image_size) for part, source in sources.items()}
    train, test = normalized(parts["train"], parts["test"])
    if "validation" in parts:
        return train, normalized(parts["train"], parts["validation"])[1], test, tuple(classes)
    return *held_out(train, validation, seed, f"imagefolder:{path}"), test, tuple(classes)


def _source(folder: Path) -> Any:
    """The pictures of a folder of class folders; raises InputError where there are none."""
    from torchvision.datasets import ImageFolder

    _require_end(folder)
    try:
        return ImageFolder(str(folder), loader=open_picture)
    except FileNotFoundError as error:
        raise InputError(
            f"imagefolder: no pictures in class folders of {folder} ({first_line(error, 120)}); it must hold "
            f"CLASS/picture.jpg"
        ) from error


def _require_end(folder: Path) -> None:
    """Raise InputError where a link leads back up, or where folders are too many: links are followed."""
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [(str(folder), frozenset())]
    for _ in range(MOST_FOLDERS):
        if not waiting:
            return
        path, above = waiting.pop()
        try:
            place = os.stat(path)
            below = [entry.path for entry in os.scandir(path) if entry.is_dir()]
        except OSError:  # which nobody can read, or no folder
            continue
        mark = (place.st_dev, place.st_ino)
        if mark in above:
            raise InputError(f"imagefolder: {path} is a link to a folder that holds it; remove the link")
        waiting += [(each, above | {mark}) for each in below]
    raise InputError(f"imagefolder: {folder} holds more than {MOST_FOLDERS:,} folders; name a smaller one")


def read_pictures(source: Any, image_size: int) -> Split:
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
