"""What the reparametrization experiment asks, does, and does not show."""

from typing import TYPE_CHECKING

from analysis.lab.reporting.story import Story, counted, listed

if TYPE_CHECKING:
    from analysis.reparametrization.config import Config


def _steps(c: "Config") -> list[str]:
    return [
        f"Networks of {counted(c.depth, 'hidden layer')} of {c.width} ReLU units were trained on "
        f"{listed(c.datasets)}, {counted(c.seeds, 'seed')} each.",
        "Each was changed in ten ways that leave its function as it is, and its outputs for all training "
        "samples were compared with those before: they agree but for rounding in single precision.",
        "Seventeen measures were taken before and after; what counts is after over before.",
    ]


STORY = Story(
    "What do measures of a network do while its function stays the same?",
    _steps,
    [
        "A measure that stays under these changes may move under others.",
        "A measure that moves can still be of use where networks are trained alike, so that nothing changes "
        "them in these ways.",
        "The networks are small and dense; convolutions have fewer symmetries.",
    ],
)
