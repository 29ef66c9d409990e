"""Do the parts asked for, tell and write what held."""

from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory

from analysis.torture.beside import OutcomeStream, side_by_side
from analysis.torture.config import Config, smoke
from analysis.torture.outcome import Outcome, frame_of
from capacity.terminal import broken, printable

BESIDE = ("kills", "starts", "shares", "full-disk")  # the others read files and folders in this process
IMPORTED = (  # by any run; what else one imports is learnt from its first run
    "torch._dynamo", "sklearn.datasets", "accelerate", "analysis.lab.reporting.figures",
    "matplotlib.backends.backend_pdf", "matplotlib.backends.backend_agg", "fontTools.subset",
)  # fmt: skip


def torture(config: Config) -> None:
    """Do each part in a temporary folder of its own; results.csv is up to date after each try."""
    config = smoke(config) if config.smoke else config
    rows: dict[tuple[int, str], Outcome] = {}
    path = Path(config.output) / "results.csv"
    for outcome in outcomes(config):
        rows[config.parts.index(outcome.part), outcome.what] = outcome
        _save([rows[key] for key in sorted(rows, key=itemgetter(0))], path)
        if outcome.tries == outcome.planned:
            print(printable(broken(line_of(outcome))), flush=True)
    print(f"results: {path}")


def _save(outcomes: Sequence[Outcome], path: Path) -> None:
    from compression.storage import write_atomically

    frame = frame_of(outcomes)
    write_atomically(path, lambda beside: frame.to_csv(beside, index=False))


def outcomes(config: Config) -> Iterator[Outcome]:
    """What each kind of tries of each part comes to; parts that wait for processes are done beside others."""
    from analysis.torture.forks import Forks
    from analysis.torture.full_disk import compiled

    modules = [*(f"analysis.{command}.trials" for command in config.commands[:1]), *IMPORTED]
    with TemporaryDirectory(prefix="torture-") as place:
        library = compiled(Path(place)) if "full-disk" in config.parts else None
        with Forks(library, modules) as forks:
            from analysis.torture.parts import PARTS  # while the other process imports

            parts = []
            for part in config.parts:
                folder = Path(place, part)
                folder.mkdir()
                parts.append(OutcomeStream(part in BESIDE, PARTS[part](config, folder, forks)))
            yield from side_by_side(parts)


def line_of(outcome: Outcome) -> str:
    """How many held, and the first that did not."""
    text = (
        f"{outcome.part}, {outcome.what}: {outcome.held:,} of {outcome.tries:,} hold, the longest end took "
        f"{outcome.longest_seconds:.1f} s"
    )
    return "; ".join(filter(None, [text, outcome.note, *outcome.failures[:1]]))
