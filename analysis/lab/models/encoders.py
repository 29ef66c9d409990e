"""A small encoder shaped like BERT: learned positions, attention both ways, norms behind each sum, GELU.

Reference: Devlin et al. 2019, "BERT", arXiv:1810.04805, section 3. Nothing is pretrained here, so that the
mean over positions stands where BERT reads its first one.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from analysis.lab.data.docstrings import BUCKETS
from analysis.lab.models.language import Attention, Maker, of_sequences

WIDTH, HEADS, HIDDEN = 96, 3, 384


class Block(nn.Module):
    """Attention, then two dense layers, each added to what came in and normalized."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.first_norm, self.second_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.wide, self.narrow = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first_norm(x + self.dropout(self.attention(x)))
        refined: Tensor = self.second_norm(x + self.dropout(self.narrow(F.gelu(self.wide(x)))))
        return refined


class Encoder(nn.Module):
    """Ids (B, length) -> logits (B, classes) of the whole sequence."""

    def __init__(self, length: int, classes: int, depth: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(BUCKETS, WIDTH)
        self.positions = nn.Parameter(torch.empty(length, WIDTH))
        self.norm, self.dropout = nn.LayerNorm(WIDTH), nn.Dropout(0.1)
        self.blocks = nn.Sequential(*(Block(WIDTH, HEADS, HIDDEN) for _ in range(depth)))
        self.pooler = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, classes)
        nn.init.normal_(self.positions, std=0.02)
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.Embedding):
                nn.init.normal_(layer.weight, std=0.02)
            if isinstance(layer, nn.Linear):
                nn.init.zeros_(layer.bias)

    def forward(self, ids: Tensor) -> Tensor:
        read = self.blocks(self.dropout(self.norm(self.embedding(ids) + self.positions)))
        logits: Tensor = self.head(torch.tanh(self.pooler(read.mean(1))))
        return logits


def bert(depth: int) -> Maker:
    """So many blocks of width 96 with three heads and 384 units; two: 334,948 parameters for 32 ids."""
    return of_sequences("tiny_bert", "libraries", partial(Encoder, depth=depth))
