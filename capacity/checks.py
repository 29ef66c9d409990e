"""arguments(): what is of a wrong kind is refused by name, before a function does anything."""

import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from math import isnan
from numbers import Integral, Real
from typing import Any, ParamSpec, TypeVar

from capacity.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")
LONGEST_NAME = 255  # bytes of a file's name, of which a path has several
Check = Callable[[str, Any], None]


def arguments(**checks: Check) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator: each check is called with its argument's name and value and raises InputError.

    Kinds only; which values of a kind will do is the function's own business.

    >>> @arguments(share=number)
    ... def half(share: float) -> float:
    ...     return share / 2
    >>> half("0.5")
    Traceback (most recent call last):
    capacity.errors.InputError: share must be a number, found '0.5' of type str
    """

    def decorated(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        unknown = checks.keys() - signature.parameters.keys()
        assert not unknown, f"{function.__qualname__} has no argument {unknown}"

        @wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                given = signature.bind(*args, **kwargs).arguments
            except TypeError:  # Python's own words for a missing or unknown argument
                return function(*args, **kwargs)
            for name, check in checks.items():
                if name in given:
                    check(name, given[name])
            return function(*args, **kwargs)

        return called

    return decorated


def integer(name: str, value: Any) -> None:
    """A whole number of Python, numpy or a tensor of one element; no boolean."""
    plain = value.item() if _is_scalar(value) else value
    _require(isinstance(plain, Integral) and not isinstance(plain, bool), name, "a whole number", value)


def real(name: str, value: Any) -> None:
    """A real number, as of `integer`, or NaN."""
    plain = value.item() if _is_scalar(value) else value
    _require(isinstance(plain, Real) and not isinstance(plain, bool), name, "a number", value)


def plain(name: str, value: Any) -> None:
    """A real number of Python or numpy, or NaN; no tensor, which a setting would be held as."""
    _require(isinstance(value, Real) and not isinstance(value, bool), name, "a number", value)


def fields(value: object, checks_by_name: Mapping[str, Check]) -> None:
    """Check fields of an object, each under its own name."""
    for name, check in checks_by_name.items():
        check(name, getattr(value, name))


def number(name: str, value: Any) -> None:
    """A real number, as of `integer`; not NaN."""
    real(name, value)
    _require(not isnan(value), name, "a number", value)


def seed(name: str, value: Any) -> None:
    """A whole number from 0 on, as generators take it."""
    count(name, value)
    _require(int(value) >= 0, name, "at least 0", value)


def count(name: str, value: Any) -> None:
    """A whole number that 64 bits hold."""
    integer(name, value)
    _require(abs(int(value)) < 2**63, name, "below 2^63", value)


def flag(name: str, value: Any) -> None:
    """A boolean, or 0 or 1."""
    plain = value.item() if _is_scalar(value) else value
    _require(isinstance(plain, bool | Integral), name, "True or False", value)


def path(name: str, value: Any) -> None:
    """A path as words or as a `pathlib.Path`, which a file system can have."""
    _require(isinstance(value, str | os.PathLike) and bool(str(value)), name, "a path", value)
    try:
        written = os.fsencode(value)
    except UnicodeEncodeError:  # half of a pair of code units
        written = b"\0"
    if b"\0" in written or max(map(len, written.replace(b"\\", b"/").split(b"/"))) > LONGEST_NAME:
        raise InputError(f"{name} is no name that a file can have: {os.fspath(value)!r:.120}")


def instance(kind: type) -> Check:
    """What is of a class."""

    def check(name: str, value: Any) -> None:
        _require(isinstance(value, kind), name, kind.__name__, value)

    return check


def function(count: int) -> Check:
    """What can be called with so many arguments by position."""

    def check(name: str, value: Any) -> None:
        right = takes(value, count) and not hasattr(value, "state_dict")  # no network
        _require(right, name, f"a function of {count} argument{'s' if count != 1 else ''}", value)

    return check


def takes(value: Any, count: int) -> bool:
    """Whether it is a function of so many arguments; classes are functions of none at most."""
    if not callable(value) or (count and isinstance(value, type)):
        return False
    try:
        inspect.signature(value).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:  # built-in functions may hide theirs
        pass
    return True


def array(name: str, value: Any) -> None:
    """A numpy array or a tensor."""
    _require(hasattr(value, "shape") and hasattr(value, "ndim"), name, "an array or a tensor", value)


def table(name: str, value: Any) -> None:
    """An array, a tensor, or rows of one length."""
    import numpy as np

    try:
        right = value is not None and (hasattr(value, "detach") or np.asarray(value).size >= 0)
    except (TypeError, ValueError):
        right = False
    _require(right, name, "an array, a tensor or rows of one length", value)


def module(name: str, value: Any) -> None:
    """A network, as torch's nn.Module; no class of one, no name, no weights alone."""
    from torch import nn

    if isinstance(value, nn.Module):
        return
    if isinstance(value, type):
        raise InputError(
            f"{name} must be an nn.Module, found the class {value.__name__}: make one, as in Net()"
        )
    advice = ": load it into a model with load_state_dict" if isinstance(value, Mapping) else ""
    raise InputError(f"{name} must be an nn.Module, found one of type {type(value).__name__}{advice}")


def optional(check: Check) -> Check:
    """None, or what passes a check."""

    def passed(name: str, value: Any) -> None:
        if value is not None:
            check(name, value)

    return passed


def each(check: Check) -> Check:
    """A list or the like of what passes a check."""

    def passed(name: str, value: Any) -> None:
        listed = isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)
        _require(listed and hasattr(value, "__len__") and getattr(value, "ndim", 1), name, "a list", value)
        for place, part in enumerate(value):
            check(f"{name}[{place}]", part)

    return passed


def _is_scalar(value: Any) -> bool:
    """Whether it is an array or tensor of one element."""
    return callable(getattr(value, "item", None)) and all(n == 1 for n in getattr(value, "shape", (0,)))


def _require(right: Any, name: str, wanted: str, value: Any) -> None:
    if not right:
        shown = " ".join(repr(value).split())
        raise InputError(
            f"{name} must be {wanted}, found {shown:.60} of type {type(value).__name__}"
            if len(shown) <= 60
            else f"{name} must be {wanted}, found one of type {type(value).__name__}"
        )
