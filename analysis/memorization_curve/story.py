"""What the memorizing experiment asks, does, and does not show."""

from typing import TYPE_CHECKING

from analysis.lab.reporting.story import Story, counted, listed

if TYPE_CHECKING:
    from analysis.memorization_curve.config import Config


def _steps(c: "Config") -> list[str]:
    again = f", and up to {counted(c.restarts, 'time')} again from other weights where a labeling was missed"
    return [
        f"Networks of widths {listed(c.networks)} were given random labels for random points, N of them for "
        f"each bit of their capacity from {min(c.ratios):g} to {max(c.ratios):g}.",
        f"Of perceptrons {counted(c.trials, 'labeling')} each were decided exactly by linear programming; "
        f"deeper networks were trained on {c.network_trials:,}{again if c.restarts else ''}.",
    ]


STORY = Story(
    "Does a network memorize as many random labels as its computed capacity says, and no more than "
    "twice that?",
    _steps,
    [
        "A labeling that training misses may still be within the network's reach: the marks of deeper "
        "networks are lower bounds.",
        "Networks of a few units are no proof for large ones.",
    ],
)
