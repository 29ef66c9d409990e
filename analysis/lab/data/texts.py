"""Texts of one's own: words hashed into a fixed number of features, or a tokenizer's ids."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from analysis.lab.data.csv_files import Labelled, read_labelled
from analysis.lab.data.splits import DataSet, Split
from analysis.lab.settings import ColumnsSettings
from capacity.errors import InputError, missing, unknown
from capacity.inputs import first_line

if TYPE_CHECKING:
    from collections.abc import Callable

HASHED_FEATURES = 2048
MOST_TOKENS = 128


def read_text(path: Path, columns: ColumnsSettings, validation: float) -> DataSet:
    """Texts as (N, 2048) floats of hashed words, or with a tokenizer as (N, length) ids.

    The text is the column `columns.text`, by default the one with the longest words. Hashed counts have
    alternating signs and unit length (Weinberger et al. 2009, arXiv:0902.2206), times the root of the number
    of features, so that an entry's mean square is 1. Ids are as long as the longest training text, 128 at
    most; shorter texts are padded.

    Raises InputError for what `read_labelled` refuses, for a column that holds no text, and for a tokenizer
    that cannot be read.
    """
    table = read_labelled(path, columns, validation)
    name = columns.text or _longest(table)
    if name not in table.features:
        raise InputError(
            f"{unknown('column', name, map(str, table.features.columns))} in {path}: name the text's with "
            f"--text"
        )
    texts = table.features[name]
    notes = [f"{path.name}: the text is column {name!r}"] if not columns.text else []
    if texts.isna().any():
        notes.append(f"{path.name}: empty texts in {name!r}: {int(texts.isna().sum()):,}")
    words = np.asarray([str(text) for text in texts.fillna("")], dtype=object)
    change: Callable[[Any], Tensor] = _hashed
    if columns.tokenizer:
        change, said = _tokens(Path(columns.tokenizer), list(words[table.rows.train]))
        notes += said

    def split(rows: np.ndarray) -> Split:
        return Split(change(list(words[rows])), torch.from_numpy(table.labels[rows]))

    rows = table.rows
    return DataSet(
        f"text:{path}", split(rows.train), split(rows.validation), split(rows.test), table.classes,
        (*table.notes, *notes),
    )  # fmt: skip


def _longest(table: Labelled) -> str:
    from pandas.api.types import is_numeric_dtype

    lengths = {
        str(name): float(column.dropna().astype(str).str.len().mean())
        for name, column in table.features.items()
        if not is_numeric_dtype(column) and column.notna().any()
    }
    if not lengths:
        raise InputError(
            f"{table.path} has no column of words besides the label, only numbers: for those, --dataset "
            f"table:{table.path}"
        )
    return max(lengths, key=lambda name: lengths[name])


def _hashed(texts: list[str]) -> Tensor:
    from sklearn.feature_extraction.text import HashingVectorizer

    counts = HashingVectorizer(n_features=HASHED_FEATURES, dtype=np.float32).transform(texts)
    return torch.tensor(counts.toarray() * np.float32(HASHED_FEATURES**0.5))  # on a cache line


def _tokens(path: Path, training: list[str]) -> "tuple[Callable[[Any], Tensor], list[str]]":
    """What turns texts into ids, and how many training texts it cuts."""
    tokenizer = load_tokenizer(path)
    lengths = np.array([len(ids) for ids in tokenizer(training)["input_ids"]])
    longest = int(min(MOST_TOKENS, lengths.max()))
    cut = int((lengths > MOST_TOKENS).sum())

    def change(texts: list[str]) -> Tensor:
        tokens = tokenizer(texts, padding="max_length", truncation=True, max_length=longest)
        return torch.tensor(tokens["input_ids"], dtype=torch.int64)

    return change, [f"training texts cut after {MOST_TOKENS} tokens: {cut:,}"] if cut else []


def load_tokenizer(path: Path) -> Any:
    """A tokenizer from a tokenizer.json or the folder that holds one; nothing is downloaded or executed.

    Raises InputError where there is none, or it cannot be read, and where transformers is not installed.
    """
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"{file} is not a file: --tokenizer takes a tokenizer.json or the folder of one")
    try:
        from transformers import PreTrainedTokenizerFast
    except ImportError as error:
        raise missing("models", "--tokenizer") from error
    maker: Any = PreTrainedTokenizerFast
    try:
        tokenizer = maker(tokenizer_file=str(file))
    except Exception as error:  # the Rust library raises plain exceptions
        raise InputError(f"{file} cannot be read as a tokenizer: {first_line(error, 160)}") from error
    if tokenizer.pad_token_id is None:
        known = tokenizer.get_vocab()
        pad = next((word for word in ("[PAD]", "<pad>", "<|endoftext|>", "</s>") if word in known), None)
        tokenizer.pad_token = pad or min(known, key=lambda word: int(known[word]))
    return tokenizer
