"""Do the parts asked for, tell and write what held."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from analysis.torture.config import Config, smoke
from analysis.torture.outcome import Outcome, frame_of
from capacity.terminal import broken, printable
from compression.storage import write_atomically


def torture(config: Config) -> None:
    """Do each part in a temporary folder of its own; results.csv is up to date after each try."""
    config = smoke(config) if config.smoke else config
    rows: dict[tuple[str, str], Outcome] = {}
    path = Path(config.output) / "results.csv"
    for outcome in outcomes(config):
        rows[outcome.part, outcome.what] = outcome
        frame = frame_of(rows.values())
        write_atomically(path, lambda beside, frame=frame: frame.to_csv(beside, index=False))  # type: ignore[misc]
        if outcome.tries == outcome.planned:
            print(printable(broken(line_of(outcome))), flush=True)
    print(f"results: {path}")


def outcomes(config: Config) -> Iterator[Outcome]:
    """What each kind of tries of each part comes to."""
    from analysis.torture.forks import Forks
    from analysis.torture.full_disk import compiled
    from analysis.torture.parts import PARTS

    with TemporaryDirectory(prefix="torture-") as place:
        library = compiled(Path(place)) if "full-disk" in config.parts else None
        with Forks(library, [f"analysis.{command}.trials" for command in config.commands[:1]]) as forks:
            for part in config.parts:
                folder = Path(place, part)
                folder.mkdir()
                yield from PARTS[part](config, folder, forks)


def line_of(outcome: Outcome) -> str:
    """How many held, and the first that did not."""
    text = (
        f"{outcome.part}, {outcome.what}: {outcome.held:,} of {outcome.tries:,} hold, the longest end took "
        f"{outcome.longest_seconds:.1f} s"
    )
    return "; ".join(filter(None, [text, outcome.note, *outcome.failures[:1]]))
