"""What the pruning experiment asks, does, and does not show."""

from typing import TYPE_CHECKING

from analysis.lab.reporting.story import Story, counted, listed, trained

if TYPE_CHECKING:
    from analysis.pruning_curve.config import Config


def _steps(c: "Config") -> list[str]:
    ways = {
        "one-shot": f"pruned from the dense network and trained for {counted(c.retrain_epochs, 'epoch')}",
        "iterative": f"pruned from the amount before and trained for {counted(c.retrain_epochs, 'epoch')}",
        "rewind": f"pruned from the amount before and rewound to its weights after epoch {c.snapshot_epoch}",
        "gradual": "reached while a fresh network was trained",
    }
    amounts = listed([f"{100 * amount:.4g}" for amount in c.amounts])
    lines = [
        trained(c),
        f"By {listed(c.criterion)}, {amounts} % of the {c.unit}s were pruned; each amount was "
        f"{ways[c.schedule]}.",
        "Error, bytes of the file and time of a forward pass were then measured beside the dense network's.",
    ]
    teacher = "Each amount was also trained under the dense network as its teacher."
    return [*lines, teacher] if c.teacher else lines


STORY = Story(
    "How much of a network can be pruned before it errs more, by which criterion, and do its file and its "
    "speed gain from it?",
    _steps,
    [
        "An amount counts as harmless where the interval of the difference stays below the tolerance: that "
        "no amount does may also mean too few seeds.",
        "Times are those of this machine; a mask alone is multiplied like any other weight.",
        "Published points were trained by others, in part with other data and schedules: they are no "
        "control.",
    ],
)
