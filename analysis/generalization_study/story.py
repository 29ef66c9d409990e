"""What the study of generalization asks, does, and does not show."""

from typing import TYPE_CHECKING

from analysis.lab.reporting.story import Story, counted, listed

if TYPE_CHECKING:
    from analysis.generalization_study.config import Config


def _steps(c: "Config") -> list[str]:
    return [
        f"{counted(c.networks, 'dense network')} that differ in data ({listed(c.datasets)}), hidden layers "
        f"({listed(c.depths)}), units ({listed(c.widths)}), epochs ({listed(c.train_epochs)}), weight decay "
        f"({listed(c.weight_decays)}) and label noise ({listed(c.label_noises)}) were trained from "
        f"{counted(c.seeds, 'seed')} each.",
        "Thirteen measures were taken of each, none of which sees the test samples, and their order was "
        "compared with that of the gap between test and training error, and with that of the test error.",
        "A second score asks what a measure says of a pair of networks beyond any two of those settings.",
    ]


STORY = Story(
    "Which measure of a network follows how well it generalizes?",
    _steps,
    [
        "The networks are small and dense and the data few: large networks may order otherwise.",
        "Intervals hold over seeds, on one grid of settings: another grid may give another order.",
        "A measure that follows the gap need not cause it.",
    ],
)
