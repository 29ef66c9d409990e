"""The students of the reports: B's v1 to v7 with Fire modules, D's small CNNs, E's five-layer CNN."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from capacity.errors import InputError

Size = Sequence[int]
Part = tuple[int, ...] | str
C = 64


class Fire(nn.Module):
    """A 1x1 squeeze, then 1x1 and 3x3 expansions side by side, concatenated (Iandola et al. 2016)."""

    def __init__(self, inputs: int, squeeze: int, one: int, three: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeeze, 1)
        self.one = nn.Conv2d(squeeze, one, 1)
        self.three = nn.Conv2d(squeeze, three, 3, padding=1)
        self.norm = nn.BatchNorm2d(one + three)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.squeeze(x))
        return torch.relu(self.norm(torch.cat([self.one(x), self.three(x)], 1)))


# (outputs, kernel) is a convolution, (squeeze, 1x1, 3x3) a Fire module, "/2" a max-pool
FEATURES: dict[str, tuple[Part, ...]] = {
    "student_v1": ((C, 3), "/2", (2 * C, 3), (2 * C, 3), "/2", (4 * C, 3), (4 * C, 3), "/2"),
    "student_v2": (
        (C, 3), "/2", (2 * C, 3), (2 * C, 3), "/2", (4 * C, 3), (4 * C, 3), "/2", (4 * C, 3), (4 * C, 3),
    ),
    "student_v3": (
        (C, 3), "/2", (2 * C, 3), (2 * C, 1), (4 * C, 3), "/2", (4 * C, 1), (4 * C, 3), (8 * C, 3), "/2",
        (8 * C, 1),
    ),
    "student_v4": (
        (C, 3), "/2", (4 * C, 3), (4 * C, 1), (4 * C, 3), "/2", (8 * C, 3), (8 * C, 1), (8 * C, 3), "/2",
    ),
    "student_v5": ((C, 3), "/2", (4 * C, 3), "/2", (8 * C, 3), (8 * C, 1), (8 * C, 3), "/2"),
    "student_v6": (
        (C, 3), (2 * C, 3), "/2", (4 * C, 2 * C, 2 * C), (4 * C, 3), "/2", (8 * C, 4 * C, 4 * C),
        (4 * C, 3), "/2",
    ),
    "student_v7": (
        (C, 3), (2 * C, 3), "/2", (2 * C, 2 * C, 2 * C), (2 * C, 4 * C, 4 * C), "/2", (2 * C, 8 * C, 8 * C),
        (8 * C, 3), (2 * C, 4 * C, 4 * C), "/2", (8 * C, 3), (2 * C, 2 * C, 2 * C), (C, C, C),
    ),
}  # fmt: skip
HEADS: dict[str, tuple[int, ...]] = {
    "student_v1": (16 * C, 4 * C, 2 * C),
    "student_v2": (16 * C, 16 * C, 4 * C, 4 * C, 2 * C),
    "student_v3": (16 * C, 16 * C, 4 * C, 4 * C, 2 * C),
    "student_v4": (32 * C, 16 * C, 16 * C, 8 * C, 4 * C, 4 * C, 2 * C),
    "student_v5": (32 * C, 16 * C, 16 * C, 8 * C, 4 * C, 4 * C, 2 * C),
    "student_v6": (16 * C, 16 * C, 4 * C, 4 * C, 2 * C),
    "student_v7": (16 * C, 4 * C, 4 * C, 2 * C),
}


def student(name: str, thinner: int = 1) -> Callable[[Size, int, bool], nn.Module]:
    """Report B's student of this name; where its table leaves the halvings open, they are spread evenly.

    thinner: divides the number of channels and units
    """

    def build(size: Size, classes: int, pretrained: bool) -> nn.Module:
        channels, height, width = picture(size, name, 8)
        layers: list[nn.Module] = []
        for part in FEATURES[name]:
            if isinstance(part, str):
                layers.append(nn.MaxPool2d(2))
                height, width = height // 2, width // 2
            elif len(part) == 2:
                outputs, kernel = part[0] // thinner, part[1]
                layers += [nn.Conv2d(channels, outputs, kernel, padding=kernel // 2), nn.BatchNorm2d(outputs)]
                layers.append(nn.ReLU())
                channels = outputs
            else:
                squeeze, one, three = (channel // thinner for channel in part)
                layers.append(Fire(channels, squeeze, one, three))
                channels = one + three
        units = [unit // thinner for unit in HEADS[name]]
        head = _head([channels * height * width, *units, classes])
        return _net(nn.Sequential(*layers), head)

    return build


def _head(units: Sequence[int]) -> nn.Sequential:
    """Dense layers with rectifiers; dropout of 0.3 after the first and after the middle one."""
    layers: list[nn.Module] = []
    last = len(units) - 2
    for place, (before, after) in enumerate(pairwise(units)):
        layers.append(nn.Linear(before, after))
        if place < last:
            layers.append(nn.ReLU())
        if place in (0, last // 2) and place < last:
            layers.append(nn.Dropout(0.3))
    return nn.Sequential(*layers)


def _net(features: nn.Module, classifier: nn.Module) -> nn.Sequential:
    parts = OrderedDict(features=features, flatten=nn.Flatten(), classifier=classifier)
    return nn.Sequential(parts)


def cnn(first: int, second: int) -> Callable[[Size, int, bool], nn.Module]:
    """Report D's CNN: two 3x3 convolutions of stride 2 and one dense layer."""

    def build(size: Size, classes: int, pretrained: bool) -> nn.Module:
        channels, height, width = picture(size, "cnn", 4)
        features = nn.Sequential(
            nn.Conv2d(channels, first, 3, 2, 1), nn.ReLU(), nn.Conv2d(first, second, 3, 2, 1), nn.ReLU()
        )
        flat = second * (-(-height // 4)) * (-(-width // 4))
        return _net(features, nn.Linear(flat, classes))

    return build


def six_layer(size: Size, classes: int, pretrained: bool) -> nn.Module:
    """A six-layer network for report D's sparsity at 5x: four convolutions and two dense layers."""
    channels, height, width = picture(size, "six_layer", 4)
    layers: list[nn.Module] = []
    for outputs, halved in ((32, False), (32, True), (64, False), (64, True)):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if halved else []
        channels = outputs
    flat = 64 * (height // 4) * (width // 4)
    classifier = nn.Sequential(nn.Linear(flat, 128), nn.ReLU(), nn.Linear(128, classes))
    return _net(nn.Sequential(*layers), classifier)


class FiveLayers(nn.Module):
    """Report E's student: 1,359,754 parameters on (3, 224, 224) with 10 classes, some of them never used."""

    def __init__(self, channels: int, flat: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((channels, 32), (32, 64), (64, 128)):
            convolution = nn.Conv2d(before, after, 3, padding=1)
            layers += [convolution, nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.unused = nn.Sequential(nn.Linear(2048, 128), nn.BatchNorm1d(128))
        self.classifier = nn.Linear(flat, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(x).flatten(1))
        return logits


def cnn5(size: Size, classes: int, pretrained: bool) -> nn.Module:
    """Report E's five-layer CNN."""
    channels, height, width = picture(size, "cnn5", 8)
    return FiveLayers(channels, 128 * (height // 8) * (width // 8), classes)


def picture(size: Size, name: str, least: int) -> tuple[int, int, int]:
    """Channels, height and width of a picture; raises InputError for anything else or smaller."""
    if len(size) != 3 or min(size[1:]) < least:
        raise InputError(
            f"{name} needs pictures (channels, height, width) of at least {least} pixels, found {size}"
        )
    return size[0], size[1], size[2]
