"""The code that a function or class runs: its syntax tree, the names it reads, the modules it imports."""

import ast
import dis
import functools
import importlib.util
import inspect
import os
import site
import sys
import sysconfig
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

OURS = ("capacity", "compression", "analysis")
ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD")
GLOBALS = ("LOAD_GLOBAL", "LOAD_NAME")


@functools.cache
def is_library(module: str | None) -> bool:
    """Whether a module is ours, the standard library's or an installed one: its name says what it is."""
    top = (module or "builtins").partition(".")[0]
    if top == "__main__":
        return False
    places = _places(sys.modules.get(top))
    if not places:  # built in, or gone
        return top in OURS or top in sys.stdlib_module_names
    return top in OURS or all(map(_is_installed, places))


def _is_installed(place: str) -> bool:
    """Whether a file lies where Python or an installer put it, of another environment or the system too."""
    if not {"site-packages", "dist-packages"}.isdisjoint(Path(place).parts):
        return True
    known = [sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")]
    return place.startswith(tuple(os.path.join(root, "") for root in (*known, site.getusersitepackages())))


def _places(module: types.ModuleType | None) -> list[str]:
    """The file of a module, or the folders of one that has none."""
    file = getattr(module, "__file__", None)
    return [file] if file else list(getattr(module, "__path__", []))


def source_of(function: types.FunctionType) -> str:
    """A function's syntax tree, comments and layout left out; byte code of lambdas, which share lines."""
    if function.__name__ != "<lambda>":
        try:
            return _parsed(inspect.getsource(function.__code__))
        except (OSError, TypeError, SyntaxError):
            pass
    return _code_text(function.__code__)


def _parsed(source: str) -> str:
    return ast.dump(ast.parse(textwrap.dedent(source)))


def _code_text(code: types.CodeType) -> str:
    constants = [_constant(value) for value in code.co_consts]
    return repr((code.co_code, constants, code.co_names, code.co_varnames))


def _constant(value: Any) -> str:
    """A constant of byte code as text that two processes agree on."""
    if isinstance(value, types.CodeType):
        return _code_text(value)
    if isinstance(value, frozenset):
        return repr(sorted(map(_constant, value)))
    return repr(tuple(map(_constant, value))) if isinstance(value, tuple) else repr(value)


def names_read(code: types.CodeType) -> set[tuple[str, ...]]:
    """Global names that code reads, those of functions inside it too, each with the attributes it goes on to.

    >>> sorted(names_read((lambda m: textwrap.dedent(m) + str(os.path.sep)).__code__))
    [('os', 'path', 'sep'), ('str',), ('textwrap', 'dedent')]
    """
    names: set[tuple[str, ...]] = set()
    for part in _codes(code):
        chain: tuple[str, ...] = ()
        for step in dis.get_instructions(part):
            if step.opname in GLOBALS:
                names.add(chain)
                chain = (step.argval,)
            elif step.opname in ATTRIBUTES and chain:
                chain = (*chain, step.argval)
            elif step.opname != "CACHE":
                names.add(chain)
                chain = ()
        names.add(chain)
    return names - {()}


def globals_read(function: types.FunctionType) -> dict[str, Any]:
    """What a function reads around it, by name: of modules of the user's own, what is read of them."""
    values: dict[str, Any] = {}
    for first, *rest in sorted(names_read(function.__code__)):
        if first not in function.__globals__:
            continue
        name, value = first, function.__globals__[first]
        while isinstance(value, types.ModuleType) and not is_library(value.__name__) and rest:
            name, value = f"{name}.{rest[0]}", getattr(value, rest.pop(0), None)
        if not isinstance(value, types.ModuleType):
            values[name] = value
    return values


def environment_read(function: types.FunctionType) -> dict[str, str | None] | None:
    """Variables of the environment that a function names, with their values; None if it reads others too.

    >>> environment_read(lambda: os.environ["A_RATE_THAT_NOBODY_SET"])
    {'A_RATE_THAT_NOBODY_SET': None}
    """
    codes = list(_codes(function.__code__))
    if {"environ", "environb", "getenv"}.isdisjoint(name for code in codes for name in code.co_names):
        return {}
    words = {word for code in codes for word in code.co_consts if isinstance(word, str)}
    named = sorted(word for word in words if word.isidentifier() and word not in ("environ", "getenv"))
    return {name: os.environ.get(name) for name in named} or None


def attributes_read(kind: type) -> frozenset[str]:
    """Attributes that a class of the user's own names, but for those that its forward pass sets anew."""
    named: set[str] = set()
    renewed: set[str] = set()
    for base in (base for base in kind.__mro__ if not is_library(base.__module__)):
        for name, member in vars(base).items():
            if isinstance(member, types.FunctionType):
                steps = [
                    step
                    for code in _codes(member.__code__)
                    for step in dis.get_instructions(code)
                    if step.opname.endswith(("_ATTR", "_METHOD"))
                ]
                named |= {step.argval for step in steps}
                if "forward" in name:
                    renewed |= {step.argval for step in steps if step.opname == "STORE_ATTR"}
    return frozenset(named - renewed)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """The code of a function and of those inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def imported_sources(function: types.FunctionType) -> dict[str, str]:
    """Syntax trees of the user's own modules that a function imports as it runs, and of those they import."""
    package = function.__globals__.get("__package__") or ""
    sources: dict[str, str] = {}
    for name in _imports_within(function.__code__, package):
        _add_source(name, sources)
    return sources


def _imports_within(code: types.CodeType, package: str) -> Iterator[str]:
    """Names of modules, and of what may be one, that code imports."""
    for part in _codes(code):
        steps = list(dis.get_instructions(part))
        for before, between, step in zip(steps, steps[1:], steps[2:], strict=False):
            if step.opname == "IMPORT_NAME":
                name = _absolute(step.argval, before.argval, package)
                yield from (name, *(f"{name}.{inner}" for inner in between.argval or ()))


def _absolute(name: str, level: int, package: str) -> str:
    if not level:
        return name
    parents = package.split(".")[: len(package.split(".")) - level + 1]
    return ".".join([*parents, name]) if name else ".".join(parents)


def _add_source(name: str, sources: dict[str, str]) -> None:
    """Add the source of a module and of those that it imports, where they are the user's own."""
    if name in sources or not name or is_library(name):
        return
    try:
        spec = importlib.util.find_spec(name)
        path = Path(spec.origin) if spec is not None and spec.origin else None
        tree = None if path is None or path.suffix != ".py" else ast.parse(path.read_bytes())
    except Exception:  # of any kind: to find a part is to import the package that holds it
        return
    if tree is None or path is None or _is_installed(str(path)):
        return
    sources[name] = ast.dump(tree)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported = [part.name for part in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = _absolute(node.module or "", node.level, package)
            imported = [start, *(f"{start}.{part.name}" for part in node.names)]
        else:
            continue
        for other in imported:
            _add_source(other, sources)
