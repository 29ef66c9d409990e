"""The one error that bad input raises, and two that are raised from many places."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """Something the caller passed cannot be used; the message says what was found and what would work."""


def missing(extra: str, purpose: str) -> InputError:
    """An error for something that needs an extra which is not installed, with the line to type.

    >>> print(missing("onnx", "export to ONNX"))
    export to ONNX needs more packages: pip install "deepcapacity[onnx]"
    """
    return InputError(f'{purpose} needs more packages: pip install "deepcapacity[{extra}]"')


def unknown(what: str, given: str, known: Iterable[str]) -> InputError:
    """An error for a name that does not exist, with the nearest ones that do.

    >>> print(unknown("model", "lenet30", ["lenet300", "lenet5", "mlp"]))
    unknown model 'lenet30'; did you mean 'lenet300' or 'lenet5'? (known: lenet300, lenet5, mlp)
    """
    names = [str(name) for name in known]
    near = get_close_matches(str(given), names, n=2, cutoff=0.5)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    if near and len(names) > 40:
        return InputError(f"unknown {what} {given!r}{hint} ({len(names):,} are known)")
    shown = ", ".join(names) if len(names) <= 40 else f"{', '.join(names[:5])} and {len(names) - 5:,} more"
    return InputError(f"unknown {what} {given!r}{hint} (known: {shown})")
