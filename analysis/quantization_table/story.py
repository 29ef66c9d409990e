"""What the quantization experiment asks, does, and does not show."""

from typing import TYPE_CHECKING

from analysis.lab.reporting.story import Story, listed, trained

if TYPE_CHECKING:
    from analysis.quantization_table.config import Config


def _steps(c: "Config") -> list[str]:
    return [
        trained(c),
        f"Each was brought to integers in these schemes: {listed(c.schemes)}; ranges of activations come "
        f"from {c.calibration:,} training samples.",
        "Each was scored on the same test points as the float network, written to a file, and timed in turns "
        "with it.",
    ]


STORY = Story(
    "What do integers cost in error, and what do they save in bytes and in time, scheme by scheme?",
    _steps,
    [
        "Speed-ups are those of this machine's kernels and threads: another processor may turn them round.",
        "The scheme without calibration is there to show what that costs, not as a choice.",
        "Intervals hold over seeds on one test split.",
    ],
)
