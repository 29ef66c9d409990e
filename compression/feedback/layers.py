"""A layer's weight as matrices, and what it is given as the rows that they multiply.

Dense layers, convolutions with groups, strides, dilations and any padding, and the library transformers'
`Conv1D`, whose weight is transposed. A convolution with groups is a matrix for each.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compression.candidates import checked_value
from compression.targets import Target, is_transposed

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def is_readable(module: nn.Module) -> bool:
    """Whether a layer multiplies its first argument by its weight, and by nothing else."""
    return isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d) or is_transposed(module)


def unit_axis(module: nn.Module) -> int:
    """Which axis of a layer's outputs is its units, counted from the last."""
    return -1 - len(module.kernel_size) if isinstance(module, CONVOLUTIONS) else -1


def matrices_of(module: nn.Module, weight: Tensor) -> Tensor:
    """A weight, or anything of its shape, as (groups, outputs of each, inputs of each).

    >>> matrices_of(nn.Conv2d(4, 6, 3, groups=2), torch.zeros(6, 2, 3, 3)).shape
    torch.Size([2, 3, 18])
    """
    if is_transposed(module):
        return weight.t()[None]
    groups = module.groups if isinstance(module, CONVOLUTIONS) else 1
    return weight.reshape(groups, weight.shape[0] // groups, -1)


def exact_matrices(target: Target) -> Tensor:
    """A copy of a target's weight, by `matrices_of`, in double precision on the processor.

    Raises InputError where it holds NaN or infinity.
    """
    values = checked_value(target).detach()
    return matrices_of(target.module, values.to("cpu", torch.float64, copy=True))


def weight_of(module: nn.Module, matrices: Tensor, shape: torch.Size) -> Tensor:
    """Matrices as the weight of this shape that `matrices_of` took apart."""
    return matrices[0].t() if is_transposed(module) else matrices.reshape(shape)


def rows_of(module: nn.Module, given: Tensor) -> Tensor:
    """(groups, positions of all samples, inputs of each): what each output is a product with.

    >>> rows_of(nn.Conv2d(4, 6, 3, groups=2), torch.zeros(5, 4, 8, 8)).shape
    torch.Size([2, 180, 18])
    """
    if not isinstance(module, CONVOLUTIONS):
        return given.reshape(1, -1, given.shape[-1])
    sides = len(module.kernel_size)
    batch = given if given.dim() == sides + 2 else given[None]
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    patches = F.pad(batch, module._reversed_padding_repeated_twice, mode=mode)
    for side in range(sides):
        reach = module.dilation[side] * (module.kernel_size[side] - 1) + 1
        patches = patches.unfold(2 + side, reach, module.stride[side])[..., :: module.dilation[side]]
    grouped = patches.unflatten(1, (module.groups, -1))  # samples, groups, channels, places, kernel
    places = range(3, 3 + sides)
    ordered: Tensor = grouped.permute(1, 0, *places, 2, *range(3 + sides, 3 + 2 * sides))
    return ordered.reshape(module.groups, -1, module.weight[0].numel())
