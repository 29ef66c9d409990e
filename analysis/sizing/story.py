"""What surrounds the sizing experiment's numbers in words."""

from analysis.lab.reporting.story import Story, counted
from analysis.sizing.config import Config


def steps(config: Config) -> list[str]:
    """What was done under these settings."""
    return [
        f"For each of {counted(len(config.datasets), 'data set')}, none of them downloaded, networks of one "
        f"hidden layer of {config.widths[0]} to {config.widths[-1]} ReLU units were trained on "
        f"{counted(config.seeds, 'split')} of the rows (60 % training, 20 % validation, 20 % test).",
        f"Each took {counted(config.steps, 'step')} of Adam over all its training rows; the step best on "
        f"validation counts.",
        "The smallest width within one standard error of the best is adequate; each predictor foretold it "
        "for one data set from all others.",
    ]


STORY = Story(
    "Which number of the data foretells how large a network must be?",
    steps,
    [
        "Only one hidden layer, and tables of at most some thousand rows: nothing is said of deeper "
        "networks, pictures in colour or text.",
        "What is adequate depends on how well training finds it, and on test sets of some hundred rows.",
        "The data sets were chosen for variety, and are no sample of those that users have.",
    ],
)
