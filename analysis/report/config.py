"""Settings of the page; importing it costs no torch."""

from dataclasses import dataclass

import tyro


@dataclass(frozen=True)
class Config:
    """Write RUN/report.html for any run folders: one file each, which loads nothing from elsewhere."""

    runs: tyro.conf.Positional[tuple[str, ...]] = ()
    """Run folders of any commands."""
    output: str = ""
    """File to write instead, with all these runs on one page."""
