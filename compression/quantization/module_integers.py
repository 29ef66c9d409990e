"""Weights as integers in a model's own modules, for models that no exporter makes one graph of.

Each weight becomes a parametrization of torch: integers and scales are stored, and whoever reads the weight,
with or without calling its layer, reads the floats that they stand for. Rounding is that of the graphs.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from capacity.cloning import clone
from capacity.errors import InputError
from capacity.inputs import tensors_in
from capacity.parametrized import parametrizations_of, parametrize_all
from capacity.rebinding import OWN
from compression.counting import memory_of
from compression.targets import EMBEDDINGS, Target, is_transposed, targets
from compression.verification import Arguments, outputs, relative_difference, require_telling, tolerance


class Integers(nn.Module):
    """A parametrization: a weight from integers, with a scale for each unit or group of a unit's inputs.

    Units lie along `axis`; `group_size` is as for `quantize`.
    """

    stores = True  # files hold what it computes from, not what it computes

    def __init__(self, axis: int, bits: int, group_size: int | None) -> None:
        super().__init__()
        self.axis, self.bits, self.group_size = axis, bits, group_size
        self.scales: Tensor
        self.register_buffer("scales", torch.ones(1))

    def forward(self, integers: Tensor) -> Tensor:
        units = integers.movedim(self.axis, 0)
        floats = units.reshape(*self.scales.shape, -1).to(self.scales.dtype) * self.scales[..., None]
        return floats.reshape(units.shape).movedim(0, self.axis)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor]:
        """The integers, alone in a tuple, as torch allows another kind of number only there."""
        from compression.quantization.quantizers import integer_range, scales_of

        units = weight.detach().movedim(self.axis, 0)
        self.scales = scales_of(units, self.bits, self.group_size)
        multiples = (units.reshape(*self.scales.shape, -1) * (1 / self.scales[..., None])).round()
        integers = multiples.clamp(*integer_range(self.bits)).to(torch.int8).reshape(units.shape)
        return (integers.movedim(0, self.axis).contiguous(),)


def store_integers(
    plain: nn.Module, bits: int, group_size: int | None, keep: Sequence[str], *, empty: bool = False
) -> dict[str, tuple[Target, str]]:
    """Store the matrices of layers as integers, in place; every matrix, and why it stayed in float if it did.

    With `empty`, integers of nothing but zeros, to be filled.

    Raises InputError where none can be, unless that was asked for.
    """
    every = targets(plain)
    memories = Counter(memory_of(plain.get_parameter(target.names[0])) for target in every.values())
    rows = {name: (target, _reason(plain, target, keep, memories)) for name, target in every.items()}
    if not any(reason in ("", "as asked") for _, reason in rows.values()):
        name, (_, reason) = next(iter(rows.items()), ("", (None, "")))
        why = f"none of its weights can be an integer: {name!r}: {reason}" if reason else "it has no weights"
        raise InputError(why)
    for target in (target for target, reason in rows.values() if not reason):
        axis, grouped = _axis_of(target), is_transposed(target.module)
        weight = target.module._parameters[target.key].requires_grad_(False)  # type: ignore[union-attr]
        if empty:
            weight.zero_()
        parts = Integers(axis, bits, group_size if axis == 0 or grouped else None)
        parametrize_all(plain, target.module, target.key, parts)
    return rows


def _axis_of(target: Target) -> int:
    """Where a weight's outputs lie; in transposed convolutions of several groups its inputs."""
    axis = target.place.axis
    assert axis is not None
    return 0 if target.place.groups > 1 else axis


def _reason(model: nn.Module, target: Target, keep: Sequence[str], memories: Mapping[Any, int]) -> str:
    owners = [name.rpartition(".")[0] for name in target.names]
    if any(owner in keep for owner in owners):
        return "as asked"
    if any(isinstance(model.get_submodule(owner), EMBEDDINGS) for owner in owners):
        return "an embedding reads it in float"
    if not target.known or target.place.axis is None:
        return f"a {type(target.module).__name__} reads it in float"
    if not target.elements:
        return "it has no elements"
    if memories[memory_of(model.get_parameter(target.names[0]))] > 1:
        return "it shares its memory with another parameter"
    return ""


def require_read(
    model: nn.Module, floats: nn.Module, rounded: Sequence[Target], inputs: Sequence[Arguments]
) -> None:
    """Raise InputError unless a model with integers computes what the floats that they stand for do.

    Outputs and what each layer gives are compared on the inputs, of which the model must take the first.

    Parameters
    ----------
    model, floats: copies of one model, with integers and without; neither is changed but the weights of
        `floats`, in place, so that whatever else holds them sees it
    """
    with torch.no_grad():
        for target in rounded:
            floats.get_parameter(target.names[0]).copy_(getattr(target.module, target.key))
    one, two, integer = (_Watched(watched, rounded) for watched in (floats, floats, model))
    expected = one.sums(inputs[0])
    require_telling([expected])
    limit = tolerance(floats)
    if not relative_difference([expected], [two.sums(inputs[0])]) <= limit:
        raise InputError(
            "the model computes otherwise each time, by random numbers that are not torch's, so nothing "
            "tells whether it stays the same"
        )
    _require_same(expected, integer.sums(inputs[0]), limit)
    for given in inputs[1:]:
        try:
            expected = one.sums(given)
        except Exception:  # not every model takes random numbers in its example's place
            break
        _require_same(expected, integer.sums(given), limit)
    for target in (target for target in rounded if target.name not in integer.read):
        copies = _tensors_held(model, target.elements)
        if copies or target.layer in integer.ran:
            raise InputError(
                f"the weight of {target.name!r} is not read, perhaps for what an earlier pass made of it "
                f"({', '.join(copies) or 'its layer runs without it'}): quantize a model that did not run"
            )


def _require_same(expected: Sequence[Tensor], actual: Sequence[Tensor], limit: float) -> None:
    difference = relative_difference([expected], [actual])
    if not difference <= limit:
        raise InputError(
            f"with weights stored as integers the model computes otherwise than with the floats that they "
            f"stand for (by {difference:.2g} of its outputs): something in it reads or keeps them another way"
        )


class _Watched:
    """A copy of a model that tells what its layers give, and which weights are read."""

    def __init__(self, model: nn.Module, rounded: Sequence[Target]) -> None:
        self.model, self.given = clone(model), list[Tensor]()
        self.read: set[str] = set()
        self.ran: set[str] = set()
        for name in {target.layer for target in rounded}:
            self.model.get_submodule(name).register_forward_hook(partial(self._add, name))
        for target in rounded:
            parts = parametrizations_of(self.model.get_submodule(target.layer), target.key)
            if parts is not None:
                parts[0].register_forward_hook(lambda *_, name=target.name: self.read.add(name))

    def _add(self, name: str, _module: nn.Module, _args: Any, output: Any) -> None:
        self.ran.add(name)
        numbers = [t.detach().double() for t in tensors_in(output) if t.is_floating_point()]
        self.given.extend(torch.stack([t.sum(), t.abs().sum()]) for t in numbers)

    def sums(self, given: Arguments) -> list[Tensor]:
        """The outputs, and of what each layer gives the sum and the sum of magnitudes."""
        self.given = []
        return [*outputs(self.model, [given])[0], *self.given]


def _tensors_held(model: nn.Module, elements: int) -> list[str]:
    """Attributes that hold tensors of so many elements and are neither parameters nor buffers."""
    return [
        f"{name}.{key}".removeprefix(".")
        for name, module in model.named_modules()
        for key, value in vars(module).items()
        if key not in OWN and any(tensor.numel() == elements for tensor in tensors_in(value))
    ]
