"""What surrounds the numbers of the smallest adequate width in words."""

from analysis.adequate_size.config import Config
from analysis.lab.reporting.story import Story, counted


def steps(config: Config) -> list[str]:
    """What was done under these settings."""
    part = "" if config.limit is None else f", of which {config.limit:,} samples are used"
    return [
        "Two small networks were trained first on at most 1,500 training samples; what the larger gained "
        "foretold a size and its range, by a line fitted to other data sets.",
        f"Networks of one hidden layer of {config.widths[0]} to {config.widths[-1]} ReLU units were then "
        f"trained for {counted(config.epochs, 'epoch')} on {config.dataset!r}{part}, "
        f"{counted(config.seeds, 'seed')} each, every seed holding out {100 * config.validation:g} % of the "
        "training samples anew for validation.",
        "The smallest width within one standard error of the best on validation is adequate; the test "
        "samples had no say.",
    ]


STORY = Story(
    "How many hidden units do these data call for, and was that foretold?",
    steps,
    [
        "Only one hidden layer: deeper or convolutional networks can do with fewer weights, or need more.",
        "Adequate is what this training finds; a better one could find it in a smaller network.",
        "Where the best width is the largest tried, a larger one may be better still.",
    ],
)
