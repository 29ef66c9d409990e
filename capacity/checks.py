"""arguments(): what is of a wrong kind is refused by name, before a function does anything.

A check is called with an argument's name and value. It raises InputError, or returns what takes the value's
place: numbers of numpy and of tensors as Python's own, which do not overflow. None leaves the value.
"""

import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from math import isnan
from numbers import Integral, Real
from typing import Any, ParamSpec, TypeVar

from capacity.errors import InputError, brief, unknown

P = ParamSpec("P")
R = TypeVar("R")
LONGEST_NAME = 255  # bytes of a file's name, of which a path has several
Check = Callable[[str, Any], Any]


def arguments(**checks: Check) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator: the function is called with what the checks leave of its arguments.

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
                bound = signature.bind(*args, **kwargs)
            except TypeError:  # Python's own words for a missing or unknown argument
                return function(*args, **kwargs)
            given = bound.arguments
            for name, check in checks.items():
                if name in given:
                    plain = check(name, given[name])
                    given[name] = given[name] if plain is None else plain
            return function(*bound.args, **bound.kwargs)

        return called

    return decorated


def integer(name: str, value: Any) -> int:
    """A whole number of Python, numpy or a tensor of one element; no boolean."""
    plain = value.item() if _is_scalar(value) else value
    _require(isinstance(plain, Integral) and not isinstance(plain, bool), name, "a whole number", value)
    return int(plain)


def real(name: str, value: Any) -> float:
    """A real number, as of `integer`, or NaN."""
    plain = value.item() if _is_scalar(value) else value
    _require(isinstance(plain, Real) and not isinstance(plain, bool), name, "a number", value)
    try:
        as_float = float(plain)
    except OverflowError:
        raise InputError(f"{name} must be a number below 1e308, found one of more digits") from None
    return plain if isinstance(plain, int | float) else as_float


def plain(name: str, value: Any) -> float:
    """A real number of Python or numpy, or NaN; no tensor, which a setting would be held as."""
    _require(isinstance(value, Real), name, "a number", value)
    return real(name, value)


def fields(value: object, checks_by_name: Mapping[str, Check]) -> None:
    """Check fields of an object, each under its own name; numbers become Python's own."""
    for name, check in checks_by_name.items():
        plain = check(name, getattr(value, name))
        if isinstance(plain, Real):
            object.__setattr__(value, name, plain)


def number(name: str, value: Any) -> float:
    """A real number, as of `integer`; not NaN."""
    plain = real(name, value)
    _require(not isnan(plain), name, "a number", value)
    return plain


def seed(name: str, value: Any) -> int:
    """A whole number from 0 on, as generators take it."""
    plain = count(name, value)
    _require(plain >= 0, name, "at least 0", value)
    return plain


def count(name: str, value: Any) -> int:
    """A whole number that 64 bits hold."""
    plain = integer(name, value)
    _require(abs(plain) < 2**63, name, "below 2^63", value)
    return plain


def flag(name: str, value: Any) -> bool:
    """A boolean, or 0 or 1."""
    plain = value.item() if _is_scalar(value) else value
    _require(isinstance(plain, bool | Integral) and plain in (0, 1), name, "True or False", value)
    return bool(plain)


def word(*known: str) -> Check:
    """One of the words that there are."""

    def check(name: str, value: Any) -> None:
        if not isinstance(value, str) or value not in known:
            raise unknown(name, value, known)

    return check


def names(name: str, value: Any) -> list[str]:
    """A list of names, such as those of layers; one name alone is none."""
    if isinstance(value, str):
        raise InputError(f"{name} must be a list of names, found the text {value!r}: pass [{value!r}]")
    listed: list[str] = each(instance(str))(name, value)
    return listed


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
        wanted = f"a function of {count} argument{'s' if count != 1 else ''}"
        _require(takes(value, count), name, wanted, value)

    return check


def takes(value: Any, count: int) -> bool:
    """Whether it is a function of so many arguments; classes are of none at most, and networks are none."""
    if not callable(value) or (count and isinstance(value, type)) or hasattr(value, "state_dict"):
        return False
    try:
        inspect.signature(value).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:  # built-in functions may hide theirs
        pass
    return True


def array(name: str, value: Any) -> None:
    """A numpy array or a tensor, with numbers in it: none on the meta device."""
    try:
        right = hasattr(value, "shape") and hasattr(value, "ndim")
    except RuntimeError:  # a nested tensor has no shape
        right = True
    _require(right, name, "an array or a tensor", value)
    _require_numbers(name, value)


def tensor(name: str, value: Any) -> Any:
    """A tensor, or a numpy array as one."""
    import torch

    array(name, value)
    try:
        return torch.as_tensor(value)
    except TypeError as error:  # words, or objects of Python
        raise InputError(f"{name} must be an array of numbers, found one of type {value.dtype}") from error


def table(name: str, value: Any) -> None:
    """An array, a tensor, or rows of one length."""
    import numpy as np

    try:
        right = hasattr(value, "detach") or np.asarray(value).ndim > 0
    except (TypeError, ValueError):
        right = False
    _require(right and not isinstance(value, type), name, "an array, a tensor or rows of one length", value)
    _require_numbers(name, value)


def _require_numbers(name: str, value: Any) -> None:
    if getattr(value, "is_meta", False):
        raise InputError(f"{name} lies on the meta device, where tensors have a shape but no numbers")


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

    def passed(name: str, value: Any) -> Any:
        return None if value is None else check(name, value)

    return passed


def each(check: Check) -> Check:
    """A list or the like of what passes a check."""

    def passed(name: str, value: Any) -> list[Any]:
        listed = isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)
        _require(listed and hasattr(value, "__len__") and getattr(value, "ndim", 1), name, "a list", value)
        pairs = [(part, check(f"{name}[{place}]", part)) for place, part in enumerate(value)]
        return [part if plain is None else plain for part, plain in pairs]

    return passed


def _is_scalar(value: Any) -> bool:
    """Whether it is an array or tensor of one element that can be read."""
    try:
        shape = getattr(value, "shape", (0,))
    except RuntimeError:  # of a nested tensor
        return False
    readable = callable(getattr(value, "item", None)) and not getattr(value, "is_meta", False)
    return readable and isinstance(shape, tuple) and all(n == 1 for n in shape)


def _require(right: Any, name: str, wanted: str, value: Any) -> None:
    if not right:
        raise InputError(f"{name} must be {wanted}, found {brief(value)}")
