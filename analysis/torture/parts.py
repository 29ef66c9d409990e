"""The parts of the torture by name: each takes the settings and an empty folder."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from analysis.torture.config import Config
from analysis.torture.files import torture_files
from analysis.torture.folders import folders
from analysis.torture.full_disk import full_disk
from analysis.torture.kills import kills
from analysis.torture.outcome import Outcome
from analysis.torture.starts import shares, starts

Part = Callable[[Config, Path], Iterable[Outcome]]


def files(config: Config, folder: Path) -> Iterator[Outcome]:
    """Damaged files of every format."""
    for tries in torture_files(config.files, config.seed):
        failures = (*tries.failures.values(), *["as before"] * (tries.failed - len(tries.failures)))
        yield Outcome("files", tries.format, sum(tries.counts.values()), tries.longest_seconds, failures)


PARTS: Mapping[str, Part] = {
    "kills": kills,
    "starts": starts,
    "shares": shares,
    "full-disk": full_disk,
    "files": files,
    "folders": folders,
}
