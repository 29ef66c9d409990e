"""Tables of one's own: numbers standardised, categories one-hot, gaps filled, all by the training rows."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from analysis.lab.data.csv_files import Labelled, read_labelled
from analysis.lab.data.splits import DataSet, Split
from analysis.lab.settings import ColumnsSettings
from capacity.errors import InputError, unknown

if TYPE_CHECKING:
    import pandas as pd

MOSTLY = 0.8  # a column is one of numbers if so many of its filled cells are
MOST_CATEGORIES = 64  # of a column; rarer ones share an entry
ABSENT = "(missing)"


def read_table(path: Path, columns: ColumnsSettings, validation: float) -> DataSet:
    """A table as (N, features) floats: a feature per number, one per category.

    Gaps among numbers become the median of the training rows, gaps among categories a category. Columns of
    words that are nearly all different, numbered rows, and columns that are empty or the same in
    every training row are left out; `notes` says so.

    Raises InputError for what `read_labelled` refuses, and for cells that are no numbers where others are.
    """
    table = read_labelled(path, columns, validation)
    features, notes = _usable(table, set(columns.categories))
    numbers = [name for name in features if name not in columns.categories and _is_numeric(features[name])]
    words = [name for name in features if name not in numbers]
    notes += _gaps(path, features, numbers, words)
    for name in words:
        features[name] = features[name].astype(object).where(features[name].notna(), ABSENT).astype(str)
    change = _transformer(numbers, words).fit(features.iloc[table.rows.train])
    notes += _unseen(path, features, words, table)

    def split(rows: np.ndarray) -> Split:
        values = np.asarray(change.transform(features.iloc[rows]), np.float32)
        # A copy, since torch's memory starts on a cache line and numpy's anywhere: by that sums may take
        # another order, and a run that is resumed would differ in its last digits.
        return Split(torch.tensor(values), torch.from_numpy(table.labels[rows]))

    rows = table.rows
    return DataSet(
        f"table:{path}", split(rows.train), split(rows.validation), split(rows.test), table.classes,
        (*table.notes, *notes),
    )  # fmt: skip


def _usable(table: Labelled, categories: set[str]) -> "tuple[pd.DataFrame, list[str]]":
    """The columns to learn from, those of numbers as floats, and why others are left out."""
    frame, path = table.features, table.path
    columns: dict[Any, Any] = {}
    left: dict[Any, str] = {}
    for wanted in categories:
        if wanted not in frame:
            raise InputError(
                f"{unknown('column', wanted, map(str, frame.columns))} in {path}, to take as --categories"
            )
    for name, column in frame.items():
        seen = column.iloc[table.rows.train]
        if not seen.notna().any():
            left[name] = "empty"
        elif seen.nunique(dropna=False) == 1:
            left[name] = f"{seen.iloc[0]} in every training row"
        elif name in categories:
            columns[name] = column
        elif _is_numeric(column):
            counted = (column.diff().iloc[1:] == 1).all()
            if str(name).startswith("Unnamed:") and counted:
                left[name] = "numbers of rows"
                continue
            columns[name] = _finite(path, name, column.astype(float))
        else:
            _require_no_numbers(path, name, column)
            filled = column.dropna()
            if filled.nunique() > max(20, len(filled) // 2):
                left[name] = f"{filled.nunique():,} different words in {len(filled):,} rows"
                continue
            columns[name] = column
    if not columns:
        raise InputError(
            f"{path} has no column of numbers or categories besides the label: "
            + "; ".join(f"{name!r} is {why}" for name, why in left.items())
        )
    import pandas as pd

    return pd.DataFrame(columns), [
        f"{path.name}: column {name!r} is left out: {why}" for name, why in left.items()
    ]


def _is_numeric(column: "pd.Series[Any]") -> bool:
    from pandas.api.types import is_numeric_dtype

    return bool(is_numeric_dtype(column))


def _finite(path: Path, name: Any, column: "pd.Series[Any]") -> "pd.Series[Any]":
    wrong = np.isinf(column.to_numpy())
    if wrong.any():
        row = column.index[int(np.argmax(wrong))] + 1
        raise InputError(
            f"{path}, column {name!r}, row {row}: infinity is no number to learn from; mend the cell or "
            f"leave it empty"
        )
    return column


def _require_no_numbers(path: Path, name: Any, column: "pd.Series[Any]") -> None:
    """Raise InputError for a column of words most of which are numbers, with the first that is none."""
    import pandas as pd

    filled = column.dropna().astype(str)
    for changed, what in ((filled, ""), (filled.str.replace(",", "."), ": decimals have a point")):
        good = pd.to_numeric(changed, errors="coerce").notna().to_numpy()
        if good.mean() >= MOSTLY:
            bad = ~good if not what else ~pd.to_numeric(filled, errors="coerce").notna().to_numpy()
            first = int(np.argmax(bad))
            raise InputError(
                f"{path}, column {name!r}, row {filled.index[first] + 1}: {filled.iloc[first]!r} is no "
                f"number, as {good.sum():,} of its {len(good):,} cells are{what}; mend the cell, leave it "
                f"empty, or name the column in --categories"
            )


def _transformer(numbers: list[Any], words: list[Any]) -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    standard = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    one_hot = OneHotEncoder(
        handle_unknown="infrequent_if_exist", max_categories=MOST_CATEGORIES, sparse_output=False
    )
    return ColumnTransformer([("numbers", standard, numbers), ("categories", one_hot, words)])


def _gaps(path: Path, features: "pd.DataFrame", numbers: list[Any], words: list[Any]) -> list[str]:
    filled = {name: int(features[name].isna().sum()) for name in features}
    said = []
    for names, how in ((numbers, "the median of the training rows"), (words, "a category of their own")):
        gaps = [f"{filled[name]:,} in {name!r}" for name in names if filled[name]]
        if gaps:
            said.append(f"{path.name}: missing values become {how}: {', '.join(gaps)}")
    return said


def _unseen(path: Path, features: "pd.DataFrame", words: list[Any], table: Labelled) -> list[str]:
    said = []
    for name in words:
        known = set(features[name].iloc[table.rows.train])
        new = set(features[name]) - known
        if new:
            said.append(
                f"{path.name}: categories of {name!r} in no training row, which count as none: {len(new):,}"
            )
    return said
