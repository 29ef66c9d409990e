"""The parts of the torture by name: each takes the settings, an empty folder and what forks runs."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from analysis.torture.config import Config
from analysis.torture.files import tried
from analysis.torture.folders import folders
from analysis.torture.forks import Forks
from analysis.torture.formats import FORMATS
from analysis.torture.full_disk import full_disk
from analysis.torture.kills import kills
from analysis.torture.outcome import Outcome
from analysis.torture.starts import shares, starts

Part = Callable[[Config, Path, Forks], Iterable[Outcome]]


def files(config: Config, folder: Path, forks: Forks) -> Iterator[Outcome]:
    """Damaged files of every format."""
    for format in FORMATS:
        planned = max(1, round(config.files * format.share))
        for tries in tried(format, planned, config.seed):
            failures = (*tries.failures.values(), *["as before"] * (tries.failed - len(tries.failures)))
            done = sum(tries.counts.values())
            took = tries.longest_seconds
            yield Outcome("files", tries.format, planned, done, took, failures, str(tries))


PARTS: Mapping[str, Part] = {
    "kills": kills,
    "starts": starts,
    "shares": shares,
    "full-disk": full_disk,
    "files": files,
    "folders": folders,
}
