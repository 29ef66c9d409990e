"""One package of our `compression` and the standard library's, named so since Python 3.14 (PEP 784).

Every install puts this file at the top of site-packages as `_deepcapacity_startup`, where `deepcapacity.pth`
(up to Python 3.17) and `deepcapacity.start` (from 3.15 on, PEP 829) call `extend` as an interpreter starts;
`import capacity` calls it too, for where start-up files are not read. Below 3.14 it does nothing. After it,
whoever imports `compression` gets ours, to whose path our `__init__` adds the standard library's. A package
`compression` of somebody else's that comes before both on the path still comes first.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing these costs more than all that is done at start-up
    from importlib.machinery import ModuleSpec
    from types import ModuleType

NAME = "compression"


class Finder:
    """Finds our package where Python would find the standard library's."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> "ModuleSpec | None":
        """Where ours is; None, and so no say, for any other module or where another package comes first."""
        if name != NAME:
            return None
        try:
            from importlib.machinery import PathFinder

            first = PathFinder.find_spec(name)
            return ours() if first is not None and is_standard(first) else None
        except Exception:
            return None


def extend() -> None:
    """Let `import compression` find ours as well as the standard library's modules; never raises."""
    try:
        if sys.version_info >= (3, 14):
            if Finder not in sys.meta_path:
                sys.meta_path.insert(0, Finder)
            if NAME in sys.modules:
                merge(sys.modules[NAME])
    except Exception:
        return


def merge(package: "ModuleType") -> None:
    """Turn the standard library's package, where it was imported before, into ours; its modules stay."""
    spec = package.__spec__
    standard = ours() if spec is not None and is_standard(spec) else None
    if standard is None or standard.loader is None:
        return
    package.__spec__, package.__file__ = standard, standard.origin
    package.__path__ = [*(standard.submodule_search_locations or []), *package.__path__]
    standard.loader.exec_module(package)


def ours() -> "ModuleSpec | None":
    """Where our `compression` lies on the path: beside a package `capacity` that holds this file's source."""
    from importlib.machinery import PathFinder

    for folder in sys.path:
        if PathFinder.find_spec("_startup", [os.path.join(folder, "capacity")]) is not None:
            return PathFinder.find_spec(NAME, [folder])
    return None


def stranger() -> "str | None":
    """Where somebody else's `compression` lies that is found in place of ours; None where ours is found."""
    from importlib.util import find_spec

    spec = find_spec(NAME)
    if spec is None:
        return None
    places = [os.path.realpath(place) for place in spec.submodule_search_locations or [spec.origin or ""]]
    mine = os.path.realpath(os.path.join(os.path.dirname(os.path.dirname(__file__)), NAME))
    return None if mine in places else places[0]


def is_standard(spec: "ModuleSpec") -> bool:
    """Whether this is the standard library's `compression`."""
    standard = os.path.realpath(os.path.join(os.path.dirname(os.__file__), NAME))
    return [os.path.realpath(place) for place in spec.submodule_search_locations or []] == [standard]


def check() -> None:
    """Extend; refuse an old Python, and warn where somebody else's `compression` is found, not ours."""
    if sys.hexversion < 0x030B0000:
        raise ImportError(f"DeepCapacity needs Python 3.11 or later; this is {sys.version.split()[0]}")
    extend()
    other = stranger()
    if other is not None:
        import warnings

        message = (
            f"`import compression` finds {other} in place of DeepCapacity's package: rename it to use both"
        )
        warnings.warn(message, stacklevel=2)


if __name__ == "capacity._startup":  # and not the copy in site-packages
    check()
