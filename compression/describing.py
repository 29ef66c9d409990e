"""The description length of labels: with a file, or block by block under networks trained on the way."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from capacity import checks
from capacity.descriptions import (
    DescriptionLength,
    best_temperature,
    cross_entropy_bits,
    label_bits_of,
    two_part_length,
)
from capacity.errors import InputError
from capacity.inputs import as_integer
from compression.codec import decode
from compression.epochs import require_batches
from compression.evaluation import outputs

HELD_OUT = 10  # one of so many of the rows seen sets the temperature


@checks.arguments(path=checks.path, training=require_batches)
def description_length(
    path: str | Path, model: nn.Module, training: Iterable[Any], *, choices: int = 1
) -> DescriptionLength:
    """Bits that tell the labels of `training` with the file that `encode` wrote.

    path, model: the file, and a network of its architecture, whose weights do not matter
    training: batches of the samples whose labels are told, as they are (not shifted or cropped at random)
    choices: alternatives among which the labels decided, such as files of one run

    Raises InputError for a damaged file, another architecture, and outputs that are no (B, classes) logits.
    """
    logits, labels = outputs(decode(path, model), training)
    return two_part_length(logits, labels, file_bytes=Path(path).stat().st_size, choices=choices)


@checks.arguments(
    trained=checks.function(1), batches=checks.function(1), labels=checks.tensor, seed=checks.seed
)
def prequential_length(
    trained: Callable[[Tensor], nn.Module],
    batches: Callable[[Tensor], Iterable[Any]],
    labels: Tensor,
    *,
    classes: int,
    first: int = 64,
    seed: int = 0,
) -> DescriptionLength:
    """Bits that tell labels block by block, each block twice as long as all before: no file is sent.

    The first block is told at log2(classes) bits a label. Each other is told by a network that both sides
    train on nine tenths of the rows before; the last tenth sets its temperature. A network trained on m rows
    leaves 1 / (m + 2) of the probability to all classes alike, the rule of succession.

    Parameters
    ----------
    trained: (m,) row numbers -> a network trained on them and on nothing else, the same each time
    batches: row numbers -> batches of them, in that order
    labels: (n,) class indices
    classes: how many there are
    first: rows in the first block, at least 20
    seed: of the order in which rows are told

    Raises InputError for fewer rows than one block and for labels that are no class.
    """
    if labels.ndim != 1:
        raise InputError(f"labels must be (n,) class indices, found shape {tuple(labels.shape)}")
    labels, count = labels.cpu(), len(labels)
    first, classes = as_integer("first", first, least=20), as_integer("classes", classes, least=2)
    if count <= first:
        raise InputError(f"first must be below the {count} rows that there are, found {first}")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    bits = cross_entropy_bits(torch.zeros(first, classes), labels[order[:first]])
    for start, stop in blocks(count, first):
        held, seen = order[: start // HELD_OUT], order[start // HELD_OUT : start]
        network = trained(seen)
        temperature = best_temperature(*outputs(network, batches(held)))
        logits, targets = outputs(network, batches(order[start:stop]))
        bits += cross_entropy_bits(logits, targets, temperature, doubt=1 / (len(seen) + 2))
    return DescriptionLength(count, label_bits_of(labels), 0.0, bits, "prequential")


def blocks(count: int, first: int) -> Iterator[tuple[int, int]]:
    """First and last of the rows of each block but the first.

    >>> list(blocks(100, 20))
    [(20, 40), (40, 80), (80, 100)]
    """
    start = first
    while start < count:
        stop = min(2 * start, count)
        yield start, stop
        start = stop
