"""Functions of a library that others stand in for, for a while."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

LOCK = threading.RLock()


@contextmanager
def replaced(owner: Any, replacements: Mapping[str, Any]) -> Iterator[None]:
    """Within it, a module or class has these attributes, one thread at a time; then its own come back."""
    with LOCK:
        own = {name: vars(owner)[name] for name in replacements}
        try:
            for name, replacement in replacements.items():
                setattr(owner, name, replacement)
            yield
        finally:
            for name, value in own.items():
                setattr(owner, name, value)
