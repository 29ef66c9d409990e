"""Modules that had a public function's name, for one release: what is imported from one comes with a warning.

They stand in `sys.modules` alone, so that importing from one leaves the function where it is.
"""

import sys
import warnings
from importlib import import_module
from types import ModuleType
from typing import Any

SHADOWED = ("generalization", "memorization", "requirement")


class _OldModule(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = getattr(import_module(f"capacity._{self.__name__.rpartition('.')[2]}"), name)
        warnings.warn(
            f"import {name} from capacity, not from {self.__name__}", DeprecationWarning, stacklevel=2
        )
        return value


for _module in SHADOWED:
    sys.modules[f"capacity.{_module}"] = _OldModule(f"capacity.{_module}")
