"""A small language model shaped like Llama: root-mean-square norms, rotary positions, gated units.

Reference: Touvron et al. 2023, "LLaMA", arXiv:2302.13971, section 2.2; Su et al. 2021, arXiv:2104.09864, for
the positions; Shazeer 2020, arXiv:2002.05202, for the gated units.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from capacity.errors import InputError

Maker = Callable[[Sequence[int], int, bool], nn.Module]  # from a sample's shape, classes, pretrained or not
WIDTH, HEADS, HIDDEN = 96, 3, 256


class Attention(nn.Module):
    """Self-attention: (B, T, width) -> (B, T, width), every position with every one."""

    causal = False

    def __init__(self, width: int, heads: int, *, bias: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.queries = nn.Linear(width, width, bias=bias)
        self.keys = nn.Linear(width, width, bias=bias)
        self.values = nn.Linear(width, width, bias=bias)
        self.outputs = nn.Linear(width, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        queries, keys, values = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.queries, self.keys, self.values)
        )
        mixed = F.scaled_dot_product_attention(
            self.turned(queries), self.turned(keys), values, is_causal=self.causal
        )
        attended: Tensor = self.outputs(mixed.transpose(1, 2).flatten(2))
        return attended

    def turned(self, x: Tensor) -> Tensor:
        """Queries or keys (B, heads, T, size) with what their positions add."""
        return x


class RotaryAttention(Attention):
    """Causal self-attention whose queries and keys are turned by their position."""

    causal = True

    def __init__(self, width: int, heads: int, length: int) -> None:
        super().__init__(width, heads, bias=False)
        angles = rotary_angles(length, width // heads)
        self.register_buffer("cosines", angles.cos(), persistent=False)
        self.register_buffer("sines", angles.sin(), persistent=False)

    def turned(self, x: Tensor) -> Tensor:
        """(B, heads, T, size) with each pair of coordinates turned by its angle at each position."""
        first, second = x.chunk(2, dim=-1)
        cosines, sines = self.get_buffer("cosines"), self.get_buffer("sines")
        return torch.cat([first * cosines - second * sines, second * cosines + first * sines], dim=-1)


def rotary_angles(length: int, size: int) -> Tensor:
    """(length, size / 2) angles: position times 10000^(-2i / size).

    >>> rotary_angles(3, 4)[2].tolist()
    [2.0, 0.019999999552965164]
    """
    rates = 10_000 ** (-torch.arange(0, size, 2) / size)
    return torch.arange(length)[:, None] * rates


class GatedUnits(nn.Module):
    """down(silu(gate(x)) * up(x))."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        units: Tensor = self.down(F.silu(self.gate(x)) * self.up(x))
        return units


class Block(nn.Module):
    """Attention, then gated units, each behind a norm and added to what came in."""

    def __init__(self, width: int, heads: int, hidden: int, length: int) -> None:
        super().__init__()
        self.first_norm, self.second_norm = nn.RMSNorm(width), nn.RMSNorm(width)
        self.attention = RotaryAttention(width, heads, length)
        self.units = GatedUnits(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.first_norm(x))
        refined: Tensor = x + self.units(self.second_norm(x))
        return refined


class LanguageModel(nn.Module):
    """Ids (B, length) -> logits (B, length, classes) of the id that follows each."""

    def __init__(self, length: int, classes: int, depth: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(classes, WIDTH)
        self.blocks = nn.Sequential(*(Block(WIDTH, HEADS, HIDDEN, length) for _ in range(depth)))
        self.norm = nn.RMSNorm(WIDTH)
        self.head = nn.Linear(WIDTH, classes, bias=False)
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.Embedding):
                nn.init.normal_(layer.weight, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.blocks(self.embedding(ids))))
        return logits


def llama(depth: int) -> Maker:
    """So many blocks of width 96 with three heads and 256 units; three: 350,880 parameters for 96 ids."""
    return of_sequences("tiny_llama", "docstrings", partial(LanguageModel, depth=depth))


def of_sequences(name: str, dataset: str, build: Callable[[int, int], nn.Module]) -> Maker:
    """What makes a network of so many ids and classes.

    It raises InputError for samples that are no sequence of ids, and names a data set that has them.
    """

    def make(size: Sequence[int], classes: int, pretrained: bool) -> nn.Module:
        if len(size) != 1:
            raise InputError(
                f"{name} reads sequences of ids, as --dataset {dataset} has; a sample is {tuple(size)}"
            )
        return build(int(size[0]), classes)

    return make
