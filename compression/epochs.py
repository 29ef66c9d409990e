"""What an epoch of training needs: its length, batches that are large enough, and modes that stay."""

from collections.abc import Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from capacity.cloning import initialized
from capacity.errors import InputError
from capacity.inputs import shown, tensors_in
from compression.forms import joined_batches, parts_of, size_of
from compression.labels import IGNORED


def length_of(data: Iterable[Any]) -> int | None:
    """Batches in an epoch; None where the data does not know."""
    try:
        return len(data) if isinstance(data, Sized) else None
    except TypeError:  # a DataLoader over an iterable data set
        return None


def require_anew(data: Iterable[Any], epochs: int) -> None:
    """Raise InputError for data that can be gone through only once, where several epochs do."""
    if epochs > 1 and isinstance(data, Iterator):
        raise InputError(
            f"data is a {type(data).__name__}, which is used up after the first of {epochs} epochs: "
            f"give a list of batches, TensorBatches or a DataLoader"
        )


def require_batches(name: str, data: Any) -> None:
    """Raise InputError for what cannot be gone through batch by batch."""
    scalar = getattr(data, "ndim", None) == 0 or isinstance(data, str | bytes | Mapping | type)
    if scalar or not (hasattr(data, "__iter__") or hasattr(data, "__getitem__")):
        raise InputError(
            f"{name} must yield batches (inputs, targets): TensorBatches, a DataLoader or a list of them; "
            f"found {shown(data)}"
        )


def batches_of(data: Iterable[Any], model: nn.Module, processes: int) -> Iterator[tuple[Any, Any, int]]:
    """Inputs, targets, and how many batches of the data they are.

    A batch of which a process gets one sample only is joined to the one before where batch norms learn, which
    take the variance of their batch.
    """
    if not any(isinstance(module, _BatchNorm) and module.training for module in model.modules()):
        for batch in data:
            yield *parts_of(batch), 1
        return
    held: tuple[Any, Any, int] | None = None
    for batch in data:
        inputs, targets = parts_of(batch)
        if held is not None and size_of(targets) < 2 * processes <= size_of(held[1]):
            held = (joined_batches(held[0], inputs), joined_batches(held[1], targets), held[2] + 1)
            continue
        if held is not None:
            yield held
        held = (inputs, targets, 1)
    if held is not None:
        yield held


HELD = "held_in_evaluation"  # noted on modules, so that a model trained again trains as it did before


def train_mode(model: nn.Module) -> nn.Module:
    """Put a model in training mode, in place, but for what was frozen in evaluation mode; returns it.

    That is: any module in evaluation mode inside a model in training mode; and in a model in evaluation mode,
    batch norms whose parameters do not learn and what an earlier call held there. `model.train()` thaws.
    """
    if isinstance(model, torch.fx.GraphModule):  # whose modes are operations in the graph
        return model.train()
    modules = [module for module in model.modules() if not module.training]
    if not model.training:
        modules = [module for module in modules if HELD in vars(module) or _frozen_norm(module)]
    for module in model.modules():
        vars(module).pop(HELD, None)
    model.train()
    for module in modules:
        module.training = False
        if not _frozen_norm(module):  # which says so itself, until its parameters learn again
            vars(module)[HELD] = True
    return model


def _frozen_norm(module: nn.Module) -> bool:
    parameters = list(module.parameters()) if isinstance(module, _BatchNorm) else []
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode; every module's own mode comes back."""
    training = initialized(model).training
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        model.train(training)
        for module, mode in modes:
            module.training = mode


def why_not_finite(model: nn.Module, data: Iterable[Any]) -> str:
    """What is to blame for a loss that is not finite: the model as given, the data, or the learning rate."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            return f"{name!r} of the model given holds NaN or infinity"
    for number, batch in enumerate(data):
        inputs, targets = parts_of(batch)
        if any(t.is_floating_point() and not bool(t.isfinite().all()) for t in tensors_in((inputs, targets))):
            return f"batch {number} of the data holds NaN or infinity"
        labels = tensors_in(targets)
        if labels and all(bool((part == IGNORED).all()) for part in labels):
            return f"all labels of batch {number} are {IGNORED}, which are left out: leave out the batch"
    return "a lower learning rate may help"
