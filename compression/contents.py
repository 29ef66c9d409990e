"""What a value is made of, as short texts by path that two processes agree on; see `compression.identity`."""

import contextlib
import copyreg
import dataclasses
import enum
import functools
import hashlib
import inspect
import os
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from capacity.cloning import initialized, unwrapped
from compression._moved import first_name
from compression.digests import add_array, add_files, add_tensor
from compression.sources import (
    attributes_read,
    environment_read,
    globals_read,
    imported_sources,
    is_library,
    source_of,
)
from compression.trackers import TrackedRun

MOST_PARTS = 24  # a container of more parts is one hash
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
UNKNOWN = "cannot be compared"
OF_CLASSES = (
    "__abstractmethods__", "__annotations__", "__dataclass_fields__", "__dict__", "__doc__",
    "__firstlineno__", "__module__", "__orig_bases__", "__parameters__", "__qualname__", "__slotnames__",
    "__static_attributes__", "__weakref__", "_abc_impl",
)  # fmt: skip
OF_MODULES = frozenset({*vars(nn.Module()), "training"})
HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


def fingerprint_of(state: Mapping[str, Any]) -> str:
    """SHA-256 of a state dict: names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        if isinstance(tensor, torch.Tensor):
            add_tensor(digest, name, tensor)
        else:  # what set_extra_state keeps
            parts = Parts()
            parts.visit("state", tensor)
            digest.update(f"{name}{parts.texts}".encode())
    return digest.hexdigest()


def _hash(text: str) -> str:
    return "sha256 " + hashlib.sha256(text.encode()).hexdigest()[:24]


class Parts:
    """Walks a value; `texts` holds what was found by path."""

    def __init__(self, above: "Parts | None" = None) -> None:
        self.texts: dict[str, str] = {}
        self.within: set[int] = set() if above is None else above.within  # what is being walked, for cycles
        self.code: dict[int, tuple[str, Any]] = {} if above is None else above.code  # looked into, and where

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
        how = next((how for fits, how in RULES if fits(value)), Parts._object)
        how(self, path, value)
        self.within.discard(id(value))

    def items(self, path: str, pairs: Iterable[tuple[str, Any]]) -> None:
        """Parts by name; many of them as one hash."""
        pairs = list(pairs)
        if len(pairs) <= MOST_PARTS:
            for name, value in pairs:
                self.visit(f"{path}.{name}", value)
            return
        inner = Parts(self)
        for name, value in pairs:
            inner.visit(name, value)
        self.texts[path] = f"{len(pairs)} parts, " + _hash(repr(sorted(inner.texts.items())))
        self.texts |= {
            f"{path}.{name}": text for name, text in inner.texts.items() if text.startswith(UNKNOWN)
        }

    def _mapping(self, path: str, value: Any) -> None:
        if not value:
            self.texts[path] = "empty mapping"
        self.items(path, sorted(((_key(key), value[key]) for key in list(value)), key=lambda pair: pair[0]))
        if hasattr(value, "default_factory"):
            self.visit(f"{path}.default_factory", value.default_factory)
        self._beyond(path, value)

    def _sequence(self, path: str, value: Any) -> None:
        if not value:
            self.texts[path] = "empty list"
        self.items(path, ((str(place), item) for place, item in enumerate(value)))
        self._beyond(path, value)

    def _set(self, path: str, value: Any) -> None:
        self._sequence(path, sorted(value, key=_without_address))
        self._beyond(path, value)

    def _beyond(self, path: str, value: Any) -> None:
        """What a container of the user's own has besides what it contains."""
        if not is_library(type(value).__module__):
            self.visit(f"{path}.class", type(value))
            if facts := getattr(value, "__dict__", None):
                self.items(f"{path}.attributes", sorted(facts.items()))

    def _tensor(self, path: str, value: torch.Tensor) -> None:
        digest = hashlib.sha256()
        add_tensor(digest, "", value)
        self.texts[path] = f"{value.dtype} {tuple(value.shape)} sha256 {digest.hexdigest()[:24]}"

    def _array(self, path: str, value: np.ndarray) -> None:
        if value.dtype.hasobject:
            self.texts[path] = f"{value.dtype} {value.shape}"
            self.items(f"{path}.parts", ((str(k), item) for k, item in enumerate(value.ravel().tolist())))
            return
        digest = hashlib.sha256()
        add_array(digest, value)
        if isinstance(value, np.ma.MaskedArray):
            add_array(digest, np.ma.getmaskarray(value))
        self.texts[path] = f"{value.dtype} {value.shape} sha256 {digest.hexdigest()[:24]}"

    def _module(self, path: str, value: nn.Module) -> None:
        value = initialized(unwrapped(value))
        self.texts[f"{path}.weights"] = "sha256 " + fingerprint_of(value.state_dict())[:24]
        self.texts[f"{path}.architecture"] = _hash(_without_address(value))
        if isinstance(value, fx.GraphModule):
            self.texts[f"{path}.graph"] = _hash(value.code)
        kinds = {kind for module in value.modules() for kind in type(module).__mro__}
        for kind in sorted((kind for kind in kinds if not is_library(kind.__module__)), key=_name):
            self.visit(f"{path}.{kind.__qualname__}", kind)
        facts = [
            (f"{name}.{key}" if name else key, fact)
            for name, module in value.named_modules()
            for key, fact in self._settings(module, alike=value.training)
        ]
        if facts:
            self.items(f"{path}.settings", facts)

    def _settings(self, module: nn.Module, *, alike: bool) -> Iterator[tuple[str, Any]]:
        """What a module computes with besides weights, buffers that are stored and submodules.

        Of a library's modules, what is public, known and no tensor; of the user's, what their code names and
        does not set anew in each forward pass. `alike`: the mode of the whole model.
        """
        if isinstance(module, torch.jit.ScriptModule):
            return
        kind = type(module)
        theirs = all(is_library(base.__module__) for base in kind.__mro__)
        for key, fact in sorted(vars(module).items()):
            if key in OF_MODULES or (theirs and isinstance(module, fx.GraphModule)):
                continue
            if key == "forward" or (self._is_setting(key, fact) if theirs else key in attributes_read(kind)):
                yield key, fact
        for key in sorted(module._non_persistent_buffers_set):
            yield key, module._buffers[key]
        for key in HOOKS:
            yield from ((f"{key}{place}", hook) for place, hook in enumerate(getattr(module, key).values()))
        frozen = [key for key, own in module._parameters.items() if own is not None and not own.requires_grad]
        if frozen:
            yield "frozen", frozen
        if module.training != alike:
            yield "training", module.training

    def _is_setting(self, key: str, value: Any) -> bool:
        """Whether a library's module may keep this to compute with, and it can be known."""
        if key.startswith("_") or isinstance(value, torch.Tensor | nn.Module):
            return False
        if isinstance(value, list | tuple):
            return all(self._is_setting(key, part) for part in value)
        parts = Parts(self)
        parts.code = dict(self.code)  # which is looked into again
        parts.visit("", value)
        return parts.known()

    def _dataclass(self, path: str, value: Any) -> None:
        self.texts[path] = _name(type(value))
        names = [field.name for field in dataclasses.fields(value) if field.init]
        if not is_library(type(value).__module__):
            self.visit(f"{path}.class", type(value))
            names = list(dict.fromkeys([*names, *getattr(value, "__dict__", {})]))
        if names:
            self.items(path, ((name, getattr(value, name)) for name in names))

    def _partial(self, path: str, value: Any) -> None:
        self.visit(path, value.func)
        self.items(f"{path}.arguments", [*map(_numbered, enumerate(value.args)), *value.keywords.items()])

    def _method(self, path: str, value: Any) -> None:
        self.visit(f"{path}.of", value.__self__)
        self.visit(path, value.__func__)

    def _built_in(self, path: str, value: types.BuiltinFunctionType) -> None:
        self.texts[path] = _name(value)
        if not isinstance(value.__self__, types.ModuleType | type | None):
            self.visit(f"{path}.of", value.__self__)

    def _known(self, path: str, value: Any) -> bool:
        """Whether this code was looked into before, which then is all that is noted."""
        where, _ = self.code.setdefault(id(value), (path, value))  # held, so that its address stays its own
        if where != path:
            self.texts[path] = f"{_name(value)}, as {where}"
        return where != path

    def _function(self, path: str, value: Any) -> None:
        if self._known(path, value):
            return
        if hasattr(value, "_torchdynamo_orig_callable"):  # as torch.compile wraps it
            self.visit(path, value._torchdynamo_orig_callable)
            return
        self.texts[path] = _name(value)
        options = vars(value).get("__signature__", inspect.Signature()).parameters
        if library := is_library(value.__module__):
            value = _undecorated(value)
        code = value.__code__
        if not library:
            self.items(f"{path}.attributes", _public(vars(value)))
            self.texts[path] += f", {_hash(source_of(value))}"
            for name, read in globals_read(value).items():
                self.visit(f"{path}.{name}", read)
            for name, source in imported_sources(value).items():
                self.texts[f"{path}.import {name}"] = _hash(source)
            self._environment(path, value)
        for place, default in enumerate(value.__defaults__ or ()):
            self.visit(f"{path}.default{place}", default)
        for name, default in (_named_defaults(options) or value.__kwdefaults__ or {}).items():
            self.visit(f"{path}.{name}", default)
        for name, cell in zip(code.co_freevars, value.__closure__ or (), strict=True):
            try:
                self.visit(f"{path}.{name}", cell.cell_contents)
            except ValueError:
                self.texts[f"{path}.{name}"] = "not set yet"

    def _environment(self, path: str, value: Any) -> None:
        variables = environment_read(value)
        if variables is None:
            self.texts[f"{path}.environment"] = f"{UNKNOWN}: variables without a name in the code"
        for name, word in (variables or {}).items():
            self.texts[f"{path}.environment {name}"] = "not set" if word is None else _hash(word)

    def _class(self, path: str, value: type) -> None:
        self.texts[path] = _name(value)
        if is_library(value.__module__) or self._known(path, value):
            return
        for base in value.__bases__:
            self.visit(f"{path}.{base.__qualname__}", base)
        for name, member in sorted(vars(value).items()):
            for part in () if name in OF_CLASSES else _functions(member):
                self.visit(f"{path}.{name}", part)

    def _loader(self, path: str, value: Any) -> None:
        self.visit(f"{path}.dataset", value.dataset)
        for name in ("batch_size", "drop_last", "collate_fn"):
            self.visit(f"{path}.{name}", getattr(value, name))
        self.texts[f"{path}.sampler"] = _name(type(value.sampler))
        self.visit(f"{path}.order", value.sampler if value.batch_sampler is None else value.batch_sampler)

    def _sampler(self, path: str, value: Any) -> None:
        self._class(path, type(value))
        facts = {key: fact for key, fact in vars(value).items() if key not in ("data_source", "dataset")}
        self.items(path, sorted(facts.items()))

    def _frame(self, path: str, value: Any) -> None:
        """A table or column of pandas, whose inside keeps what was asked of it before."""
        columns = [value.iloc[:, k] for k in range(value.shape[1])] if value.ndim == 2 else [value]
        self.texts[path] = f"{_name(type(value))} {value.shape}"
        named = [(f"{column.name!r} {column.dtype}", column.to_numpy()) for column in columns]
        self.items(path, [("index", value.index.to_numpy()), *named])

    def _context(self, path: str, value: Any) -> None:
        """What `contextlib.contextmanager` made, to decorate functions too; its generator is no content."""
        self.visit(path, value.func)
        self.items(f"{path}.arguments", [*map(_numbered, enumerate(value.args)), *value.kwds.items()])

    def _tracker(self, path: str, value: TrackedRun) -> None:
        self.texts[path] = "a tracker"

    def _unknown(self, path: str, value: Any) -> None:
        self.texts[path] = f"{UNKNOWN}: {_name(type(value))}"

    def _object(self, path: str, value: Any) -> None:
        """Any other object by its class and attributes, or by what it would be pickled as.

        Where neither is wholly known, one of a library counts as unknown as a whole.
        """
        kind = type(value)
        if kind.__module__ in ("_thread", "_io"):
            return self._unknown(path, value)
        inner = Parts(self)
        if _is_python(kind):
            inner._attributes(path, value)
        elif hasattr(value, "__wrapped__"):  # functools.lru_cache and its like
            inner.visit(path, value.__wrapped__)
        else:
            inner._reduced(path, value)
        if is_library(kind.__module__) and not inner.known():
            inner = Parts(self)
            inner._reduced(path, value)
            if not inner.known():
                return self._unknown(path, value)
        if isinstance(value, torch.utils.data.Dataset):
            inner._files(path, value)
        self.texts |= inner.texts
        return None

    def known(self) -> bool:
        """Whether the content of all parts can be known."""
        return not any(text.startswith(UNKNOWN) for text in self.texts.values())

    def _attributes(self, path: str, value: Any) -> None:
        kind = type(value)
        names = [name for name in _slots(kind) if hasattr(value, name)]
        facts = {**getattr(value, "__dict__", {}), **{name: getattr(value, name) for name in names}}
        self._class(path, kind)
        self.items(path, sorted((key, fact) for key, fact in facts.items() if not key.startswith("__")))

    def _reduced(self, path: str, value: Any) -> None:
        """An object of a C type by what pickling would keep of it."""
        try:
            reduced = value.__reduce_ex__(4)
        except Exception:  # whatever an object raises that cannot be pickled
            return self._unknown(path, value)
        if isinstance(reduced, str):  # a global, by its name
            self.texts[path] = _name(value)
            return None
        self.texts[path] = _name(type(value))
        rest = [list(part) if part is not None else None for part in reduced[3:5]]
        self.items(path, [("made", reduced[0]), ("of", reduced[1]), ("state", reduced[2:3]), ("items", rest)])
        return None

    def _files(self, path: str, value: Any) -> None:
        """What is in the files that a data set lists."""
        for name, fact in sorted(getattr(value, "__dict__", {}).items()):
            digest = hashlib.sha256()
            if isinstance(fact, list | tuple) and add_files(digest, fact, getattr(value, "root", "")):
                self.texts[f"{path}.{name} files"] = "sha256 " + digest.hexdigest()[:24]


def _named_defaults(parameters: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """Defaults of what can be given by name alone."""
    named = [one for one in parameters.values() if one.kind is one.KEYWORD_ONLY]
    return {one.name: one.default for one in named if one.default is not one.empty}


def _undecorated(function: types.FunctionType) -> types.FunctionType:
    """What a library's own decorators wrap, as long as it is a function; a layer that torch wraps is none."""
    while isinstance(inner := getattr(function, "__wrapped__", None), types.FunctionType):
        function = inner
    return function


def _public(facts: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return sorted((key, fact) for key, fact in facts.items() if not key.startswith("_"))


def _functions(member: Any) -> Iterable[Any]:
    """What a member of a class stands for: the functions of properties and the like, or itself."""
    if isinstance(member, property):
        return [part for part in (member.fget, member.fset) if part is not None]
    if isinstance(member, classmethod | staticmethod):
        return [member.__func__]
    if isinstance(member, functools.cached_property):
        return [member.func]
    descriptor = isinstance(member, types.MemberDescriptorType | types.GetSetDescriptorType)
    return [] if descriptor else [member]


def _is_python(kind: type) -> bool:
    """Whether an object's attributes are all there is to it; not so of C types that hide some."""
    return kind.__basicsize__ <= _Open.__basicsize__ + SLOT * len(_slots(kind))


def _slots(kind: type) -> list[str]:
    names: list[str] = copyreg._slotnames(kind)  # type: ignore[attr-defined]
    return names


class _Open:
    """An object that hides nothing."""

    __slots__ = ("__dict__", "__weakref__")


SLOT = tuple.__itemsize__  # bytes of a reference


def _plain(value: Any) -> str | None:
    """Numbers, words and the like as text; None for what has parts."""
    if isinstance(value, enum.Enum):
        return f"{_name(type(value))}.{value.name} {_without_address(value.value)}"
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | complex | str):
        return repr(value) if len(repr(value)) <= 80 else _hash(repr(value))
    if isinstance(value, bytes | bytearray):
        return _hash(repr(bytes(value)))
    if isinstance(value, Path):
        return "a path"
    if isinstance(value, torch.dtype | torch.device | torch.Size | slice | range):
        return repr(value)
    if value is os.environ:
        return "the environment"  # of which what is read counts
    if isinstance(value, inspect.Signature):
        return _hash(_without_address(value))  # the words of a function that counts itself
    if isinstance(value, torch.Generator):
        return f"generator seeded with {value.initial_seed()}"
    if isinstance(value, types.ModuleType | np.ufunc):
        return _name(value)
    return None


def _name(value: Any) -> str:
    module = getattr(value, "__module__", None)
    name = getattr(value, "__qualname__", getattr(value, "__name__", type(value).__name__))
    return first_name(module, name) if module else str(name)


def _without_address(value: Any) -> str:
    return ADDRESS.sub("", repr(value))


def _key(key: Any) -> str:
    return key if isinstance(key, str) and key.isidentifier() else f"<{_without_address(key)}>"


def _numbered(pair: tuple[int, Any]) -> tuple[str, Any]:
    return str(pair[0]), pair[1]


Rule = tuple[Callable[[Any], bool], Callable[[Parts, str, Any], None]]


def _of(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kinds)


def _is_frame(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "pandas" and hasattr(value, "iloc")


def _is_dataclass(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


RULES: tuple[Rule, ...] = (
    (_of(torch.Tensor), Parts._tensor),
    (_of(np.ndarray), Parts._array),
    (_of(nn.Module), Parts._module),
    (_of(torch.utils.data.DataLoader), Parts._loader),
    (_of(torch.utils.data.Sampler), Parts._sampler),
    (_of(type), Parts._class),
    (_of(TrackedRun), Parts._tracker),
    (_is_frame, Parts._frame),
    (_is_dataclass, Parts._dataclass),
    (_of(functools.partial), Parts._partial),
    (_of(contextlib._GeneratorContextManager), Parts._context),
    (_of(types.MethodType), Parts._method),
    (_of(types.BuiltinFunctionType), Parts._built_in),
    (_of(types.FunctionType), Parts._function),
    (_of(Mapping), Parts._mapping),
    (_of(list, tuple), Parts._sequence),
    (_of(set, frozenset), Parts._set),
    (_of(types.GeneratorType), Parts._unknown),
)
