"""The CIFAR variants of GoogLeNet, VGG16 with batch normalization, and ResNets, for 32x32 pictures."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Size = Sequence[int]
Build = Callable[[Size, int, bool], nn.Module]


def _unit(inputs: int, outputs: int, kernel: int, *, stride: int = 1, bias: bool = True) -> nn.Sequential:
    """Convolution, batch normalization, rectifier."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=bias)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def channels_last(build: Build) -> Build:
    """The networks of a factory with convolutions that lie channels last, which train faster on a CPU."""

    def last(size: Size, classes: int, pretrained: bool) -> nn.Module:
        network: nn.Module = build(size, classes, pretrained).to(memory_format=torch.channels_last)
        return network

    return last


def vgg(first: int) -> Build:
    """Sixteen layers with batch normalization, `first` channels in the first, 64 times as many units."""

    def build(size: Size, classes: int, pretrained: bool) -> nn.Module:
        layers: list[nn.Module] = []
        channels, units = size[0], 64 * first
        for times, repeats in ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3)):
            for _ in range(repeats):
                layers += _unit(channels, times * first, 3)
                channels = times * first
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        head = nn.Sequential(
            nn.Linear(channels, units), nn.ReLU(inplace=True), nn.Dropout(),
            nn.Linear(units, units), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(units, classes),
        )  # fmt: skip
        features = OrderedDict(features=nn.Sequential(*layers))
        pooled = OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten())
        return nn.Sequential(features | pooled | OrderedDict(classifier=head))

    return build


class Inception(nn.Module):
    """Four branches over one input, concatenated: 1x1, 3x3, twice 3x3 for 5x5, and pooling."""

    def __init__(self, inputs: int, widths: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, pool = widths
        self.one = _unit(inputs, one, 1)
        self.three = nn.Sequential(_unit(inputs, reduce3, 1), _unit(reduce3, three, 3))
        self.five = nn.Sequential(_unit(inputs, reduce5, 1), _unit(reduce5, five, 3), _unit(five, five, 3))
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), _unit(inputs, pool, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pool(x)], 1)


INCEPTIONS = {
    "3": [(64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)],
    "4": [
        (192, 96, 208, 16, 48, 64), (160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64), (256, 160, 320, 32, 128, 128),
    ],
    "5": [(256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)],
}  # fmt: skip


def inceptions(thinner: int) -> Build:
    """GoogLeNet with batch normalization (Szegedy et al. 2015) with so many times fewer channels."""

    def build(size: Size, classes: int, pretrained: bool) -> nn.Module:
        first, channels = 64 // thinner, 192 // thinner
        stem = [
            _unit(before, after, 3, bias=False)
            for before, after in ((size[0], first), (first, first), (first, channels))
        ]
        parts: OrderedDict[str, nn.Module] = OrderedDict(stem=nn.Sequential(*stem))
        for stage, blocks in INCEPTIONS.items():
            for letter, full_width in zip("abcde", blocks, strict=False):
                one, reduce3, three, reduce5, five, pool = (width // thinner for width in full_width)
                widths = (one, reduce3, three, reduce5, five, pool)
                parts[f"inception{stage}{letter}"] = Inception(channels, widths)
                channels = one + three + five + pool
            if stage != "5":
                parts[f"pool{stage}"] = nn.MaxPool2d(3, 2, 1)
        parts |= OrderedDict(average=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), dropout=nn.Dropout(0.4))
        parts["classifier"] = nn.Linear(channels, classes)
        return nn.Sequential(parts)

    return build


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut, projected where the shape changes (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = _unit(inputs, outputs, 3, stride=stride, bias=False)
        self.second = _unit(outputs, outputs, 3, bias=False)[:2]
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Sequential() if same else _unit(inputs, outputs, 1, stride=stride, bias=False)[:2]

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(self.first(x)) + self.shortcut(x))


def resnet(stem: int, widths: Sequence[int], blocks: int) -> Build:
    """A residual network with a 3x3 stem and no first pooling; every stage but the first halves."""

    def build(size: Size, classes: int, pretrained: bool) -> nn.Module:
        parts: OrderedDict[str, nn.Module] = OrderedDict(stem=_unit(size[0], stem, 3, bias=False))
        channels = stem
        for stage, width in enumerate(widths, 1):
            for block in range(blocks):
                stride = 2 if block == 0 and stage > 1 else 1
                parts[f"stage{stage}_{block}"] = Residual(channels, width, stride)
                channels = width
        parts |= OrderedDict(average=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten())
        parts["classifier"] = nn.Linear(channels, classes)
        return nn.Sequential(parts)

    return build


vgg16bn = vgg(64)  # report B's: 34,015,396 parameters with 100 classes
googlenet = inceptions(1)  # report C's: 6,402,564 parameters with 100 classes
vgg16bn_quarter, googlenet_eighth = channels_last(vgg(16)), channels_last(inceptions(8))
resnet18_quarter = channels_last(resnet(16, (16, 32, 64, 128), 2))
resnet18 = resnet(64, (64, 128, 256, 512), 2)  # 11,220,132 parameters with 100 classes
resnet20, resnet56 = resnet(16, (16, 32, 64), 3), resnet(16, (16, 32, 64), 9)  # He et al. 2016, section 4.2
resnet8x4, resnet32x4 = resnet(32, (64, 128, 256), 1), resnet(32, (64, 128, 256), 5)  # Tian et al. 2020
