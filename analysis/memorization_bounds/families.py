"""Networks of five families, small enough to be filled to the brim."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from analysis.memorization_bounds.config import parts_of

INPUTS, SIDE, LENGTH, FEATURES = 16, 8, 8, 2


def input_size(name: str) -> tuple[int, ...]:
    """Shape of one point of this network.

    >>> input_size("conv-1x4"), input_size("recurrent-rnn-2")
    ((1, 8, 8), (8, 2))
    """
    family = parts_of(name)[0]
    if family == "conv":
        return (1, SIDE, SIDE)
    return (LENGTH, FEATURES) if family in ("recurrent", "transformer") else (INPUTS,)


def build(name: str, classes: int) -> nn.Module:
    """The network, with fresh random weights; one output for two classes."""
    family, kind, depth, width = parts_of(name)
    outputs = 1 if classes == 2 else classes
    if family == "dense":
        return nn.Sequential(*_dense([INPUTS, *[width] * depth, outputs]))
    if family == "conv":
        return _conv(depth, width, outputs)
    if family == "residual":
        return nn.Sequential(
            nn.Linear(INPUTS, width), *[Residual(width) for _ in range(depth)], nn.Linear(width, outputs)
        )
    if family == "recurrent":
        return Recurrent(kind, width, outputs)
    return Transformer(depth, width, outputs)


def sizes(name: str, classes: int) -> tuple[int, int]:
    """Parameters of the network, and numbers that its hidden layers put out for one point; none is built.

    >>> sizes("dense-2x8", 2)  # 16 x 8 + 8, 8 x 8 + 8 and 8 + 1
    (217, 16)
    """
    _, _, depth, width = parts_of(name)
    with torch.device("meta"):
        model = build(name, classes)
    return sum(parameter.numel() for parameter in model.parameters()), depth * width


def _dense(sizes: list[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return layers[:-1]


def _conv(depth: int, channels: int, outputs: int) -> nn.Sequential:
    """Convolutions of 3 x 3, the first of stride 2, then a dense layer on what is left of the picture."""
    layers: list[nn.Module] = []
    for before, after, stride in zip(
        [1, *[channels] * (depth - 1)], [channels] * depth, [2, *[1] * (depth - 1)], strict=True
    ):
        layers += [nn.Conv2d(before, after, 3, stride=stride, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(channels * 4, outputs))


class Residual(nn.Module):
    """x + W relu(V x)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.down(torch.relu(self.up(x)))
        return x + added


class Recurrent(nn.Module):
    """A recurrent layer, and a dense one on its last state."""

    def __init__(self, kind: str, width: int, outputs: int) -> None:
        super().__init__()
        layer = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[kind]
        self.recurrent = layer(FEATURES, width, batch_first=True)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.recurrent(x)
        logits: Tensor = self.head(states[:, -1])
        return logits


class Transformer(nn.Module):
    """Encoder layers of two heads over embedded positions, and a dense layer on their mean."""

    def __init__(self, depth: int, width: int, outputs: int) -> None:
        super().__init__()
        self.embed = nn.Linear(FEATURES, width)
        self.positions = nn.Parameter(torch.randn(LENGTH, width) / 2)
        layer = nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(self.embed(x) + self.positions).mean(1))
        return logits
