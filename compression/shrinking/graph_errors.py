"""Where in a network torch-pruning's graph failed."""

import traceback
from collections import deque
from typing import Any

from torch import nn


def beside(error: BaseException | None) -> str:
    """The layers beside the node of torch-pruning's graph that it was at when it raised; empty if at none."""
    frames = [] if error is None else [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    for frame in reversed(frames):
        for value in frame.f_locals.values():
            layers = _layers_beside(value) if type(value).__name__ == "Node" else []
            if layers:
                return f", near {', '.join(map(repr, layers[:4]))}"
    return ""


def _layers_beside(node: Any) -> list[str]:
    """Names of dense and convolutional layers that lead to a node, nearest first, else of those behind it."""
    for direction in ("inputs", "outputs"):
        layers: dict[str, None] = {}
        seen, waiting = {node}, deque([node])
        while waiting:
            here = waiting.popleft()
            if isinstance(here.module, nn.Linear | nn.modules.conv._ConvNd):
                layers[str(here._name)] = None
                continue
            new = [other for other in getattr(here, direction) if other not in seen]
            seen.update(new)
            waiting.extend(new)
        if layers:
            return list(layers)
    return []
