"""Names of version 0.1, for one release: using one warns and gives today's. Stored results keep them."""

import sys
import warnings
from collections.abc import Mapping
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MOVED = {
    "compression.coding": "compression.codec.context_model",
    "compression.coupling": "compression.shrinking.coupling",
    "compression.deadlines": "compression.shrinking.deadlines",
    "compression.exporting": "compression.quantization.exporting",
    "compression.noise": "compression.quantization.sqnr",
    "compression.quantized_files": "compression.quantization.files",
    "compression.quantizers": "compression.quantization.quantizers",
    "compression.reading": "compression.codec.reader",
    "compression.records": "compression.codec.records",
    "compression.removal": "compression.shrinking.removal",
    "compression.shrunk_files": "compression.shrinking.files",
    "compression.silencing": "compression.shrinking.silencing",
    "compression.stored_integers": "compression.quantization.stored_integers",
}
RENAMED = {  # by the module's first name
    "compression.budgets": {"prune_to": "prune_to_budget"},
    "compression.coding": {"Meter": "BitCounter", "Traits": "ContextParameters"},
    "compression.masks": {"kept_units": "living_units"},
    "compression.processes": {"gathered": "gather_objects", "own_share": "shard_batch"},
    "compression.rates": {"round_by_rate": "quantize_rate_distortion"},
    "compression.records": {"Plan": "TensorEncoding"},
    "compression.schedules": {"Gradual": "GradualPruning"},
    "compression.sharing": {"share": "share_weights"},
    "compression.silencing": {
        "silence_dead": "zero_dead_parameters",
        "silence_norms": "mask_dead_norm_channels",
    },
    "compression.stopping": {"RealLoss": "McNemarStop"},
    "compression.training": {"Fitted": "FitResult", "Training": "TrainingSettings"},
}
_FIRST = {today: first for first, today in MOVED.items()} | {
    "capacity._generalization": "capacity.generalization",
    "capacity._memorization": "capacity.memorization",
    "capacity._requirement": "capacity.requirement",
    "compression.codec._codec": "compression.codec",
    "compression.quantization._quantize": "compression.quantization",
    "compression.quantization.results": "compression.quantization",
    "compression.shrinking._shrink": "compression.shrinking",
}


def first_name(module: str, name: str) -> str:
    """The qualified name under which results first stored a function or class, whatever it is called today.

    >>> first_name("compression.shrinking._shrink", "shrink"), first_name("mine", "net")
    ('compression.shrinking.shrink', 'mine.net')
    """
    first = _FIRST.get(module, module)
    head, dot, inner = name.partition(".")
    old = next((old for old, today in RENAMED.get(first, {}).items() if today == head), head)
    return f"{first}.{old}{dot}{inner}"


def keep_old_names(module: str) -> None:
    """Let a module give what it has under a new name under the old one too, with a warning."""
    old_names = RENAMED[_FIRST.get(module, module)]

    def attribute(name: str) -> Any:
        if name not in old_names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        return renamed(module, name, old_names[name])

    vars(sys.modules[module])["__getattr__"] = attribute


def renamed(module: str, name: str, today: str) -> Any:
    """What a module has under today's name, with a warning."""
    warnings.warn(f"{module}.{name} is now {module}.{today}", DeprecationWarning, stacklevel=3)
    return getattr(sys.modules[module], today)


class MovedModules(MetaPathFinder, Loader):
    """Finds the modules of a table, old name -> new name, once it stands in `sys.meta_path`."""

    def __init__(self, moved: Mapping[str, str]) -> None:
        self.moved = moved
        self.specs: dict[int, ModuleSpec | None] = {}

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """The specification of a module under its old name; None for all others."""
        return ModuleSpec(fullname, self) if fullname in self.moved else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Today's module, with a warning."""
        today = self.moved[spec.name]
        warnings.warn(f"{spec.name} is now {today}", DeprecationWarning, stacklevel=2)
        module = import_module(today)
        self.specs[id(module)] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Give today's module its own specification back."""
        module.__spec__ = self.specs.pop(id(module))


sys.meta_path.append(MovedModules(MOVED))
