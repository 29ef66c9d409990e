"""What the count of what data need asks, does, and does not show."""

from typing import TYPE_CHECKING

from analysis.lab.reporting.story import Story, counted

if TYPE_CHECKING:
    from analysis.data_requirement.config import Config


def _steps(c: "Config") -> list[str]:
    return [
        f"The training rows of {c.dataset!r} were sorted by the sum of their features, and the changes of "
        f"label along that order counted.",
        f"The same was done with parts of the rows, each drawn {counted(c.repeats, 'time')}, and with the "
        f"labels shuffled, which can only be memorized.",
    ]


STORY = Story(
    "How many bits does this data need of a network, and does that need level off as rows are added?",
    _steps,
    [
        "The sum of the features is one view of the data: structure that it does not see counts as need.",
        "Where labels as they are need as much as shuffled ones, the bound says nothing about learning.",
    ],
)
