"""What a stored result depends on, by content: settings, data, networks, functions; never an address.

`describe` turns any value into a flat dict of short texts, one for each part, that two processes agree on:
numbers and words as they are, tensors and weights by SHA-256, functions by their source or byte code, their
defaults, what they enclose and the globals they read. `compare` names the parts that differ.
"""

import ast
import dataclasses
import dis
import enum
import functools
import hashlib
import inspect
import re
import sys
import sysconfig
import textwrap
import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from capacity.cloning import initialized, unwrapped
from compression._moved import first_name
from compression.trackers import TrackedRun

OURS = ("capacity", "compression", "analysis")
MOST_PARTS = 24  # a container of more parts is one hash
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
UNKNOWN = "cannot be compared"


def describe(**values: Any) -> dict[str, str]:
    """The content of values by name: {"amount": "0.3", "retrain.settings.epochs": "10", ...}.

    Parts whose content cannot be known (open files, generators, locks) read "cannot be compared: TYPE".
    Paths count as places, not content.

    >>> describe(amount=0.3, layers=["a"])
    {'amount': '0.3', 'layers.0': "'a'"}
    """
    parts = _Parts()
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


def fingerprint_of(state: Mapping[str, Any]) -> str:
    """SHA-256 of a state dict: names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        if isinstance(tensor, torch.Tensor):
            _add_tensor(digest, name, tensor)
        else:  # what set_extra_state keeps
            digest.update(f"{name}{describe(state=tensor)}".encode())
    return digest.hexdigest()


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _short(text: Any) -> str:
    return str(text) if len(str(text)) <= 40 else str(text)[:37] + "..."


def _hash(text: str) -> str:
    return "sha256 " + hashlib.sha256(text.encode()).hexdigest()[:24]


def _add_tensor(digest: Any, name: str, tensor: torch.Tensor) -> None:
    digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
    if tensor.device.type == "meta" or not tensor.numel():
        return
    if tensor.is_sparse or tensor.layout != torch.strided or tensor.is_quantized:
        digest.update(ADDRESS.sub("", repr(tensor.detach().cpu().to_dense())).encode())
        return
    values = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    digest.update(values.flatten().view(torch.uint8).numpy().data)


class _Parts:
    """Walks a value; `texts` holds what was found by path."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.within: set[int] = set()  # what is being walked, for cycles

    def visit(self, path: str, value: Any) -> None:
        """Note the content of `value` under `path`."""
        plain = _plain(value)
        if plain is not None:
            self.texts[path] = plain
            return
        if id(value) in self.within:
            self.texts[path] = "itself"
            return
        self.within.add(id(value))
        how = next((how for fits, how in RULES if fits(value)), _Parts._object)
        how(self, path, value)
        self.within.discard(id(value))

    def items(self, path: str, pairs: Iterable[tuple[str, Any]]) -> None:
        """Parts by name; many of them as one hash."""
        pairs = list(pairs)
        if len(pairs) <= MOST_PARTS:
            for name, value in pairs:
                self.visit(f"{path}.{name}", value)
            return
        inner = _Parts()
        inner.within = self.within
        for name, value in pairs:
            inner.visit(name, value)
        self.texts[path] = f"{len(pairs)} parts, " + _hash(repr(sorted(inner.texts.items())))
        for name in unknown_parts(inner.texts):
            self.texts[f"{path}.{name}"] = inner.texts[name]

    def _mapping(self, path: str, value: Any) -> None:
        if not value:
            self.texts[path] = "empty mapping"
        self.items(path, ((_key(key), value[key]) for key in sorted(value, key=repr)))

    def _sequence(self, path: str, value: Any) -> None:
        if not value:
            self.texts[path] = "empty list"
        self.items(path, ((str(place), item) for place, item in enumerate(value)))

    def _set(self, path: str, value: Any) -> None:
        self._sequence(path, sorted(value, key=repr))

    def _tensor(self, path: str, value: torch.Tensor) -> None:
        digest = hashlib.sha256()
        _add_tensor(digest, "", value)
        self.texts[path] = f"{value.dtype} {tuple(value.shape)} sha256 {digest.hexdigest()[:24]}"

    def _array(self, path: str, value: np.ndarray) -> None:
        digest = hashlib.sha256()
        if value.dtype.hasobject:
            digest.update(repr(value.tolist()).encode())
        else:
            rows = value.reshape(1) if value.ndim == 0 else value
            for start in range(0, len(rows), 4096):  # a memory map is not read as a whole
                digest.update(np.ascontiguousarray(rows[start : start + 4096]).data)
        self.texts[path] = f"{value.dtype} {value.shape} sha256 {digest.hexdigest()[:24]}"

    def _module(self, path: str, value: nn.Module) -> None:
        self.texts[f"{path}.weights"] = "sha256 " + fingerprint(value)[:24]
        self.texts[f"{path}.architecture"] = _hash(ADDRESS.sub("", repr(value)))
        for kind in sorted({type(module) for module in value.modules()}, key=_name):
            if not _is_library(kind.__module__):
                self.visit(f"{path}.{kind.__qualname__}", kind)
        if hasattr(value, "higher_is_better"):  # a metric of torchmetrics, whose repr says no settings
            facts = {key: fact for key, fact in vars(value).items() if not key.startswith("_")}
            plain = {key: fact for key, fact in facts.items() if _plain(fact) is not None}
            self.items(f"{path}.settings", sorted(plain.items()))
        for name, module in value.named_modules():
            if "forward" in module.__dict__:
                self.visit(f"{path}.{name}.forward", module.__dict__["forward"])

    def _dataclass(self, path: str, value: Any) -> None:
        self.texts[path] = _name(type(value))
        names = [field.name for field in dataclasses.fields(value) if field.init]
        if names:
            self.items(path, ((name, getattr(value, name)) for name in names))

    def _partial(self, path: str, value: Any) -> None:
        self.visit(path, value.func)
        self.items(f"{path}.arguments", [*map(_numbered, enumerate(value.args)), *value.keywords.items()])

    def _method(self, path: str, value: Any) -> None:
        self.visit(f"{path}.of", value.__self__)
        self.visit(path, value.__func__)

    def _function(self, path: str, value: Any) -> None:
        self.texts[path] = _name(value)
        code = value.__code__
        if not _is_library(value.__module__):
            self.texts[path] += f", {_hash(_source(value))}"
            for name in sorted(_globals_read(code) & value.__globals__.keys()):
                if not isinstance(value.__globals__[name], types.ModuleType):
                    self.visit(f"{path}.{name}", value.__globals__[name])
        for place, default in enumerate(value.__defaults__ or ()):
            self.visit(f"{path}.default{place}", default)
        for name, default in (value.__kwdefaults__ or {}).items():
            self.visit(f"{path}.{name}", default)
        for name, cell in zip(code.co_freevars, value.__closure__ or (), strict=True):
            try:
                self.visit(f"{path}.{name}", cell.cell_contents)
            except ValueError:
                self.texts[f"{path}.{name}"] = "not set yet"

    def _class(self, path: str, value: type) -> None:
        self.texts[path] = _name(value)
        if not _is_library(value.__module__):
            try:
                self.texts[path] += f", {_hash(_parsed(inspect.getsource(value)))}"
            except (OSError, TypeError):
                for name, member in sorted(vars(value).items()):
                    if isinstance(member, types.FunctionType):
                        self.visit(f"{path}.{name}", member)

    def _loader(self, path: str, value: Any) -> None:
        self.visit(f"{path}.dataset", value.dataset)
        for name in ("batch_size", "drop_last", "collate_fn"):
            self.visit(f"{path}.{name}", getattr(value, name))
        self.texts[f"{path}.sampler"] = _name(type(value.sampler))

    def _tracker(self, path: str, value: TrackedRun) -> None:
        self.texts[path] = "a tracker"

    def _unknown(self, path: str, value: Any) -> None:
        self.texts[path] = f"{UNKNOWN}: {_name(type(value))}"

    def _object(self, path: str, value: Any) -> None:
        """Any other object by its class and attributes; where one of them is unknown, by its class alone."""
        if not _has_python_class(value):
            return self._unknown(path, value)
        if hasattr(value, "__wrapped__"):  # functools.lru_cache and its like
            return self.visit(path, value.__wrapped__)
        inner = _Parts()
        inner.within = self.within
        slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
        facts = vars(value) if hasattr(value, "__dict__") else {}
        facts = facts | {name: getattr(value, name) for name in slots if hasattr(value, name)}
        inner._class(path, type(value))
        inner._mapping(
            path, {key: facts[key] for key in facts if not key.startswith("__")}
        ) if facts else None
        if unknown_parts(inner.texts):
            return self._unknown(path, value)
        for name, size in _file_sizes(value):
            inner.texts[f"{path}.{name}"] = size
        self.texts |= inner.texts
        return None


def _has_python_class(value: Any) -> bool:
    """Whether an object's attributes are all there is to it; not so of files, locks and other C types."""
    kind = type(value)
    return kind.__module__ not in ("_thread", "_io", "builtins") and bool(kind.__flags__ & 1 << 9)


def _plain(value: Any) -> str | None:
    """Numbers, words and the like as text; None for what has parts."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | complex | str):
        return repr(value) if len(repr(value)) <= 80 else _hash(repr(value))
    if isinstance(value, bytes | bytearray):
        return _hash(repr(bytes(value)))
    if isinstance(value, enum.Enum):
        return f"{_name(type(value))}.{value.name}"
    if isinstance(value, Path):
        return "a path"
    if isinstance(value, torch.dtype | torch.device | torch.Size | slice | range):
        return repr(value)
    if isinstance(value, torch.Generator):
        return f"generator seeded with {value.initial_seed()}"
    if isinstance(value, types.ModuleType | types.BuiltinFunctionType | np.ufunc):
        return _name(value)
    return None


def _name(value: Any) -> str:
    module = getattr(value, "__module__", None)
    name = getattr(value, "__qualname__", getattr(value, "__name__", type(value).__name__))
    return first_name(module, name) if module else str(name)


def _key(key: Any) -> str:
    return key if isinstance(key, str) and key.isidentifier() else f"<{key!r}>"


def _numbered(pair: tuple[int, Any]) -> tuple[str, Any]:
    return str(pair[0]), pair[1]


@functools.cache
def _is_library(module: str | None) -> bool:
    """Whether a module is ours, the standard library's or an installed one: its name says what it is."""
    top = (module or "builtins").partition(".")[0]
    if top in OURS or top in sys.stdlib_module_names:
        return top != "__main__"
    file = getattr(sys.modules.get(top), "__file__", None) or ""
    return any(file.startswith(sysconfig.get_path(kind)) for kind in ("purelib", "platlib"))


def _source(function: Any) -> str:
    """A function's syntax tree, comments and layout left out; byte code of lambdas, which share lines."""
    if function.__name__ != "<lambda>":
        try:
            return _parsed(inspect.getsource(function))
        except (OSError, TypeError, SyntaxError):
            pass
    return _code_text(function.__code__)


def _parsed(source: str) -> str:
    return ast.dump(ast.parse(textwrap.dedent(source)))


def _code_text(code: types.CodeType) -> str:
    constants = [_code_text(c) if isinstance(c, types.CodeType) else repr(c) for c in code.co_consts]
    return repr((code.co_code, constants, code.co_names, code.co_varnames))


def _globals_read(code: types.CodeType) -> set[str]:
    names = {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _globals_read(constant)
    return names


def _file_sizes(value: Any) -> Iterable[tuple[str, str]]:
    """Bytes of the files that a folder of pictures lists, as torchvision's data sets do."""
    samples = getattr(value, "samples", None)
    if not isinstance(samples, list) or not samples or not isinstance(samples[0], tuple):
        return
    sizes = []
    for path, *_ in samples:
        try:
            sizes.append(Path(path).stat().st_size)
        except (OSError, TypeError):
            return
    yield "file_sizes", _hash(repr(sizes))


Rule = tuple[Callable[[Any], bool], Callable[[_Parts, str, Any], None]]


def _of(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kinds)


def _is_dataclass(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


RULES: tuple[Rule, ...] = (
    (_of(torch.Tensor), _Parts._tensor),
    (_of(np.ndarray), _Parts._array),
    (_of(nn.Module), _Parts._module),
    (_of(torch.utils.data.DataLoader), _Parts._loader),
    (_of(type), _Parts._class),
    (_of(TrackedRun), _Parts._tracker),
    (_is_dataclass, _Parts._dataclass),
    (_of(functools.partial), _Parts._partial),
    (_of(types.MethodType), _Parts._method),
    (_of(types.FunctionType), _Parts._function),
    (_of(Mapping), _Parts._mapping),
    (_of(list, tuple), _Parts._sequence),
    (_of(set, frozenset), _Parts._set),
    (_of(types.GeneratorType), _Parts._unknown),
)
