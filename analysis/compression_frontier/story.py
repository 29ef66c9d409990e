"""What the compression experiment asks, does, and does not show."""

from typing import TYPE_CHECKING

from analysis.lab.reporting.story import Story, counted, listed, pruned, trained

if TYPE_CHECKING:
    from analysis.compression_frontier.config import Config


def _steps(c: "Config") -> list[str]:
    return [
        trained(c),
        f"{pruned(c)}, its weights given few values ({listed(c.methods)}) over "
        f"{counted(c.code_epochs, 'epoch')}, and written to a file.",
        "The network was read back from the file before it was scored.",
    ]


STORY = Story(
    "How small can the file of a trained network get at which error, beside the published records?",
    _steps,
    [
        "Published records were trained by others, in part with other data and schedules: beside them stands "
        "what the files weigh, not whose training was better.",
        "A small file is no fast network: it is unpacked before it runs.",
        "Intervals hold over seeds on one test split.",
    ],
)
