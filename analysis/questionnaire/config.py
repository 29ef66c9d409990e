"""Settings of the questionnaire; importing it costs no torch."""

from dataclasses import dataclass

import tyro


@dataclass(frozen=True)
class Config:
    """Write RUN/questionnaire.md, .tex and .ipynb: ten answers with numbers, tables and the run's figure."""

    run: tyro.conf.Positional[str] = ""
    """A run folder of capacity_curve."""
    data: str = ""
    """Folder where torchvision's data sets lie, if it is not the one that the run used."""
    trust: tuple[str, ...] = ()
    """What the run's settings name outside of its folder and may be imported or read: a module:factory, a
    data set of one's own, a tokenizer."""
    strengths: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.2)
    """Disturbances of pictures scaled to [0, 1]: deviation of noise, largest change by the attack."""
    memorize_rows: int = 2_000
    """Most pictures to memorize under random labels."""
    memorize_epochs: int = 200
    """Epochs of that memorizing."""
    smoke: bool = False
    """One strength, few rows and epochs."""
