"""What the search for the least guaranteed error asks, does, and does not show."""

from typing import TYPE_CHECKING

from analysis.certificate.config import candidates, choices_of
from analysis.lab.reporting.story import Story, counted, listed

if TYPE_CHECKING:
    from analysis.certificate.config import Config


def _steps(c: "Config") -> list[str]:
    part = "" if c.limit is None else f", of which {c.limit:,} samples of a split are used"
    return [
        f"Networks of {listed(c.networks)} channels were trained on fixed features of {c.dataset!r}{part} "
        f"for {counted(c.epochs, 'epoch')}, at a fineness of {listed(c.fineness)} steps: their weights "
        "were rounded to whole numbers a few at a time while the others made up for it.",
        "Each was written to a file, read back, and scored on all training samples; what it guarantees pays "
        "for the bits of the file, of its length, and of the choice among "
        f"{counted(choices_of(c), 'alternative')}.",
        f"The file of the least bound among {counted(len(candidates(c)), 'candidate')} was read back once "
        "more and scored on the test split, which nothing had touched before.",
    ]


STORY = Story(
    "Which error on new data does the file of a small network guarantee, and how little can that be?",
    _steps,
    [
        "The bound holds for samples drawn independently from one distribution, by code, features and "
        "architectures that were fixed before the training samples were seen.",
        "What the training samples decided earlier is paid for as far as --choices counts it.",
        "It is a bound, not an estimate: the error on the test is what the network makes there.",
    ],
)
