"""What a function's result says, as numbers that can be compared with another's."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from uses import data_of

from compression.verification import outputs

NOT_TOLD = ("_ms", "seconds", "speed", "device")


def numbers(result: Any, place: str = "", depth: int = 0) -> Iterator[tuple[str, float]]:
    """All numbers in a result, with their places: of models their outputs, of time nothing."""
    if any(word in place for word in NOT_TOLD) or depth > 6:
        return
    if isinstance(result, nn.Module):
        yield from numbers(outputs_of(result), f"{place} outputs", depth + 1)
    elif isinstance(result, Tensor):
        for index, value in enumerate(result.detach().cpu().flatten()[:50].tolist()):
            yield f"{place}[{index}]", float(value.real if isinstance(value, complex) else value)
    elif isinstance(result, bool | int | float):
        yield place, float(result)
    elif isinstance(result, dict):
        for key, value in result.items():
            yield from numbers(value, f"{place} {key}", depth + 1)
    elif isinstance(result, tuple | list):
        for index, value in enumerate(result):
            yield from numbers(value, f"{place} {index}", depth + 1)
    elif is_dataclass(result):
        for field in fields(result):
            yield from numbers(getattr(result, field.name), f"{place}.{field.name}", depth + 1)


def outputs_of(model: nn.Module) -> list[Tensor]:
    """Outputs in evaluation mode, computed where the model lies."""
    place = next((p.device for p in model.parameters()), torch.device("cpu"))
    return outputs(model, [((x.to(place),), {}) for x, _ in data_of(model)])[0]
