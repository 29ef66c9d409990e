"""Networks by name: `create(name, input_size=(3, 32, 32), classes=100)`."""

from analysis.lab.models.registry import MODELS, create

__all__ = ["MODELS", "create"]
