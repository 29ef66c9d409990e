"""Functions inside a copied model that still speak of the original: bound to the copy instead.

`copy.deepcopy` leaves functions as they are. A `forward` patched on an instance (`model.forward =
torch.autocast("cpu")(model.forward)`), a hook or a lambda that closes over a module would run the original's
weights from within the copy.
"""

import copy
import dis
import types
import weakref
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from capacity.errors import InputError

ATOMIC = (str, bytes, int, float, complex, bool, type(None), type, types.ModuleType, Tensor, fx.Graph)
GLANCE = frozenset({str, int, float, bool, type(None), Tensor, nn.Parameter})
OWN = ("_parameters", "_buffers", "_modules")  # of a module, which copying takes care of


def rebind(model: nn.Module, copied: nn.Module, memo: dict[int, Any]) -> None:
    """Bind what `copied` holds to its own modules and parameters, in place.

    Parameters
    ----------
    memo: of the `copy.deepcopy` that made it

    Raises InputError naming the layer and what refers to the original where that cannot be done.
    """
    held = [
        (name, module, key, value)
        for name, module in copied.named_modules()
        for key, value in module.__dict__.items()
        if key not in OWN and not _plain(value)
    ]
    if not held:
        return
    binder = _Binder(_pairs(model, copied), memo, {id(module) for module in copied.modules()})
    for name, module, key, value in held:
        if binder.reference(value) is None:
            continue
        fresh = binder.bound(value)
        module.__dict__[key] = fresh
        rest = binder.reference(fresh)
        if rest is not None:
            raise InputError(
                f"layer {name!r}: {key} refers to the original model by {rest}, so a copy would run its "
                f"weights; let it reach the module through an argument or self, or remove it first"
            )


def _plain(value: Any) -> bool:
    """Whether a value is seen at a glance to hold no function."""
    if type(value) in GLANCE:
        return True
    if isinstance(value, list | tuple):
        return all(type(item) in GLANCE for item in value)
    return isinstance(value, dict | set) and not value


def _pairs(model: nn.Module, copied: nn.Module) -> dict[int, Any]:
    """What stands for the original's modules, parameters and buffers, by their identity."""
    pairs: dict[int, Any] = {}
    modules = dict(copied.named_modules(remove_duplicate=False))
    for name, module in model.named_modules(remove_duplicate=False):
        other = modules.get(name)
        if other is None or other is module:
            continue
        pairs[id(module)] = other
        if not isinstance(module, torch.jit.ScriptModule):  # which holds no Python functions
            for held, others in ((module._parameters, other._parameters), (module._buffers, other._buffers)):
                pairs |= {id(held[key]): value for key, value in others.items() if held.get(key) is not None}
    return pairs


class _Binder:
    """Finds references to the original and replaces them."""

    def __init__(self, pairs: dict[int, Any], memo: dict[int, Any], clean: set[int]) -> None:
        self.pairs, self.memo = pairs, memo
        self.clean = clean  # what leads nowhere near the original, or is looked at on its own
        self.done: dict[int, Any] = {}
        self.ours = {id(value) for value in memo.values()}  # what may be changed in place

    def reference(self, value: Any) -> str | None:
        """How `value` leads to a part of the original, or None."""
        seen: set[int] = set()
        stack: list[tuple[Any, str]] = [(value, type(value).__name__)]
        while stack:
            item, way = stack.pop()
            if id(item) in self.pairs:
                return way
            if isinstance(item, ATOMIC) or id(item) in seen or id(item) in self.clean:
                continue
            seen.add(id(item))
            stack.extend(_parts(item, way))
        self.clean |= seen
        return None

    def bound(self, value: Any) -> Any:
        """`value`, which belongs to the copy, without references to the original."""
        if id(value) in self.pairs:
            return self.pairs[id(value)]
        if id(value) in self.done:
            return self.done[id(value)]
        if isinstance(value, ATOMIC) or self.reference(value) is None:
            return value
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, types.MethodType):
            return types.MethodType(self._inside(value.__func__), self._inside(value.__self__))
        if isinstance(value, types.BuiltinMethodType):
            return getattr(self._inside(value.__self__), value.__name__)
        if isinstance(value, weakref.ref):
            return weakref.ref(self.pairs[id(value())])
        if isinstance(value, partial):
            held = [self._inside(item) for item in (value.func, value.args, value.keywords)]
            fresh = partial(held[0], *held[1], **held[2])
            fresh.__dict__.update(self._inside(value.__dict__))
            return fresh
        if isinstance(value, tuple):
            items = [self._inside(item) for item in value]
            return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
        if id(value) in self.ours:
            self._change(value)
        return value

    def _function(self, function: types.FunctionType) -> types.FunctionType:
        cells = tuple(types.CellType() for _ in function.__closure__ or ())
        code, space = function.__code__, function.__globals__
        fresh = types.FunctionType(code, space, function.__name__, closure=cells)
        self.done[id(function)] = fresh
        for cell, old in zip(cells, function.__closure__ or (), strict=True):
            if _content(old):
                cell.cell_contents = self._inside(*_content(old))
        fresh.__defaults__ = self._inside(function.__defaults__)
        fresh.__kwdefaults__ = self._inside(function.__kwdefaults__)
        fresh.__dict__.update({key: self._inside(item) for key, item in function.__dict__.items()})
        for name in ("__qualname__", "__doc__", "__module__", "__annotations__"):
            setattr(fresh, name, getattr(function, name))
        return fresh

    def _inside(self, value: Any) -> Any:
        """What a function holds, bound to the copy: it is the caller's, so copied before it is changed."""
        kinds = (types.FunctionType, types.MethodType, types.BuiltinMethodType, partial, weakref.ref, tuple)
        if id(value) in self.pairs or isinstance(value, kinds) or id(value) in self.ours:
            return self.bound(value)
        if self.reference(value) is None:
            return value
        fresh = copy.deepcopy(value, self.memo)
        self.ours |= {id(item) for item in self.memo.values()}
        return self.bound(fresh)

    def _change(self, value: Any) -> None:
        """Bind what a container or an object of the copy holds, in place."""
        self.done[id(value)] = value
        if isinstance(value, list):
            value[:] = [self.bound(item) for item in value]
        held = value if isinstance(value, dict) else getattr(value, "__dict__", {})
        for key, item in list(held.items()):
            held[key] = self.bound(item)


def _parts(value: Any, way: str) -> Iterator[tuple[Any, str]]:
    """What a value holds, with words that say where."""
    if isinstance(value, types.FunctionType):
        name = f"function {value.__qualname__}"
        for cell in value.__closure__ or ():
            yield from ((content, name) for content in _content(cell))
        for item in (value.__defaults__, value.__kwdefaults__, value.__dict__):
            yield item, name
        for key in _globals(value.__code__):
            if isinstance(part := value.__globals__.get(key), nn.Module | Tensor):
                yield part, f"the global {key!r} in {name}"
    elif isinstance(value, types.MethodType):
        yield from ((value.__self__, f"method {value.__func__}"), (value.__func__, way))
    elif isinstance(value, types.BuiltinMethodType):
        yield value.__self__, f"method {value.__name__}"
    elif isinstance(value, weakref.ref):
        yield value(), f"{way} (a weak reference)"
    elif isinstance(value, partial):
        yield from ((item, "functools.partial") for item in (value.func, value.args, value.keywords))
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((item, way) for item in value)
    elif isinstance(value, Mapping):
        yield from ((item, way) for item in list(value.values()))
    if not isinstance(value, types.FunctionType):
        yield getattr(value, "__dict__", None), way


def _globals(code: types.CodeType) -> Iterator[str]:
    """Names that a function looks up among globals, those of functions inside it too."""
    yield from (step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL")
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _globals(constant)


def _content(cell: types.CellType) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:  # not filled yet
        return ()
