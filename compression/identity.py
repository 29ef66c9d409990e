"""What a stored result depends on, by content: settings, data, networks, functions; never an address.

`describe` turns any value into a flat dict of short texts, one for each part, that two processes agree on:
numbers and words as they are, tensors and weights by SHA-256, functions by their source or byte code, their
defaults, what they enclose and the globals they read. `compare` names the parts that differ.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from capacity.cloning import initialized, unwrapped
from compression.contents import UNKNOWN, Parts, fingerprint_of

__all__ = [
    "changed_parts", "compare", "describe", "file_sha256", "fingerprint", "fingerprint_of", "unknown_parts",
    "without",
]  # fmt: skip


def describe(**values: Any) -> dict[str, str]:
    """The content of values by name: {"amount": "0.3", "retrain.settings.epochs": "10", ...}.

    Parts whose content cannot be known (open files, generators, locks) read "cannot be compared: TYPE".
    Paths count as places, not content, and what a function reads from files when it is called does not count:
    let it enclose what they hold, or their `file_sha256`.

    >>> describe(amount=0.3, layers=["a"])
    {'amount': '0.3', 'layers.0': "'a'"}
    """
    parts = Parts()
    for name, value in values.items():
        parts.visit(name, value)
    return parts.texts


def compare(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """The parts that differ, each with both contents where they are short.

    >>> compare({"amount": "0.3"}, {"amount": "0.9"})
    ['amount (0.3 stored, 0.9 asked for)']
    """
    different = []
    for key in sorted(stored.keys() | asked.keys()):
        before, now = (_short(side.get(key, "nothing")) for side in (stored, asked))
        if stored.get(key) != asked.get(key):
            readable = before != now and "sha256" not in before + now
            different.append(f"{key} ({before} stored, {now} asked for)" if readable else key)
    return different


def changed_parts(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Where two descriptions of the same things differ: what a function did to its own surroundings.

    Of a list that grew, the list.

    >>> changed_parts({"f.calls.0": "1", "f.rate": "2"}, {"f.calls.0": "1", "f.calls.1": "1", "f.rate": "2"})
    ['f.calls']
    """
    changed = set()
    for key in before.keys() | after.keys():
        if before.get(key) != after.get(key):
            place, _, last = key.rpartition(".")
            changed.add(place if last.isdigit() else key)
    return sorted(changed)


def without(description: Mapping[str, str], parts: Iterable[str]) -> dict[str, str]:
    """A description without these parts and what lies below them."""
    below = tuple(f"{part}." for part in parts)
    return {
        key: text
        for key, text in description.items()
        if key not in parts and not (below and key.startswith(below))
    }


def unknown_parts(description: Mapping[str, Any]) -> list[str]:
    """The parts of a description whose content cannot be known."""
    return [key for key, text in description.items() if str(text).startswith(UNKNOWN)]


def fingerprint(model: nn.Module) -> str:
    """SHA-256 of a model's state dict: names, types, shapes and bytes."""
    return fingerprint_of(initialized(unwrapped(model)).state_dict())


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _short(text: Any) -> str:
    return str(text) if len(str(text)) <= 40 else str(text)[:37] + "..."
