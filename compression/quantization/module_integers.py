"""Weights as integers in a model's own modules, for models that no exporter makes one graph of.

Each weight becomes a parametrization of torch: integers and scales are stored, and whoever reads the weight,
with or without calling its layer, reads the floats that they stand for. Rounding is that of the graphs.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from capacity.cloning import clone
from capacity.errors import InputError
from capacity.parametrized import fold_parametrizations, parametrize_all
from compression.targets import EMBEDDINGS, Target, is_transposed, targets
from compression.verification import Arguments, outputs, relative_difference, require_telling, tolerance


class Integers(nn.Module):
    """A parametrization: a weight from integers, with a scale for each unit or group of a unit's inputs.

    Units lie along `axis`; `group_size` is as for `quantize`.
    """

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
    plain: nn.Module, bits: int, group_size: int | None, keep: Sequence[str]
) -> dict[str, tuple[Target, str]]:
    """Store the matrices of layers as integers, in place; every matrix, and why it stayed in float if it did.

    Raises InputError where none can be.
    """
    rows = {name: (target, _reason(plain, target, keep)) for name, target in targets(plain).items()}
    rounded = [target for target, reason in rows.values() if not reason]
    if not rounded:
        raise InputError("the model has no dense or convolutional layer to quantize")
    for target in rounded:
        axis = target.place.axis
        assert axis is not None
        grouped = axis == 0 or is_transposed(target.module)
        target.module._parameters[target.key].requires_grad_(False)  # type: ignore[union-attr]
        parts = Integers(axis, bits, group_size if grouped else None)
        parametrize_all(plain, target.module, target.key, parts)
    return rows


def _reason(model: nn.Module, target: Target, keep: Sequence[str]) -> str:
    owners = [name.rpartition(".")[0] for name in target.names]
    if any(owner in keep for owner in owners):
        return "as asked"
    if any(isinstance(model.get_submodule(owner), EMBEDDINGS) for owner in owners):
        return "an embedding reads it in float"
    if not target.known or target.place.axis is None:
        return f"a {type(target.module).__name__} reads it in float"
    return ""


def require_read(model: nn.Module, example: Arguments) -> None:
    """Raise InputError unless the model computes what its weights in floats would.

    It must not have run before: what a first pass keeps would be of other weights.
    """
    floats = fold_parametrizations(clone(model))
    expected, actual = outputs(floats, [example]), outputs(model, [example])
    require_telling(expected)
    difference = relative_difference(expected, actual)
    if not difference <= tolerance(floats):
        raise InputError(
            f"with weights stored as integers the model computes otherwise than with the floats that they "
            f"stand for (by {difference:.2g} of its outputs), so something in it reads them in another way"
        )
