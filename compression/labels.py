"""Class labels of every form, matched to the logits that they belong to; what are none is refused by name."""

import torch
from torch import Tensor
from torch.nn import functional as F

from capacity.errors import InputError
from capacity.inputs import shown

IGNORED = -100  # the label that cross-entropy leaves out, as torch and transformers have it


def matched(logits: Tensor, targets: Tensor, class_axis: int | None = None) -> tuple[Tensor, Tensor]:
    """Logits (B, classes, ...) and class indices (B, ...) as int64.

    Parameters
    ----------
    logits: (B, classes); dense maps (B, classes, H, W); sequences (B, T, classes)
    targets: class indices of any integer type, or booleans, in the logits' shape without its classes; -100
        is left out; for (B, classes) also (B, 1), or one-hot rows of integers
    class_axis: which axis of the logits is the classes; by default the one that leaves the targets' shape

    Raises InputError for targets that are no class indices, for a single output, for shapes that do not
    belong together, and where two axes would do. The range of the indices is `check_range`'s.
    """
    if logits.layout is not torch.strided or logits.is_nested:
        kind = "nested" if logits.is_nested else str(logits.layout).removeprefix("torch.").lstrip("_")
        raise InputError(f"logits must be a dense tensor, found {kind}: return .to_dense() or a padded one")
    if logits.dim() < 2 or (logits.dim() == 2 and logits.shape[1] == 1):
        raise InputError(
            f"the model has a single output, {shown(logits)}, of which cross-entropy learns nothing: "
            f"{_line(logits, targets)}"
        )
    if targets.is_floating_point() or targets.is_complex():
        raise InputError(f"the targets are {shown(targets)}, no class indices: {_line(logits, targets)}")
    if logits.dim() == 2:
        targets = _indices(logits, targets)
    elif targets.dim() == logits.dim() and targets.shape[1] == 1:
        targets = targets[:, 0]
    if not logits.is_floating_point():
        raise InputError(f"logits must be floating-point numbers, found {shown(logits)}")
    axis = class_axis_of(logits, targets, class_axis)
    return logits if axis == 1 else logits.movedim(axis, 1), targets.long()


def class_axis_of(logits: Tensor, targets: Tensor, class_axis: int | None = None) -> int:
    """The axis of the logits that is the classes: the one without which they have the targets' shape.

    Raises InputError where none or more than one would do, and for an axis that cannot be.
    """
    dims = logits.dim()
    if class_axis is not None:
        if not -dims <= class_axis < dims or class_axis % dims == 0:
            raise InputError(f"class_axis {class_axis} is no class axis of logits {tuple(logits.shape)}")
        axes = [class_axis % dims]
    else:
        axes = sorted({1, dims - 1})
    rest = {axis: (*logits.shape[:axis], *logits.shape[axis + 1 :]) for axis in axes}
    fitting = [axis for axis in axes if rest[axis] == tuple(targets.shape)]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise InputError(
            f"logits {tuple(logits.shape)} and targets {tuple(targets.shape)} do not belong together: "
            f"targets of {' or '.join(map(str, rest.values()))} would"
        )
    raise InputError(
        f"the classes of logits {tuple(logits.shape)} may be their axis {fitting[0]} or {fitting[1]}: say "
        f"class_axis, or return the logits with another length of the sequence than classes"
    )


def _indices(logits: Tensor, targets: Tensor) -> Tensor:
    """(B,) indices of (B,), (B, 1) or one-hot (B, classes) integers."""
    if targets.dim() == 2 and targets.shape[1] == 1:
        return targets[:, 0]
    if targets.shape != logits.shape:
        return targets
    wide = targets.long()
    if not bool(((wide == 0) | (wide == 1)).all() and (wide.sum(1) == 1).all()):
        raise InputError(
            f"the targets {shown(targets)} have a column per class but not one 1 in each row: "
            f"{_line(logits, targets)}"
        )
    return wide.argmax(1)


def aligned(logits: Tensor, targets: Tensor, loss: Tensor) -> Tensor:
    """The (B, T) labels that the (B, classes, T) logits predict: as they are, or each the next position's.

    A model that predicts the next token shifts the labels inside; its own loss tells which. Raises InputError
    if it is neither.
    """
    shifted = torch.cat([targets[:, 1:], torch.full_like(targets[:, :1], IGNORED)], dim=1)
    apart = [float((cross_entropy(logits.detach(), t) - loss.detach()).abs()) for t in (targets, shifted)]
    nearest = 0 if apart[0] <= apart[1] else 1
    value = float(loss.detach())
    if not apart[nearest] <= 1e-3 + 1e-2 * abs(value):
        raise InputError(
            f"the model's own loss, {value:.4g}, is the cross-entropy of its logits neither with the "
            f"labels nor with the next position's: return the logits alone, with labels that match them"
        )
    return (targets, shifted)[nearest]


def check_range(lowest: int, highest: int, classes: int) -> None:
    """Raise InputError for class indices outside 0 to classes - 1; -100, which is ignored, apart."""
    if highest >= classes or (lowest < 0 and lowest != IGNORED):
        hint = ""
        if lowest == 1 and highest == classes:
            hint = ": they count from 1, so subtract 1"
        elif lowest < 0:
            hint = f": give what is to be left out the label {IGNORED}"
        raise InputError(f"labels run from {lowest} to {highest}, but the model has {classes} outputs{hint}")


def span(targets: Tensor) -> tuple[int, int]:
    """Lowest and highest label, the ignored ones left out unless there are no others."""
    if targets.dtype in (torch.uint16, torch.uint32, torch.uint64, torch.bool):
        targets = targets.long()
    lowest, highest = (int(value) for value in targets.aminmax())
    if lowest == IGNORED and highest != IGNORED:
        lowest = int(targets[targets != IGNORED].min())
    return lowest, highest


def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    bounds: tuple[int, int] | None = None,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Mean cross-entropy in nats of what `matched` returned, in single precision at least.

    bounds: lowest and highest label, where they are known; on a GPU they are looked up otherwise
    class_weights: (classes,) what a sample of each class weighs in the mean

    Raises InputError for labels that the model has no output for.
    """
    if bounds is not None or logits.device.type != "cpu":
        lowest, highest = bounds or span(targets)
        if lowest < 0 or highest >= logits.shape[1]:
            check_range(lowest, highest, logits.shape[1])
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    try:
        return F.cross_entropy(logits, targets, class_weights)
    except (IndexError, RuntimeError, ValueError) as error:
        check_range(*span(targets), logits.shape[1])
        raise InputError(
            f"logits {tuple(logits.shape)} and targets {tuple(targets.shape)} do not belong together"
        ) from error


def _line(logits: Tensor, targets: Tensor) -> str:
    """The argument that trains on such targets, ready to be written."""
    values = targets.detach() if targets.is_floating_point() else targets.detach().long()
    binary = bool(((values == 0) | (values == 1)).all())
    integral = bool((values == values.round()).all()) if values.is_floating_point() else True
    single = logits.dim() < 2 or logits.shape[1] == 1
    if single and not binary and not targets.is_floating_point():
        return "give it one output per class, or for regression pass targets as floats"
    if single:
        kind, chosen = ("two classes", '"bce"') if binary else ("regression", '"mse"')
    elif binary and targets.shape == logits.shape and bool((values.sum(1) == 1).all()):
        return (
            "one-hot rows are class indices as targets.argmax(1); for several labels to a sample write "
            'objective="bce"'
        )
    elif binary and targets.shape == logits.shape:
        kind, chosen = "several labels to a sample", '"bce"'
    elif integral and targets.shape != logits.shape:
        kind, chosen = "class indices kept as floats", _called("F.cross_entropy(model(x), y.long())")
    elif targets.shape != logits.shape:
        kind, chosen = "regression give the model outputs in the targets' shape, and", '"mse"'
    elif bool((values >= 0).all()) and torch.allclose(values.sum(1), torch.ones(()).to(values), atol=1e-3):
        kind, chosen = "probabilities of classes", _called("F.cross_entropy(model(x), y)")
    else:
        kind, chosen = "regression", '"mse"'
    return f"for {kind} write objective={chosen}"


def _called(loss: str) -> str:
    return f"lambda model, x, y: {loss}"
