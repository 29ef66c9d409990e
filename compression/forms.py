"""What a batch may be, and what a model may return: the one place that turns both into tensors.

========================================== ====================================================
a batch                                    is read as
========================================== ====================================================
(inputs, targets)                          one argument: a tensor, or a mapping of named ones
(input, input, ..., targets)               several arguments, the targets last
{"input_ids": ..., "labels": ...}          named arguments; the targets have one of the names LABELS
========================================== ====================================================

========================================== ====================================================
a model's output                           its logits
========================================== ====================================================
a tensor                                   itself
a mapping, named tuple or dataclass        the entry named `logits` or, as segmentation has it, `out`;
                                           entries named `aux...` are auxiliary heads
a tuple of tensors of one shape            the first; the others are auxiliary heads
========================================== ====================================================

Where the output has a scalar `loss` (a language model given its labels), that is what training minimizes.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from capacity.errors import InputError
from capacity.inputs import forward, map_tensors, require_numbers, shown

LABELS = ("labels", "label", "targets", "target")
LOGITS = ("logits", "out")
AUXILIARY_WEIGHT = 0.3  # of an auxiliary head's loss: Szegedy et al. 2014, arXiv:1409.4842, section 5


def parts_of(batch: Any) -> tuple[Any, Any]:
    """The inputs (a tensor, a tuple of them, or a mapping of names to them) and the targets of a batch.

    Raises InputError for a batch of another form, without labels, or without samples.
    """
    if isinstance(batch, tuple) and len(batch) == 2:
        inputs, targets = batch
        if isinstance(targets, Tensor) and targets.dim() and targets.shape[0]:
            return inputs, targets
    elif isinstance(batch, list | tuple) and len(batch) >= 2:
        inputs = batch[0] if len(batch) == 2 else tuple(batch[:-1])
        targets = batch[-1]
    elif isinstance(batch, Mapping):
        key = next((name for name in LABELS if batch.get(name) is not None), None)
        if key is None:
            raise InputError(
                f"a batch has no labels: one of {', '.join(LABELS)}; it holds {', '.join(batch)}"
            )
        inputs, targets = {name: value for name, value in batch.items() if name != key}, batch[key]
    else:
        raise InputError(
            f"a batch must be (inputs, targets) or a mapping of names to tensors that holds 'labels'; "
            f"found {shown(batch)}"
        )
    if size_of(targets) == 0:
        raise InputError(f"a batch holds no samples: its targets are {shown(targets)}")
    return inputs, targets


def size_of(targets: Any) -> int:
    """Samples in a batch, by its targets."""
    first = _first(targets)
    if first is None or not first.dim():
        raise InputError(
            f"the targets of a batch must be a tensor with a sample per row, found {shown(targets)}; a "
            f"Dataset, which yields single samples, goes into a DataLoader"
        )
    return len(first)


def _first(value: Any) -> Tensor | None:
    if isinstance(value, Mapping):
        value = next(iter(value.values()), None)
    while isinstance(value, list | tuple) and value:
        value = value[0]
    return value if isinstance(value, Tensor) else None


def placed(value: Any, device: torch.device, dtype: torch.dtype | None = None) -> Any:
    """A batch's tensors on a device, the floats in the model's number type."""
    if isinstance(value, Tensor):
        require_numbers("a batch", value, device)
        wrong = dtype is not None and value.dtype != dtype and value.is_floating_point()
        return value.to(device, dtype) if wrong else value.to(device)
    return map_tensors(value, lambda tensor: placed(tensor, device, dtype))


def joined_batches(one: Any, two: Any) -> Any:
    """Two batches as one.

    Raises InputError where their samples differ in shape.
    """
    if isinstance(one, Tensor):
        try:
            return torch.cat([one, two])
        except RuntimeError as error:
            raise InputError(
                f"batch norm cannot learn from a last batch of one sample, and {shown(two)} cannot be joined "
                f"to {shown(one)} before it: leave it out (drop_last=True)"
            ) from error
    if isinstance(one, Mapping):
        return {key: joined_batches(value, two[key]) for key, value in one.items()}
    return tuple(joined_batches(a, b) for a, b in zip(one, two, strict=True))


def dtype_of(model: nn.Module) -> torch.dtype | None:
    """The number type of a model's first floating parameter: that of its inputs."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), None)


def run(model: nn.Module, inputs: Any, targets: Any = None) -> Any:
    """What the model returns for a batch's inputs; torch's errors become InputErrors that say what went in.

    `targets` are passed on as `labels` to a model that takes them beside named inputs.
    """
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    if isinstance(inputs, Tensor):
        args = (inputs,)
    elif isinstance(inputs, Mapping):
        kwargs = dict(inputs)
        if targets is not None and _takes_labels(model):
            kwargs["labels"] = targets
    elif isinstance(inputs, list | tuple):
        args = tuple(inputs)
    else:
        raise InputError(f"a batch's inputs must be tensors, in a tuple or mapping; found {shown(inputs)}")
    try:
        return forward(model, args, kwargs)
    except InputError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise InputError(
            f"{error}; batch norm takes the variance of its batch: give larger batches, leave the last one "
            f"out (drop_last=True), or freeze the norm with .eval()"
        ) from error


def _takes_labels(model: nn.Module) -> bool:
    return "labels" in inspect.signature(getattr(model, "module", model).forward).parameters


def own_loss(output: Any) -> Tensor | None:
    """The scalar loss that the model computed itself, if it did."""
    loss = _entries(output).get("loss")
    return loss if isinstance(loss, Tensor) and loss.numel() == 1 else None


def logits_for(model: nn.Module, inputs: Any, device: torch.device) -> Tensor:
    """A model's logits for a batch's inputs, which are brought to its device and its number type."""
    return logits_of(run(model, placed(inputs, device, dtype_of(model))))


def logits_of(output: Any) -> Tensor:
    """The logits in a model's output."""
    return output if isinstance(output, Tensor) else heads_of(output)[0][1]


def heads_of(output: Any) -> list[tuple[float, Tensor]]:
    """The logits of the main head with weight 1, then those of auxiliary heads with theirs.

    Raises InputError for an output in which the logits cannot be told from the rest.
    """
    if isinstance(output, Tensor):
        return [(1.0, output)]
    entries = _entries(output)
    main = next((entries[name] for name in LOGITS if isinstance(entries.get(name), Tensor)), None)
    if main is not None:
        others = [
            value for key, value in entries.items() if key.startswith("aux") and isinstance(value, Tensor)
        ]
    else:
        tensors = [value for value in output if value is not None] if isinstance(output, list | tuple) else []
        if not tensors or any(not isinstance(t, Tensor) or t.shape != tensors[0].shape for t in tensors):
            raise InputError(
                f"the model returns {shown(output)}, in which the logits cannot be told from the rest: "
                f"return the logits alone or under the name 'logits', in a dict or a named tuple"
            )
        main, others = tensors[0], tensors[1:]
    return [(1.0, main), *((AUXILIARY_WEIGHT, head) for head in others)]


def _entries(output: Any) -> Mapping[str, Any]:
    if isinstance(output, Mapping):
        return dict(output)
    if hasattr(output, "_fields"):
        return dict(zip(output._fields, output, strict=True))
    if isinstance(output, Tensor | Sequence) or not hasattr(output, "__dict__"):
        return {}
    return dict(vars(output))
