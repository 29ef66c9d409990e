"""Options that functions share, with their defaults: taken by name, others refused, and listed by `help`."""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypedDict, TypeVar, get_args

from compression.progress import Progress
from compression.trackers import Tracker

P = ParamSpec("P")
R = TypeVar("R")


class ReportOptions(TypedDict, total=False):
    """Whom a long computation tells how far it is."""

    progress: Progress
    tracker: Tracker | None


REPORTED: ReportOptions = {"progress": None, "tracker": None}


def with_options(defaults: Mapping[str, Any]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator of functions that end in `**options: Unpack[...]`: these are all there, by default as here.

    Raises TypeError, as Python does, for an option of another name.

    >>> @with_options({"scope": "layer"})
    ... def shown(number: int, **options: str) -> str:
    ...     return f"{number} {options['scope']}"
    >>> shown(1), shown(2, scope="global"), str(inspect.signature(shown))
    ('1 layer', '2 global', "(number: int, *, scope='layer') -> str")
    """

    def decorated(function: Callable[P, R]) -> Callable[P, R]:
        *own, last = inspect.signature(function).parameters.values()
        (group,) = get_args(last.annotation) or (None,)
        kinds = getattr(group, "__annotations__", {})
        listed = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=value,
                annotation=kinds.get(name, inspect.Parameter.empty),
            )
            for name, value in defaults.items()
        ]  # fmt: skip
        known = {parameter.name for parameter in own} | defaults.keys()

        @wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> R:
            for name in kwargs:
                if name not in known:
                    raise TypeError(f"{function.__name__}() got an unexpected keyword argument {name!r}")
            return function(*args, **{**defaults, **kwargs})

        signature = inspect.signature(function).replace(parameters=[*own, *listed])
        vars(called)["__signature__"] = signature
        return called

    return decorated
