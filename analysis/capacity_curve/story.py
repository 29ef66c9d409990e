"""What the squeezing experiment asks, does, and does not show."""

from typing import TYPE_CHECKING

from analysis.lab.reporting.story import Story, counted, listed, share, trained

if TYPE_CHECKING:
    from analysis.capacity_curve.config import Config


def _steps(c: "Config") -> list[str]:
    by = listed(c.criterion)
    return [
        trained(c),
        f"Each was squeezed {counted(c.iterations, 'time')} by {share(c.amount, c.unit)}, chosen by {by}, "
        f"and trained for {counted(c.retrain_epochs, 'epoch')} after each squeeze; a control was trained as "
        f"long and not squeezed.",
        "After each step the test points were scored and the capacity measured, convention "
        f"{c.convention!r}.",
    ]


STORY = Story(
    "Does a network err more as it is squeezed than one that is trained as long and not squeezed, and how "
    "many test points does each bit of its capacity carry?",
    _steps,
    [
        "A capacity is what the named convention counts, and no measurement of what training finds.",
        "What is squeezed is masked: the file and the clock notice nothing before the network is shrunk.",
        "Intervals hold over initial weights and order of the data, on one test split: other data or another "
        "network may do otherwise.",
    ],
)
