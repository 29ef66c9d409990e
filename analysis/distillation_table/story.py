"""What the distillation experiment asks, does, and does not show."""

from typing import TYPE_CHECKING

from analysis.lab.reporting.story import Story, counted, listed

if TYPE_CHECKING:
    from analysis.distillation_table.config import Config


def _steps(c: "Config") -> list[str]:
    labels = "all labels" if c.labels is None else f"{c.labels:,} labelled samples"
    epochs = counted(c.teacher_epochs, "epoch")
    return [
        f"{counted(c.seeds, 'teacher')} {c.model!r} learned {c.dataset!r} in {epochs}.",
        f"Students ({listed(c.student)}) saw {labels} for {counted(c.epochs, 'epoch')}, in these variants: "
        f"{listed(c.variants)}.",
        "Each pair of a seed's student and its twin, alone or soundly distilled, is compared on the same "
        "test points.",
    ]


STORY = Story(
    "What does a student gain under a teacher over learning alone, and what do the usual faults of "
    "distillation cost it?",
    _steps,
    [
        "A gain with few labels says little about a student that has all of them.",
        "Temperature and weight of the soft targets were set, not searched for each student.",
        "Intervals hold over seeds on one test split.",
    ],
)
