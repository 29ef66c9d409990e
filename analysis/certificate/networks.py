"""Small networks on features that are fixed before any data are seen, and therefore cost no bits.

What is fixed: eight half-rectified directional derivatives of the luminance, and for colour pictures three
opponent channels, each as what is above and below zero, pooled over a grid of cells. What is learned: one
vector of whole numbers, the weights and biases of a few convolutions and of the outputs. Every sum of a layer
is normalized over the sample, so that no scale is stored, and the classes' order needs none.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from analysis.certificate.config import channels_of
from capacity.errors import InputError

DIRECTIONS = 8
MIRRORED = [(DIRECTIONS // 2 - place) % DIRECTIONS for place in range(DIRECTIONS)]  # each direction
CELLS = (8, 7, 6, 5)  # to a side, the first that divides the pictures' side
CONVOLUTIONS = ((1, 1), (3, 1), (3, 2))  # kernel and stride of each; of one or two those of 3 x 3


def cells_of(shape: Sequence[int]) -> int:
    """Cells to a side for pictures (channels, side, side); raises InputError for other samples.

    >>> cells_of((1, 28, 28)), cells_of((3, 32, 32))
    (7, 8)
    """
    if len(shape) != 3 or shape[0] not in (1, 3) or shape[1] != shape[2]:
        raise InputError(
            f"certificate searches networks for square pictures of one or three channels; a sample is "
            f"{tuple(shape)}"
        )
    for cells in CELLS:
        if shape[1] % cells == 0:
            return cells
    raise InputError(f"the pictures' side must be a multiple of 5, 6, 7 or 8 pixels, found {shape[1]}")


class FixedFeatures(nn.Module):
    """Pictures (N, channels, side, side) -> features (N, 8 or 14, cells, cells); nothing is learned."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.cells, self.width = cells_of(shape), shape[1] // cells_of(shape)
        self.shape = DIRECTIONS + (6 if shape[0] == 3 else 0), self.cells
        smooth, slope = torch.tensor([1.0, 2.0, 1.0]), torch.tensor([-1.0, 0.0, 1.0])
        across = torch.outer(smooth, slope) / 8
        angles = [2 * math.pi * place / DIRECTIONS for place in range(DIRECTIONS)]
        kernels = torch.stack([math.cos(a) * across + math.sin(a) * across.t() for a in angles])[:, None]
        self.register_buffer("kernels", kernels, persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        luminance = pictures.mean(1, keepdim=True)
        slopes = F.conv2d(luminance, self.get_buffer("kernels"), padding=1).relu()
        shares = slopes.square() / (slopes.square().sum(1, keepdim=True).sqrt() + 1e-3)
        features = F.group_norm(self._pooled(shares).sqrt(), 1)
        if pictures.shape[1] == 1:
            return features
        red, green, blue = pictures.split(1, 1)
        middle = luminance.mean((2, 3), keepdim=True)
        opponents = torch.cat([luminance - middle, red - green, blue - (red + green) / 2], 1)
        pooled = self._pooled(opponents)
        return torch.cat([features, F.group_norm(torch.cat([pooled, -pooled], 1).relu(), 1)], 1)

    def _pooled(self, maps: Tensor) -> Tensor:
        """Means over cells that overlap by a pixel on each side."""
        return F.avg_pool2d(maps, self.width + 2, self.width, 1)


def mirror(features: Tensor) -> Tensor:
    """The features of the mirror images of the pictures that these are the features of."""
    order = [*MIRRORED, *range(DIRECTIONS, features.shape[1])]
    return features.flip(3)[:, order]


class IntegerNetwork(nn.Module):
    """Features (N, channels, cells, cells) -> outputs (N, classes); all that it learns is one vector.

    A convolution of 1 x 1 where there are three, one of 3 x 3, one of 3 x 3 at every other place; the outputs
    see what is left whole. Those of colour pictures, of things that are the same in a mirror, are sums over
    the picture and its mirror image.

    name: as `channels_of` reads it; features: (channels, cells) of what it is given
    """

    def __init__(self, name: str, features: tuple[int, int], classes: int) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []
        self.strides: list[int] = []
        (channels, cells), widths = features, channels_of(name)
        kinds = CONVOLUTIONS[-2:][: len(widths)] if len(widths) < 3 else CONVOLUTIONS
        for (kernel, stride), width in zip(kinds, widths, strict=True):
            self.shapes.append((width, channels, kernel, kernel))
            self.strides.append(stride)
            channels, cells = width, (cells - kernel) // stride + 1
        self.shapes.append((classes, channels, cells, cells))
        self.strides.append(1)
        self.sizes = [math.prod(shape) + shape[0] for shape in self.shapes]
        self.weights = nn.Parameter(torch.zeros(sum(self.sizes)))

    def forward(self, features: Tensor) -> Tensor:
        outputs = self._outputs(features)
        return outputs + self._outputs(mirror(features)) if features.shape[1] > DIRECTIONS else outputs

    def _outputs(self, features: Tensor) -> Tensor:
        layers = list(zip(self.weights.split(self.sizes), self.shapes, self.strides, strict=True))
        for vector, shape, stride in layers[:-1]:
            features = F.group_norm(self._summed(features, vector, shape, stride), 1).relu()
        return self._summed(features, *layers[-1]).flatten(1)

    @staticmethod
    def _summed(features: Tensor, vector: Tensor, shape: tuple[int, ...], stride: int) -> Tensor:
        biases = shape[0]
        return F.conv2d(features, vector[:-biases].view(shape), vector[-biases:], stride=stride)


def build(name: str, shape: Sequence[int], classes: int) -> nn.Sequential:
    """Fixed features and the network on them, for pictures of this shape; all weights are zero."""
    features = FixedFeatures(shape)
    return nn.Sequential(features, IntegerNetwork(name, features.shape, classes))
