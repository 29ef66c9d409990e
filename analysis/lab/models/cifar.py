"""The CIFAR variants of GoogLeNet, VGG16 with batch normalization, and ResNets, for 32x32 pictures."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Size = Sequence[int]


def _unit(inputs: int, outputs: int, kernel: int, *, stride: int = 1, bias: bool = True) -> nn.Sequential:
    """Convolution, batch normalization, rectifier."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=bias)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def vgg16bn(size: Size, classes: int, pretrained: bool) -> nn.Module:
    """Report B's network: 34,015,396 parameters with 100 classes."""
    layers: list[nn.Module] = []
    channels = size[0]
    for width, repeats in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(repeats):
            layers += _unit(channels, width, 3)
            channels = width
        layers.append(nn.MaxPool2d(2, ceil_mode=True))
    head = nn.Sequential(
        nn.Linear(512, 4096), nn.ReLU(inplace=True), nn.Dropout(),
        nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(4096, classes),
    )  # fmt: skip
    parts = OrderedDict(features=nn.Sequential(*layers), pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten())
    return nn.Sequential(parts | OrderedDict(classifier=head))


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


def googlenet(size: Size, classes: int, pretrained: bool) -> nn.Module:
    """Report C's network (Szegedy et al. 2015, batch norm): 6,402,564 parameters with 100 classes."""
    stem = [_unit(size[0], 64, 3, bias=False), _unit(64, 64, 3, bias=False), _unit(64, 192, 3, bias=False)]
    parts: OrderedDict[str, nn.Module] = OrderedDict(stem=nn.Sequential(*stem))
    channels = 192
    for stage, blocks in INCEPTIONS.items():
        for letter, widths in zip("abcde", blocks, strict=False):
            parts[f"inception{stage}{letter}"] = Inception(channels, widths)
            channels = widths[0] + widths[2] + widths[4] + widths[5]
        if stage != "5":
            parts[f"pool{stage}"] = nn.MaxPool2d(3, 2, 1)
    parts |= OrderedDict(average=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), dropout=nn.Dropout(0.4))
    parts["classifier"] = nn.Linear(channels, classes)
    return nn.Sequential(parts)


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


def resnet(stem: int, widths: Sequence[int], blocks: int) -> Callable[[Size, int, bool], nn.Module]:
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


resnet18 = resnet(64, (64, 128, 256, 512), 2)  # 11,220,132 parameters with 100 classes
resnet20, resnet56 = resnet(16, (16, 32, 64), 3), resnet(16, (16, 32, 64), 9)  # He et al. 2016, section 4.2
resnet8x4, resnet32x4 = resnet(32, (64, 128, 256), 1), resnet(32, (64, 128, 256), 5)  # Tian et al. 2020
