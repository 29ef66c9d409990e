"""Metrics of one's own: torchmetrics objects, or functions of all outputs and targets; asked for one number.

========================================== ====================================================
a metric                                   is
========================================== ====================================================
an object with reset, update and compute   reset, given each batch's outputs and targets, and asked once: what
                                           torchmetrics calls a Metric, or a MetricCollection of them
a function (outputs, targets) -> number    given all outputs and targets at once, on the CPU
========================================== ====================================================

Outputs and targets are those of the loss: logits (B, classes, ...) and class indices (B, ...), where labels
of -100 stay what they are (`ignore_index=-100`); or both in one shape for "mse" and "bce". A metric that is
NaN is kept, and named in a warning of the logger "compression".
"""

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from capacity.errors import InputError, brief
from capacity.inputs import first_line, shown
from compression.processes import gather_objects

Metric = Any  # an object with reset, update and compute, or a Callable[[Tensor, Tensor], float]
Metrics = Mapping[str, Metric] | Metric | None
LOGGER = logging.getLogger("compression")
FORM = "must return a number, or a mapping of names to numbers"


def named_metrics(metrics: Metrics) -> dict[str, Metric]:
    """Metrics by name; a single one has its class's or function's name, a collection those of its metrics.

    Raises InputError for what is no metric.

    >>> named_metrics({"mae": torch.nn.functional.l1_loss}).keys()
    dict_keys(['mae'])
    """
    if metrics is None:
        return {}
    if not isinstance(metrics, Mapping):
        name = "" if _is_collection(metrics) else getattr(metrics, "__name__", type(metrics).__name__)
        metrics = {name: metrics}
    for name, metric in metrics.items():
        if isinstance(metric, type) or not (_is_stateful(metric) or callable(metric)):
            raise InputError(
                f"metric {name!r} must be an object with reset, update and compute, as torchmetrics has, "
                f"or a function (outputs, targets) -> number; found {shown(metric)}"
            )
    return dict(metrics)


def metric_names(metrics: Metrics) -> list[str]:
    """The names that the values of metrics will have, those of a collection one by one."""
    names = []
    for name, metric in named_metrics(metrics).items():
        names += [_joined(name, key) for key in metric] if _is_collection(metric) else [name]
    return names


def higher_is_better(metrics: Metrics, name: str) -> bool:
    """Whether a metric's larger values are the better ones, as the metric says itself.

    Raises InputError where it does not say.
    """
    for given, metric in named_metrics(metrics).items():
        members = {_joined(given, key): metric[key] for key in metric} if _is_collection(metric) else {}
        said = getattr(members.get(name, metric), "higher_is_better", None)
        if name == given or name in members:
            if said is None:
                raise InputError(
                    f"metric {name!r} does not say whether higher is better, which says the best epoch: "
                    f"give it an attribute higher_is_better, True or False"
                )
            return bool(said)
    raise InputError(f"unknown metric {name!r}: there are {', '.join(metric_names(metrics)) or 'none'}")


def tell_nan(values: Mapping[str, Any]) -> None:
    """Name the values that are NaN in a warning of the logger "compression": no number was measured."""
    names = [name for name, value in values.items() if isinstance(value, float) and math.isnan(value)]
    if names:
        LOGGER.warning("NaN, no number: %s", ", ".join(names))


class Fed:
    """Metrics at work on one pass over the data: reset, fed batch by batch, read once."""

    def __init__(self, metrics: Metrics, taken: Iterable[str] = ()) -> None:
        """Resets the metrics. `taken` are names that other scores have."""
        self.metrics = named_metrics(metrics)
        for name in metric_names(metrics):
            if name in taken:
                raise InputError(f"a metric cannot be called {name!r}, as a score that is given anyway is")
        self.held: list[tuple[Tensor, Tensor]] = []
        self.stateless = any(not _is_stateful(metric) for metric in self.metrics.values())
        for metric in self.metrics.values():
            if _is_stateful(metric):
                metric.reset()

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Take in a batch."""
        for name, metric in self.metrics.items():
            if _is_stateful(metric):
                if hasattr(metric, "to"):
                    metric.to(outputs.device)
                _called(name, metric.update, outputs, targets)
        if self.stateless:
            self.held.append((outputs.cpu(), targets.cpu()))

    def values(self, gather: bool = False) -> dict[str, float]:
        """Each metric's number; with `gather`, of the batches of all processes.

        torchmetrics add up over processes by themselves.
        """
        held = self.held
        if gather and self.stateless:
            held = [pair for part in gather_objects(held) for pair in part]
        both = [torch.cat(column) for column in zip(*held, strict=True)] if held else []
        numbers: dict[str, float] = {}
        for name, metric in self.metrics.items():
            value = _called(name, metric.compute) if _is_stateful(metric) else _called(name, metric, *both)
            numbers |= _numbers(name, value)
        tell_nan(numbers)
        return numbers


def _called(name: str, function: Callable[..., Any], *tensors: Tensor) -> Any:
    try:
        return function(*tensors)
    except (ValueError, RuntimeError, TypeError, IndexError, AttributeError, AssertionError) as error:
        given = f" given outputs {shown(tensors[0])} and targets {shown(tensors[1])}" if tensors else ""
        hint = ""
        if tensors and not tensors[1].is_floating_point() and bool((tensors[1] == -100).any()):
            hint = "; labels of -100 are left out by a metric made with ignore_index=-100"
        raise InputError(f"metric {name!r} failed{given}: {first_line(error, 160)}{hint}") from error


def _numbers(name: str, value: Any) -> dict[str, float]:
    """What a metric returned, as numbers by name."""
    if isinstance(value, Mapping):
        numbers: dict[str, float] = {}
        for key, item in value.items():
            numbers |= _numbers(_joined(name, str(key)), item)
        return numbers
    if isinstance(value, Tensor) and value.numel() != 1:
        raise InputError(
            f"metric {name!r} {FORM}; found {shown(value)}: where it is one for each class, average='macro' "
            f"makes it one"
        )
    try:
        if isinstance(value, str | bytes):
            raise TypeError
        return {name: float(value)}
    except (TypeError, ValueError):
        raise InputError(f"metric {name!r} {FORM}, such as 0.1; found {brief(value)}") from None


def _is_stateful(metric: Any) -> bool:
    return all(callable(getattr(metric, name, None)) for name in ("reset", "update", "compute"))


def _is_collection(metric: Any) -> bool:
    """Whether this is several metrics by name, as torchmetrics' MetricCollection."""
    return _is_stateful(metric) and hasattr(metric, "keys") and hasattr(metric, "__getitem__")


def _joined(name: str, key: str) -> str:
    return f"{name}_{key}" if name else key
