"""Settings of the reproduction; importing it costs no torch."""

from dataclasses import dataclass

from analysis.lab.settings import OutputSettings, Venue


@dataclass(frozen=True)
class Config(OutputSettings):
    """Recompute every figure of the five reports, and write what the article includes."""

    runs: tuple[str, ...] = ("runs", "paper/runs")
    """Folders whose finished runs are read: a line that a preset trains is taken from that preset's run."""
    output: str = "runs/reproduce"
    """Folder for the table and for the runs on the digits that stand in for what needs a GPU."""
    paper: str = "paper"
    """Folder of the article; its generated/ is written anew where the folder exists."""
    gallery: str = ""
    """Folder to copy the figures of the runs on the digits to, as PNG: README's are in .readme."""
    venue: Venue = "ieee"
    """Whose column and text widths the article's figures are drawn for; ieee: each for the one it fits."""
    full: bool = False
    """Run the presets at full size first; needs their data, and for most of them a GPU."""
    data: str = "data"
    """Folder of torchvision's data sets, for the presets."""
    record: tuple[str, ...] = ()
    """Finished run folders to copy into PAPER/runs, without paths of this machine; then stop."""
    smoke: bool = False
    """Stand-ins with few samples and one epoch: their figures mean nothing, and the article says so."""
