"""ONNX's forms of torch's operations: read once in a process.

Torch's exporter parses the sources of some 500 of them at each export, which takes a third of a small one.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from compression.quantization.replacing import replaced


@contextmanager
def read_once() -> Iterator[None]:
    """Within it, exports take what the first one read; each gets lists of its own, to which it may add.

    Where this release of torch has other names inside, it works as it always does.
    """
    own: Any = None
    try:
        from torch.onnx._internal.exporter._registration import ONNXRegistry

        own = vars(ONNXRegistry)["from_torchlib"]
    except (ImportError, KeyError):
        pass
    if not isinstance(own, classmethod):
        yield
        return
    with replaced(ONNXRegistry, {"from_torchlib": classmethod(_copied(own.__func__))}):
        yield


@functools.cache
def _copied(read: Callable[..., Any]) -> Callable[..., Any]:
    """A function that reads for given arguments once, and gives copies.

    Reading passes over forms of operations that no library has brought yet: where others are known, it reads
    again.
    """

    @functools.cache
    def once(known: frozenset[str], *args: Any, **kwargs: Any) -> Any:
        return read(*args, **kwargs)

    def copied(kind: Any, *args: Any, **kwargs: Any) -> Any:
        known = frozenset(torch._C._dispatch_get_all_op_names())
        registry, fresh = once(known, kind, *args, **kwargs), kind()
        vars(fresh).update(vars(registry))
        fresh.functions = {name: list(forms) for name, forms in registry.functions.items()}
        return fresh

    return copied
