"""Text that is there wherever this package runs: numpy's docstrings, by character, for language models."""

import ast
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from analysis.lab.data.splits import TEST_SHARE, DataSet, Split
from capacity.errors import InputError

ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
OTHER = "?"  # stands for all that is not in the alphabet
LENGTH = 128  # characters of a sample
PACKAGE = "numpy"


def read_docstrings(validation: float, seed: int) -> DataSet:
    """Samples of 128 characters of numpy's docstrings as ids, and at each position the id that follows.

    Each source file is in one split, drawn by seed: a fifth of the text or more is the test, `validation`
    of the rest is held out.

    Raises InputError where numpy's source is not there to be read.
    """
    spec = find_spec(PACKAGE)
    places = list(spec.submodule_search_locations or []) if spec else []
    texts = [text for place in places for text in _texts(Path(place))]
    samples = [_windows(text) for text in texts]
    samples = [one for one in samples if len(one)]
    if len(samples) < 3:
        raise InputError(f"{PACKAGE} is installed without its source: there are no docstrings to read")
    order = np.random.default_rng(seed).permutation(len(samples))
    train, held, test = map(_split, _parted([samples[k] for k in order], validation))
    count = len(train) + len(held) + len(test)
    note = f"docstrings: {count:,} samples of {LENGTH} characters of numpy {version(PACKAGE)}"
    return DataSet("docstrings", train, held, test, tuple(ALPHABET), (note,))


def _texts(root: Path) -> list[str]:
    """The docstrings of each source file but tests, joined, files in order of their names."""
    texts = []
    for path in sorted(root.rglob("*.py")):
        if "tests" in path.parts:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        documented = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        texts.append("\n\n".join(filter(None, map(ast.get_docstring, documented))))
    return texts


def _windows(text: str) -> np.ndarray:
    """(N, 129) ids: samples of a text that follow one another, each with the character behind it."""
    known = np.full(128, ALPHABET.index(OTHER))
    known[[ord(letter) for letter in ALPHABET]] = range(len(ALPHABET))
    ids = known[np.frombuffer(text.encode("ascii", "replace"), dtype=np.uint8)]
    count = max(0, (len(ids) - 1) // LENGTH)
    starts = LENGTH * np.arange(count)[:, None]
    windows: np.ndarray = ids[starts + np.arange(LENGTH + 1)]
    return windows


def _parted(samples: list[np.ndarray], validation: float) -> list[list[np.ndarray]]:
    """Texts for training, validation and test, the last first; each at least one."""
    left = list(samples)
    parts = []
    for share, stay in ((TEST_SHARE, 2), (validation, 1)):
        wanted, part = share * sum(map(len, left)), [left.pop()]
        while len(left) > stay and sum(map(len, part)) < wanted:
            part.append(left.pop())
        parts.append(part)
    return [left, parts[1], parts[0]]


def _split(samples: list[np.ndarray]) -> Split:
    ids = torch.from_numpy(np.concatenate(samples)).long()
    return Split(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())
