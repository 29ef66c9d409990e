"""Small networks whose inputs and outputs have every form that training and scoring know."""

from collections import namedtuple
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Heads = namedtuple("Heads", ["logits", "aux_logits"])


@dataclass
class Output:
    logits: Tensor
    loss: Tensor | None = None
    hidden: tuple[Tensor, ...] = ()


class Classifier(nn.Module):
    """A dense classifier of 6 features and 3 classes with an auxiliary head, returned in a form."""

    def __init__(self, form: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head, self.aux = nn.Linear(6, 8), nn.Linear(8, 3), nn.Linear(8, 3)
        self.form = form

    def forward(self, x: Tensor):
        hidden = self.body(x).relu()
        logits, aux = self.head(hidden), self.aux(hidden)
        return {
            "tensor": logits,
            "one-tuple": (logits,),
            "dict": {"logits": logits, "hidden": hidden},
            "segmentation": {"out": logits, "aux": aux},
            "dataclass": Output(logits, hidden=(hidden,)),
            "named tuple": Heads(logits, aux),
            "heads": (logits, aux),
            "unclear": (hidden, logits),
        }[self.form]


class Language(nn.Module):
    """Token ids (B, T) and, if given, labels; its loss is that of the next token, or of each position."""

    def __init__(self, shift: bool, tokens: int = 11) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.head, self.shift = nn.Embedding(tokens, 16), nn.Linear(16, tokens), shift

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None):
        mixed = self.embed(input_ids).cumsum(1) / torch.arange(1, input_ids.shape[1] + 1)[:, None]
        logits = self.head(mixed)
        if labels is None:
            return Output(logits)
        scored, truth = (logits[:, :-1], labels[:, 1:]) if self.shift else (logits, labels)
        return Output(logits, F.cross_entropy(scored.reshape(-1, logits.shape[-1]), truth.reshape(-1)))


def sentences(count: int = 12, length: int = 7) -> list[dict[str, Tensor]]:
    """Batches of token ids that count up modulo 11, whose labels are themselves."""
    start = torch.arange(count)[:, None]
    ids = (start + torch.arange(length)) % 11
    labels = ids.clone()
    labels[::3, -1] = -100
    whole = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    return [{key: value[rows : rows + 4] for key, value in whole.items()} for rows in range(0, count, 4)]
