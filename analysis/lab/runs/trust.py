"""What a run folder from elsewhere may say: settings of its command's kinds, and no way out of the folder."""

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

from typeguard import TypeCheckError, check_type

from analysis.lab.cli import check_numbers
from capacity.errors import InputError

OWN_DATA = ("imagefolder", "table", "text")
MOST_LETTERS = 4_096  # of a word among settings


def inside(folder: Path, name: str) -> Path:
    """The path of a file of a folder, there or not; raises InputError if a link leads elsewhere."""
    path = folder / name
    try:
        if path.resolve().is_relative_to(folder.resolve()):
            return path
    except (OSError, RuntimeError, ValueError) as error:  # a link to itself, a name that is none
        raise InputError(f"{path} cannot be followed: {error}") from error
    raise InputError(f"{path} leads out of the run folder; copy the file itself there")


def settings_from(kind: type, stored: Mapping[str, Any], path: Path) -> Any:
    """A command's settings as they were stored; those that it does not know are left out.

    Raises InputError, naming the setting, for a value that is not of its kind, not among its choices, no
    finite number, or no printable word.
    """
    hints, values = get_type_hints(kind), {}
    for field in dataclasses.fields(kind):
        if field.name not in stored:
            continue
        value = stored[field.name]
        value = tuple(value) if isinstance(value, list) else value
        try:
            check_type(value, hints[field.name])
            number = isinstance(value, bool) and bool not in (hints[field.name], *get_args(hints[field.name]))
            good = not number and all(map(_is_plain, value if isinstance(value, tuple) else (value,)))
        except TypeCheckError:
            good = False
        if not good:
            raise InputError(
                f"{path} is damaged: its {field.name} cannot be {shown(value)}; run its command again"
            )
        values[field.name] = value
    config = kind(**values)
    try:
        check_numbers(config)
    except InputError as error:
        raise InputError(f"{path} is damaged: {error}; run its command again") from error
    return config


def _is_plain(value: Any) -> bool:
    """Whether a value is no word, or one that terminals, pages and papers show in one line."""
    return not isinstance(value, str) or (value.isprintable() and len(value) <= MOST_LETTERS)


def shown(value: Any) -> str:
    """A value in a message, in one short line.

    >>> shown("x" * 99)
    "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx..."
    """
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:56]}..."


def ways_out(config: Any, default: Any) -> dict[str, str]:
    """The settings by name that lead out of a run folder: code to be imported, files and folders."""
    from analysis.lab.data.datasets import TORCHVISION
    from analysis.lab.models import MODELS

    ways = {}
    kind, _, rest = config.model.partition(":")
    if config.model not in MODELS and kind not in ("torchvision", "timm") and rest:
        ways["model"] = config.model
    if config.dataset.partition(":")[0] in OWN_DATA:
        ways["dataset"] = config.dataset
    if config.dataset in TORCHVISION and config.data != default.data:
        ways["data"] = config.data
    if config.tokenizer:
        ways["tokenizer"] = config.tokenizer
    return ways


def require_trusted(config: Any, trusted: Sequence[str], path: Path) -> None:
    """Raise InputError unless all that leads out of a run folder was named by who opens it."""
    for setting, value in ways_out(config, type(config)()).items():
        if value not in trusted:
            what = "imported" if setting == "model" else "read"
            raise InputError(
                f"{path} names the {setting} {shown(value)}, which lies outside of it and is not {what} "
                f"unless you trust it: --trust {shlex.quote(value)}"
            )
