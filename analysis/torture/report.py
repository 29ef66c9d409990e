"""Do the parts asked for, tell and write what held."""

from pathlib import Path
from tempfile import TemporaryDirectory

from analysis.torture.config import Config, smoke
from analysis.torture.outcome import Outcome, frame_of
from capacity.terminal import broken, printable
from compression.storage import write_atomically


def torture(config: Config) -> None:
    """Do each part in a temporary folder of its own; results.csv grows with each kind of tries."""
    from analysis.torture.parts import PARTS

    config = smoke(config) if config.smoke else config
    outcomes: list[Outcome] = []
    path = Path(config.output) / "results.csv"
    for part in config.parts:
        with TemporaryDirectory(prefix="torture-") as place:
            for outcome in PARTS[part](config, Path(place)):
                outcomes.append(outcome)
                frame = frame_of(outcomes)
                write_atomically(path, lambda beside, frame=frame: frame.to_csv(beside, index=False))  # type: ignore[misc]
                print(printable(broken(line_of(outcome))), flush=True)
    print(f"results: {path}")


def line_of(outcome: Outcome) -> str:
    """How many held, and the first that did not."""
    text = (
        f"{outcome.part}, {outcome.what}: {outcome.held:,} of {outcome.tries:,} hold, the longest end took "
        f"{outcome.longest_seconds:.1f} s"
    )
    return text if not outcome.failures else f"{text}; {outcome.failures[0]}"
