"""Example inputs from shapes, and walking the nested values that modules take and return."""

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from math import prod
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from capacity import checks
from capacity.errors import InputError, brief

ADDRESSABLE = 2**48  # elements of a sample, far beyond any memory


def as_integer(name: str, value: Any, *, least: int = 1) -> int:
    """`value`, of Python, numpy or a tensor, as an int; InputError for anything else or below `least`.

    >>> as_integer("batch_size", torch.tensor(32))
    32
    """
    number = checks.count(name, value)
    if number < least:
        raise InputError(f"{name} must be at least {least}, found {value}")
    return number


def require_module(model: Any, name: str = "model") -> None:
    """Raise InputError for what is no nn.Module: a class, a name, weights alone."""
    checks.module(name, model)


def require_python(model: nn.Module) -> None:
    """Raise InputError, naming the layer, for TorchScript, which hides its code and its parameters."""
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            what = f"layer {name!r}" if name else "the model"
            raise InputError(
                f"{what} is TorchScript, which hides its layers: use the nn.Module it was made from"
            )


def require_weights(model: nn.Module) -> None:
    """Raise InputError for a model with tensors on the meta device, which have shapes but no numbers."""
    require_module(model)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.device.type == "meta":
            raise without_weights(name)


def without_weights(name: str) -> InputError:
    """What to say of a tensor on the meta device."""
    return InputError(
        f"{name!r} lies on the meta device, so it has a shape but no numbers: load them first "
        f"(model.to_empty(device='cpu'), then load_state_dict), or make the model on the CPU"
    )


def require_numbers(name: str, tensor: Tensor, device: str | torch.device) -> None:
    """Raise InputError for a tensor on the meta device that is to be computed with elsewhere."""
    if torch.device(device).type != "meta":
        checks.array(name, tensor)


def forward(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What the model returns; whatever torch raises in it becomes an InputError that says what went in.

    Lack of memory stays what it is.
    """
    try:
        return model(*args, **kwargs)
    except (InputError, torch.OutOfMemoryError):
        raise
    except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError, AssertionError) as error:
        given = ", ".join(
            map(str, [*(shown(arg) for arg in args), *(f"{k}={shown(v)}" for k, v in kwargs.items())])
        )
        raise InputError(
            f"{type(model).__name__} cannot take a batch of {given}: {first_line(error)}"
        ) from error


def shown(value: Any) -> str:
    """A tensor as its type and shape, float32 (8, 3); anything nested as what it holds.

    >>> shown({"ids": torch.zeros(2, 5, dtype=torch.int64)})
    "{'ids': int64 (2, 5)}"
    >>> shown([0] * 120)
    '(120 times int)'
    """
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {shown(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        parts = [shown(item) for item in value]
        if len(parts) > 6 and len(set(parts)) == 1:
            return f"({len(parts):,} times {parts[0]})"
        return "(" + ", ".join([*parts[:6], *(["..."] if len(parts) > 6 else [])]) + ")"
    return type(value).__name__


def first_line(error: BaseException, most: int = 300) -> str:
    """What an error says, in one line of at most so many characters; its type where it says nothing."""
    said = " ".join(str(error).split()) or type(error).__name__
    return said if len(said) <= most else f"{said[: most - 4].rpartition(' ')[0] or said[: most - 4]} ..."


@contextmanager
def refusing(message: Callable[[str], str], most: int = 300) -> Iterator[None]:
    """Whatever others' code raises inside becomes an InputError, its message made of the reason.

    >>> with refusing(lambda reason: f"the file cannot be read: {reason}"):
    ...     int("three")
    Traceback (most recent call last):
    ...
    capacity.errors.InputError: the file cannot be read: invalid literal for int() with base 10: 'three'
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(message(first_line(error, most))) from error


def untakable(model: nn.Module, input_size: Any) -> str:
    """Whose forward pass refuses which input, to begin a message with."""
    size = repr(input_size) if len(repr(input_size)) < 80 else type(input_size).__name__
    return f"{type(model).__name__} cannot take an input of size {size}"


def taking(model: nn.Module, input_size: Any) -> AbstractContextManager[None]:
    """Whatever a forward pass raises inside becomes an InputError that names the model and the input."""
    return refusing(lambda reason: f"{untakable(model, input_size)}: {reason}")


def example_input(
    model: nn.Module, input_size: Any, *, device: str
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments for one forward pass, a batch of one.

    `input_size` is the shape of one sample without the batch, (1, 28, 28); a list of such shapes for
    several inputs; a dict from argument name to shape; or, wherever a shape may stand, an example batch
    (a tensor, say of token ids, or a list of tensors with one per sample, as detectors take).
    """
    floats = (tensor.dtype for tensor in model.parameters() if tensor.is_floating_point())
    others = (tensor.dtype for tensor in model.parameters() if tensor.is_complex())
    dtype = next(floats, next(others, torch.get_default_dtype()))

    def build(size: Any) -> Any:
        if isinstance(size, Tensor):
            require_numbers("input_size", size, device)
            return size.detach().to(device)
        if is_shape(size):
            if prod(map(int, size)) >= ADDRESSABLE:
                raise InputError(f"input_size must be a shape that fits some memory, found {brief(size)}")
            return torch.ones((1, *map(int, size)), dtype=dtype, device=device)
        if isinstance(size, list) and size and all(isinstance(part, Tensor) for part in size):
            return [build(part) for part in size]
        if isinstance(size, Integral) and not isinstance(size, bool) and int(size) > 0:
            raise InputError(
                f"input_size must be a shape, found the number {size}: for {size} features, ({size},)"
            )
        raise InputError(
            f"input_size must be the shape of one sample such as (3, 32, 32), a list or dict of shapes, "
            f"or an example tensor with a batch dimension; found {brief(size)}"
        )

    if isinstance(input_size, Mapping):
        return (), {name: build(size) for name, size in input_size.items()}
    if isinstance(input_size, Sequence) and not is_shape(input_size) and len(input_size):
        return tuple(build(size) for size in input_size), {}
    return (build(input_size),), {}


def is_shape(size: Any) -> bool:
    """Whether it is a sequence of positive whole numbers.

    >>> is_shape((3, 32, 32)), is_shape((0, 4)), is_shape(3)
    (True, False, False)
    """
    shape = isinstance(size, Sequence) and len(size) > 0
    return shape and all(isinstance(n, Integral) and not isinstance(n, bool) and int(n) > 0 for n in size)


def map_tensors(value: Any, change: Callable[[Tensor], Any]) -> Any:
    """`value` with every tensor replaced, through lists, tuples, mappings, dataclasses and distributions."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_tensors(item, change) for item in value))
    if isinstance(value, list | tuple):
        return type(value)(map_tensors(item, change) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: map_tensors(getattr(value, f.name), change) for f in dataclasses.fields(value)}
        return dataclasses.replace(value, **fields)
    if isinstance(value, torch.distributions.Distribution):
        other = copy.copy(value)
        other.__dict__ = {key: map_tensors(item, change) for key, item in vars(value).items()}
        return other
    if isinstance(value, Mapping):
        items = {key: map_tensors(item, change) for key, item in value.items()}
        return items if type(value) is dict else type(value)(items)  # type: ignore[call-arg]
    return value


def tensors_in(value: Any) -> list[Tensor]:
    """Every distinct tensor inside `value`, in order."""
    tensors: dict[int, Tensor] = {}

    def note(tensor: Tensor) -> Tensor:
        tensors.setdefault(id(tensor), tensor)
        return tensor

    map_tensors(value, note)
    return list(tensors.values())
