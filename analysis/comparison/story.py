"""What the comparison asks, does, and does not show."""

from typing import TYPE_CHECKING

from analysis.lab.reporting.story import Story, counted, listed, trained

if TYPE_CHECKING:
    from analysis.comparison.config import Config


def _steps(c: "Config") -> list[str]:
    return [
        trained(c),
        f"Each was made smaller in these ways: {listed(c.techniques)}; those that train did so for "
        f"{counted(c.retrain_epochs, 'epoch')}.",
        "Every result was measured in the same way: error, capacity, bytes of its file, operations, and time "
        "in turns with the whole network.",
    ]


STORY = Story(
    "Which way of making a network smaller costs which error, and what does it save in bytes, operations "
    "and time?",
    _steps,
    [
        "Each technique stands at one setting, not at its best: another amount may change the order.",
        "Times are those of this machine and its kernels.",
        "Techniques that cannot be told apart by these seeds and test points may still differ.",
    ],
)
