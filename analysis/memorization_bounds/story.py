"""What the search for stored labels asks, does, and does not show."""

from typing import TYPE_CHECKING

from analysis.lab.reporting.story import Story, counted, listed

if TYPE_CHECKING:
    from analysis.memorization_bounds.config import Config


def _steps(c: "Config") -> list[str]:
    return [
        f"{counted(len(c.networks), 'network')} of five families were trained on random points with random "
        f"labels of {listed(c.classes)} classes, more and more of them, by a factor of {c.growth:g}.",
        f"A number of points counts where all of {counted(c.labelings, 'labeling')} were stored without an "
        f"error, each by one of {counted(c.restarts, 'start')} of {c.steps:,} steps.",
        "The bits stored are its points times log2 of the classes; they stand beside the capacity of each "
        "convention, the parameters, W log2 W, and the proven bounds.",
    ]


STORY = Story(
    "How many bits of random labels do networks store, and which lines that are said to bound them do they "
    "cross?",
    _steps,
    [
        "What training stores is a lower bound of what the network can hold: a better optimiser stores more.",
        "A line that is crossed is no bound; a line that is not crossed may still be none.",
        "Points are random and in general position; structured inputs can be easier or harder to tell apart.",
    ],
)
