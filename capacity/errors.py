"""The one error that bad input raises, and two that are raised from many places."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class InputError(ValueError):
    """Something the caller passed cannot be used; the message says what was found and what would work."""


def missing(extra: str, purpose: str) -> InputError:
    """An error for something that needs an extra which is not installed, with the line to type.

    >>> print(missing("onnx", "export to ONNX"))
    export to ONNX needs more packages: pip install "deepcapacity[onnx]"
    """
    return InputError(f'{purpose} needs more packages: pip install "deepcapacity[{extra}]"')


def unknown(what: str, given: Any, known: Iterable[str]) -> InputError:
    """An error for a name that does not exist, or what is none, with the nearest ones that do.

    >>> print(unknown("model", "lenet30", ["lenet300", "lenet5", "mlp"]))
    unknown model 'lenet30'; did you mean 'lenet300' or 'lenet5'? (known: lenet300, lenet5, mlp)
    """
    names = [str(name) for name in known]
    near = get_close_matches(given, names, n=2, cutoff=0.5) if isinstance(given, str) else []
    description = repr(given) if isinstance(given, str) else brief(given)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    if near and len(names) > 40:
        return InputError(f"unknown {what} {description}{hint} ({len(names):,} are known)")
    shown = ", ".join(names) if len(names) <= 40 else f"{', '.join(names[:5])} and {len(names) - 5:,} more"
    return InputError(f"unknown {what} {description}{hint} (known: {shown})")


def brief(value: Any, most: int = 60) -> str:
    """A value and its type in one line; what is longer, or cannot be shown, is named by its type alone.

    >>> brief(2), brief([0] * 99)
    ('2 of type int', 'one of type list')
    """
    try:
        shown = " ".join(repr(value).split())
    except Exception:  # whatever a class's own __repr__ raises
        shown = "one"
    return f"{shown if len(shown) <= most else 'one'} of type {type(value).__name__}"
