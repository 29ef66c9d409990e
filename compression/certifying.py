"""The error that a coded file guarantees: read it back, score it on what training saw, and bound."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn

from capacity import checks
from capacity.certificates import Certificate, certificate
from compression.codec import decode
from compression.epochs import require_batches
from compression.evaluation import evaluate


@checks.arguments(path=checks.path, training=require_batches, confidence=checks.number)
def certify(
    path: str | Path,
    model: nn.Module,
    training: Iterable[Any],
    *,
    choices: int = 1,
    confidence: float = 0.95,
) -> Certificate:
    """Which top-1 error on new data the file that `encode` wrote guarantees.

    path, model: the file, and a network of its architecture, whose weights do not matter
    training: batches of every sample that training or any choice has seen, in the form of new data (not
    shifted or cropped at random); test samples among them would make the bound one about them too
    choices, confidence: as for `capacity.certificate`

    Raises InputError for a damaged file, another architecture or batches that cannot be scored.
    """
    scored = evaluate(decode(path, model), training)
    return certificate(
        scored.total - scored.correct, scored.total, Path(path).stat().st_size,
        choices=choices, confidence=confidence,
    )  # fmt: skip
