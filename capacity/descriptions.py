"""How many bits tell the labels to someone who has the inputs: description length.

Labels that are drawn from class frequencies take n · H bits. Whoever has a network needs less: its file
first, then -log2 p(label | input) for each label (two parts), or, with no file at all, labels told block by
block under a network that both sides train on the blocks before (prequential). What is saved was learned; a
network that stores its labels pays for each of them in its file and saves nothing.

Reference: Rissanen 1978, "Modeling by shortest data description", Automatica 14 (two parts); Dawid 1984,
"Statistical theory: the prequential approach", JRSS A 147; Blier and Ollivier 2018, "The description length
of deep learning models", NeurIPS (both, for networks).
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from capacity import checks
from capacity.certificates import code_bits
from capacity.columns import percent
from capacity.errors import InputError
from capacity.inputs import as_integer
from capacity.tables import Statement

if TYPE_CHECKING:
    from torch import Tensor

TEMPERATURES = tuple(2 ** (k / 8) for k in range(-16, 48))  # 1/4 to 59: one of them costs 6 bits
TEMPERATURE_BITS = 6


@dataclass(frozen=True)
class DescriptionLength(Statement):
    """Bits that tell the labels of `samples` inputs, beside the bits of the labels alone.

    label_bits: n · H of the labels' own frequencies, whose table is not counted
    file_bits: of the network's file, its length and the choice of it; 0 of a prequential code
    residual_bits: of the labels, given the network, with its temperature
    code: "file" or "prequential"
    """

    samples: int
    label_bits: float
    file_bits: float
    residual_bits: float
    code: str = "file"

    @property
    def bits(self) -> float:
        """Of the whole description."""
        return self.file_bits + self.residual_bits

    @property
    def learned_share(self) -> float:
        """Share of the labels' bits that need not be told; below 0 where the network costs more.

        >>> DescriptionLength(100, 200.0, 80.0, 20.0).learned_share
        0.5
        """
        return 1 - self.bits / self.label_bits if self.label_bits > 0 else math.nan

    @property
    def file_bits_per_label_bit(self) -> float:
        """What the network's file weighs, in bits of the labels that it was trained on."""
        return self.file_bits / self.label_bits if self.label_bits > 0 else math.nan

    def __str__(self) -> str:
        if self.code == "prequential":
            parts = "block by block, under networks trained on the blocks before"
        else:
            parts = f"{self.file_bits:,.0f} of the file and {self.residual_bits:,.0f} given the network"
        share = self.learned_share
        if math.isnan(share):
            said = "the labels hold nothing to be learned"
        elif share > 0:
            said = f"{percent(share, 1)} of the labels' bits need not be told: they are learned"
        else:
            said = "that is no fewer: the network costs what it saves, or more"
        return (
            f"{self.samples:,} labels hold {self.label_bits:,.0f} bits; {self.bits:,.0f} bits tell them "
            f"({parts}); {said}"
        )


@checks.arguments(logits=checks.tensor, labels=checks.tensor)
def two_part_length(
    logits: "Tensor", labels: "Tensor", *, file_bytes: int, choices: int = 1
) -> DescriptionLength:
    """The file, then the labels under the network's probabilities, softened by one of 64 temperatures.

    logits: (n, classes); labels: (n,) class indices
    file_bytes: of the network's file, in a code fixed before the labels were seen; it costs its bits, and its
    length 2 floor(log2 bytes) + 1 bits more
    choices: alternatives among which the labels decided

    Raises InputError for shapes that do not match, labels that are no class and logits that are not finite.

    >>> import torch
    >>> sure = two_part_length(torch.eye(2) * 100, torch.tensor([0, 1]), file_bytes=1)
    >>> sure.file_bits, round(sure.residual_bits, 6)
    (9.0, 6.0)
    """
    file_bits = code_bits(as_integer("file_bytes", file_bytes)) + math.log2(as_integer("choices", choices))
    residual = cross_entropy_bits(logits, labels, best_temperature(logits, labels))
    return DescriptionLength(len(labels), label_bits_of(labels), file_bits, TEMPERATURE_BITS + residual)


def best_temperature(logits: "Tensor", labels: "Tensor") -> float:
    """Which of the 64 temperatures tells these labels in the fewest bits; (n, classes) and (n,)."""
    return min(TEMPERATURES, key=lambda t: cross_entropy_bits(logits, labels, t))


def cross_entropy_bits(
    logits: "Tensor", labels: "Tensor", temperature: float = 1.0, *, doubt: float = 0.0
) -> float:
    """Bits that tell labels under softmax(logits / temperature); (n, classes) and (n,).

    doubt: share of the probability that is spread over all classes alike, so that a network that is sure and
    wrong costs log2(classes / doubt) bits at most

    >>> import torch
    >>> cross_entropy_bits(torch.zeros(3, 4), torch.tensor([0, 1, 3]))
    6.0
    """
    import torch

    _check(logits, labels)
    if not temperature > 0 or not 0 <= doubt <= 1:
        raise InputError(
            f"temperature must be positive and doubt lie between 0 and 1, found {temperature} and {doubt}"
        )
    logs = torch.log_softmax(logits.double() / temperature, 1).gather(1, labels[:, None].long())[:, 0]
    if doubt:
        logs = torch.log((1 - doubt) * logs.exp() + doubt / logits.shape[1])
    return float(-logs.sum()) / math.log(2) + 0.0


def label_bits_of(labels: "Tensor") -> float:
    """n · H of (n,) labels: their bits under their own frequencies."""
    from capacity._generalization import label_entropy

    return len(labels) * label_entropy(labels)


def _check(logits: "Tensor", labels: "Tensor") -> None:
    if logits.ndim != 2 or labels.ndim != 1 or len(logits) != len(labels) or not len(labels):
        raise InputError(
            f"logits must be (n, classes) and labels (n,), "
            f"found {tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    if not logits.is_floating_point() or labels.is_floating_point() or labels.is_complex():
        raise InputError(
            f"logits must be floats and labels class indices, found {logits.dtype} and {labels.dtype}"
        )
    if int(labels.min()) < 0 or int(labels.max()) >= logits.shape[1]:
        raise InputError(
            f"labels must be classes 0 to {logits.shape[1] - 1}, "
            f"found {int(labels.min())} to {int(labels.max())}"
        )
    if not bool(logits.isfinite().all()):
        raise InputError("logits must be finite, found NaN or infinity")
