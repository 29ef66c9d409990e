"""One's own CSV file: its rows, the label of each, and which split each is in."""

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.lab.data.splits import Rows, rows_by_name, split_rows
from analysis.lab.resources import free_memory
from analysis.lab.settings import ColumnsSettings
from capacity.errors import InputError, unknown
from capacity.inputs import first_line

if TYPE_CHECKING:
    import pandas as pd

CHUNK = 2**20  # bytes read at once
MEMORY_SHARE = 4  # of the free memory, what a file may take whose cells take more than their text
FORM = "the first line names the columns, each further line is a sample, and one column is its label"


@dataclass(frozen=True)
class Labelled:
    """A file's rows that have a label: features (N rows), class indices (N,), classes, splits, and notes."""

    path: Path
    features: "pd.DataFrame"
    labels: np.ndarray
    classes: tuple[str, ...]
    rows: Rows
    notes: tuple[str, ...]


def read_labelled(path: Path, columns: ColumnsSettings, validation: float) -> Labelled:
    """Rows, labels and splits of a CSV file.

    The label is the column `columns.label`, by default the last. Rows without one are left out. The column
    `columns.split_column` says which split a row is in; without it, rows are split by seed, stratified.

    Raises InputError for a file that is missing, empty or no CSV, for columns that it does not have, and for
    labels that are no classes.
    """
    frame = _read(path)
    label = _named(path, frame, columns.label or str(frame.columns[-1]), "--label")
    words = _labels_as_written(path, frame, label)
    here = words != ""
    notes = [] if columns.label else [f"{path.name}: the label is column {label!r}, the last"]
    if not here.all():
        notes.append(f"{path.name}: rows without a label in {label!r} are left out: {(~here).sum():,}")
    frame, words = frame[here], words[here]
    classes, labels = _classes(path, label, words)
    features = frame.drop(columns=label)
    if columns.split_column:
        column = _named(path, features, columns.split_column, "--split-column")
        place = f"{path}, column {column!r},"
        rows = rows_by_name(features[column], labels, validation, columns.split_seed, place)
        features = features.drop(columns=column)
    else:
        rows = split_rows(labels, validation, columns.split_seed, str(path))
    if not len(features.columns):
        raise InputError(f"{path} has no column besides the label {label!r}: {FORM}")
    return Labelled(path, features, labels, classes, rows, tuple(notes))


def _separator(path: Path) -> str:
    """A tab, semicolon or comma: whichever the first line has most of.

    Raises InputError for what is no text, and for a file that is larger, unpacked, than memory carries.
    """
    most = free_memory() // MEMORY_SHARE
    size = path.stat().st_size if path.suffix != ".gz" else 0
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rb") as file:
        start: bytes = file.read(CHUNK)
        size = max(size, len(start))
        while path.suffix == ".gz" and size <= most and (more := len(file.read(CHUNK))):
            size += more
    if size > most:
        raise InputError(
            f"{path} holds {size:,} bytes or more, and a table of {most:,} is the largest that this machine "
            f"has memory for; leave rows out"
        )
    if b"\0" in start:
        raise InputError(f"{path} is no text: it holds zeros, as UTF-16 does; save it as UTF-8")
    first = start.split(b"\n", 1)[0].decode("utf-8-sig", errors="replace")
    return max((",", ";", "\t"), key=first.count)


def _read(path: Path, **options: Any) -> "pd.DataFrame":
    import pandas as pd

    if not path.is_file():
        raise InputError(f"{path} is not a file; it must be a CSV file: {FORM}")
    try:
        separator = _separator(path)
        frame: pd.DataFrame = pd.read_csv(
            path,
            sep=separator,
            compression="gzip" if path.suffix == ".gz" else None,
            encoding="utf-8-sig",
            low_memory=False,
            skipinitialspace=True,
            **options,
        )
    except pd.errors.EmptyDataError as error:
        raise InputError(f"{path} is empty: {FORM}") from error
    except InputError:
        raise
    except (pd.errors.ParserError, UnicodeDecodeError, ValueError, OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read as CSV ({first_line(error, 160)}): {FORM}") from error
    if not isinstance(frame.index, pd.RangeIndex):
        raise InputError(f"{path}: its lines have more cells than its first, which names the columns")
    if frame.empty:
        raise InputError(f"{path} has {len(frame.columns)} columns and no rows: {FORM}")
    frame.columns = [str(name).strip() for name in frame.columns]
    if separator == ";" and "dtype" not in options:
        frame = frame.apply(_decimal_commas)
    if all(_is_number(name) for name in frame.columns):
        raise InputError(f"{path} starts with {', '.join(frame.columns[:4])}, which are no names: {FORM}")
    return frame


def _decimal_commas(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """A column of numbers with decimal commas, as spreadsheets write them beside semicolons, as numbers."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column) or column.isna().all():
        return column
    words = column.dropna().astype(str)
    if not words.str.fullmatch(r"\s*[-+]?\d+(,\d+)?\s*").all():
        return column
    return column.str.replace(",", ".").astype(float)


def _is_number(text: Any) -> bool:
    try:
        float(text)
    except (TypeError, ValueError):
        return False
    return True


def _named(path: Path, frame: "pd.DataFrame", name: str, option: str) -> str:
    if name not in frame.columns:
        raise InputError(
            f"{unknown('column', name, map(str, frame.columns))} in {path}: name one of them with {option}"
        )
    return name


def _labels_as_written(path: Path, frame: "pd.DataFrame", label: str) -> np.ndarray:
    """(N,) words; "NA" and "None" are words too, and only an empty cell is none."""
    place = list(frame.columns).index(label)
    words = _read(path, usecols=[place], dtype=str, keep_default_na=False).iloc[:, 0]
    return np.asarray([word.strip() for word in words], dtype=object)


def _classes(path: Path, label: str, words: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """Class names, numbers in their order and words in the alphabet's, and each row's index into them.

    Raises InputError for a single class, and for numbers to be estimated rather than classes.
    """
    names: dict[str, Any] = {word: word for word in set(words)}
    if all(_is_number(word) for word in names):
        names = {word: float(word) for word in names}
        fractions = [value for value in names.values() if value != round(value)] if _finite(names) else [0.5]
        if fractions or len(set(names.values())) > max(50, len(words) // 2):
            raise InputError(
                f"{path}, label column {label!r}: {len(names):,} different numbers such as {words[0]} in "
                f"{len(words):,} rows are no classes; choose another --label, or replace them by classes"
            )
    elif len(names) > max(50, len(words) // 2):
        raise InputError(
            f"{path}, label column {label!r}: {len(names):,} different values such as "
            f"{str(words[0])[:40]!r} in {len(words):,} rows are no classes; name the label's with --label"
        )
    if len(set(names.values())) < 2:
        contents = f"only {words[0]!r}" if len(words) else "nothing"
        raise InputError(
            f"{path}, label column {label!r} holds {contents}: a classifier needs at least two classes; name "
            f"the label's column with --label"
        )
    order = sorted(set(names.values()))
    index = {value: place for place, value in enumerate(order)}
    classes = tuple(f"{value:g}" if isinstance(value, float) else value for value in order)
    return classes, np.array([index[names[word]] for word in words])


def _finite(names: dict[str, Any]) -> bool:
    return bool(np.isfinite(list(names.values())).all())
