"""Networks and what was measured of them, computed once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from capacity.cloning import clone
from compression.checkpoints import load_json, load_model, save_json, save_model


def is_cached(path: Path) -> bool:
    """Whether `cached_model` has a model under this name."""
    return path.with_name(path.name + ".safetensors").exists()


def cached_model(
    path: Path,
    like: nn.Module,
    compute: Callable[[], nn.Module],
    measured: Callable[[nn.Module], dict[str, Any]],
) -> tuple[nn.Module, dict[str, Any]]:
    """A model and what was measured of it, computed once: PATH.safetensors, then PATH.json.

    Without the second, the first is measured anew.
    """
    weights, facts = path.with_name(path.name + ".safetensors"), path.with_name(path.name + ".json")
    if weights.exists():
        model = load_model(clone(like), weights, sealed=True).eval()
    else:
        facts.unlink(missing_ok=True)  # which must not outlive the weights it speaks of
        model = compute()
        save_model(model, weights)
    if not facts.exists():
        save_json(facts, measured(model))
    return model, load_json(facts)
