"""Settings of the guarantees; importing it costs no torch."""

from dataclasses import dataclass

import tyro

from analysis.lab.settings import OutputSettings

COMMAND = "compression_frontier"


@dataclass(frozen=True)
class Config(OutputSettings):
    """Write RUN/certificate.csv, .tex and .pdf: bound the error of every file by its bytes."""

    run: tyro.conf.Positional[str] = ""
    """A run folder of compression_frontier."""
    confidence: float = 0.95
    """Probability over the draw of the training samples that the bounds hold."""
    choices: int = 1
    """Alternatives among which the training samples decided before this run; the run's files come on top."""
    smoke: bool = False
    """Nothing is left out; the command is quick anyway."""
