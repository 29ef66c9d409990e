"""Text that is there wherever this package runs: docstrings of what it needs.

numpy's by character, for language models; and those of four libraries by word, to be told apart.
"""

import ast
import re
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from zlib import crc32

import numpy as np
import torch

from analysis.lab.data.splits import TEST_SHARE, DataSet, Split
from capacity.errors import InputError

ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
OTHER = "?"  # stands for all that is not in the alphabet
LENGTH = 128  # characters of a sample
PACKAGE = "numpy"
WORDS, BUCKETS = 32, 1_024  # words of a sample of libraries', and ids that they are hashed to
LIBRARIES = {"numpy": "numpy", "scipy": "scipy", "pandas": "pandas", "scikit-learn": "sklearn"}
MOST, MOST_OF_A_FILE = 4_000, 100  # samples of each library, and of each of its files


def read_docstrings(validation: float, seed: int) -> DataSet:
    """Samples of 128 characters of numpy's docstrings as ids, and at each position the id that follows.

    Each source file is in one split, drawn by seed: a fifth of the text or more is the test, `validation`
    of the rest is held out.

    Raises InputError where numpy's source is not there to be read.
    """
    samples = list(filter(len, map(_windows, map(_text, _files(PACKAGE)))))
    _require_source(PACKAGE, samples)
    order = np.random.default_rng(seed).permutation(len(samples))
    train, held, test = map(_split, _parted([samples[k] for k in order], validation))
    count = len(train) + len(held) + len(test)
    note = f"docstrings: {count:,} samples of {LENGTH} characters of numpy {version(PACKAGE)}"
    return DataSet("docstrings", train, held, test, tuple(ALPHABET), (note,))


def read_libraries(validation: float, seed: int) -> DataSet:
    """Samples of 32 words of docstrings as ids below BUCKETS, and which of LIBRARIES each is from.

    As many of each library, at most MOST, from files in an order drawn by seed, at most MOST_OF_A_FILE of
    each. A file is in one split: of each library a fifth of the text or more is the test, `validation` of the
    rest is held out.

    Raises InputError where the source of one of them is not there to be read.
    """
    every = [_of_library(package, seed) for package in LIBRARIES.values()]
    count = min(sum(map(len, samples)) for samples in every)
    parts: list[list[Split]] = [[], [], []]
    for label, samples in enumerate(every):
        for part, texts in zip(parts, _parted(_first(samples, count), validation), strict=True):
            ids = torch.from_numpy(np.concatenate(texts)).long()
            part.append(Split(ids, torch.full((len(ids),), label)))
    train, held, test = (
        Split(torch.cat([s.inputs for s in part]), torch.cat([s.labels for s in part]))  # type: ignore[misc]
        for part in parts
    )
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    note = f"libraries: {count:,} samples of {WORDS} words of each of {versions}"
    return DataSet("libraries", train, held, test, tuple(LIBRARIES), (note,))


@lru_cache(maxsize=len(LIBRARIES))
def _of_library(package: str, seed: int) -> list[np.ndarray]:
    """Samples of each file, files in an order drawn by seed, as many files as MOST samples take."""
    samples: list[np.ndarray] = []
    files = _files(package)
    for k in np.random.default_rng(seed).permutation(len(files)):
        if sum(map(len, samples)) >= MOST:
            break
        samples += filter(len, [_hashed(_text(files[k]))[:MOST_OF_A_FILE]])
    _require_source(package, samples)
    return _first(samples, MOST)


def _hashed(text: str) -> np.ndarray:
    """(N, 32) ids: samples of the words of a text that follow one another, in small letters."""
    words = re.findall(r"\w+", text.lower())
    count = len(words) // WORDS
    ids = [crc32(word.encode()) % BUCKETS for word in words[: count * WORDS]]
    return np.array(ids, dtype=np.int64).reshape(count, WORDS)


def _first(samples: list[np.ndarray], count: int) -> list[np.ndarray]:
    """The samples of the first files, so many together."""
    left, first = count, []
    for one in samples:
        first += [one[:left]] if left else []
        left -= min(left, len(one))
    return first


def _require_source(package: str, samples: list[np.ndarray]) -> None:
    if len(samples) < 3:
        raise InputError(f"{package} is installed without its source: there are no docstrings to read")


def _files(package: str) -> list[Path]:
    """The package's source files but tests, in order of their names."""
    spec = find_spec(package)
    places = map(Path, (spec.submodule_search_locations or ()) if spec else ())
    return [path for place in places for path in sorted(place.rglob("*.py")) if "tests" not in path.parts]


def _text(path: Path) -> str:
    """The docstrings of a source file, joined."""
    documented = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return "\n\n".join(filter(None, map(ast.get_docstring, documented)))


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
