"""What the description length experiment asks, does, and does not show."""

from typing import TYPE_CHECKING

from analysis.lab.reporting.story import Story, counted, pruned, trained

if TYPE_CHECKING:
    from analysis.description_length.config import Config


def _steps(c: "Config") -> list[str]:
    return [
        trained(c),
        f"{pruned(c)}, its weights were rounded by rate over {counted(c.code_epochs, 'epoch')}, and it was "
        "written to a file.",
        "The labels of the training samples were then told with each file: its bits, and the bits of each "
        "label under the network that was read back from it.",
        f"Beside it, with no file, they were told block by block, the first of {c.first_block:,} samples, "
        "under networks trained on the blocks before.",
        *(
            ["All of it was done again with the labels shuffled among the samples."]
            if "shuffled" in c.labels
            else []
        ),
    ]


STORY = Story(
    "Which share of the labels' bits did the network learn, and which does it only store?",
    _steps,
    [
        "A description length is an upper bound: a better coder or a better training tells the labels in "
        "fewer bits.",
        "What is told are the labels of the training samples, given their inputs; the inputs themselves are "
        "free.",
        "Code, architecture and settings are taken as known to both sides, as is the table of class "
        "frequencies.",
    ],
)
