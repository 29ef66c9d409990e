"""Damaged files of every format: each is refused in one line, or read as it was written."""

import random
import resource
import shutil
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from analysis.torture.clock import Late, in_time, seconds
from analysis.torture.formats import Format, content_of
from analysis.torture.mutations import save_bytes
from capacity.errors import InputError

MOST_SECONDS = 5.0
GOOD = ("same", "refused", "another")  # another: what the mended checksum belongs to


@dataclass(frozen=True)
class Tries:
    """What became of a format's damaged files: counts by outcome, and the first failure of each kind."""

    format: str
    counts: dict[str, int]
    failures: dict[str, str]
    longest_seconds: float
    more_bytes: int

    @property
    def failed(self) -> int:
        """Files that were read wrong, ended in a traceback or took too long."""
        return sum(count for name, count in self.counts.items() if name not in GOOD)

    def __str__(self) -> str:
        """What became of how many, and the memory that it took."""
        counts = ", ".join(f"{count:,} {name}" for name, count in sorted(self.counts.items()))
        return f"{counts}, {max(0, self.more_bytes) / 1e6:.0f} MB more memory"


def try_format(format: Format, tries: int, seed: int) -> Tries:
    """Damage a good file so many times, in half of them with its checksum mended, and read each."""
    return list(tried(format, tries, seed))[-1]


def tried(format: Format, tries: int, seed: int) -> Iterator[Tries]:
    """What became of them so far, after each hundred."""
    counts: dict[str, int] = {}
    failures: dict[str, str] = {}
    longest = 0.0
    with TemporaryDirectory() as place:
        folder = Path(place)
        path = format.make(folder)
        good = {file: file.read_bytes() for file in folder.iterdir() if file.is_file()}
        right = content_of(format.read(folder))
        start = _memory()
        for number in range(tries):
            dice = random.Random(f"{seed} {format.name} {number}")
            mended = _damage(format, path, good, dice)
            began = seconds()
            outcome, why = _outcome(format, folder, path, right, mended)
            longest = max(longest, seconds() - began)
            counts[outcome] = counts.get(outcome, 0) + 1
            if outcome not in GOOD:
                failures.setdefault(f"{outcome} {why.splitlines()[-1][:80]}", f"try {number}: {why}")
            if number % 100 == 99 or number == tries - 1:
                yield Tries(format.name, dict(counts), dict(failures), longest, _memory() - start)


def _memory() -> int:
    """The most bytes that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _damage(format: Format, path: Path, good: dict[Path, bytes], dice: random.Random) -> bool:
    """Damage the file, or the record beside it; returns whether its checksum was mended."""
    for file in path.parent.iterdir():
        if file not in good:
            shutil.rmtree(file) if file.is_dir() else file.unlink()
    for file, original in good.items():
        save_bytes(file, original)
    mended = dice.random() < 0.5
    other = [file for file in good if file != path and file.suffix == ".json"]
    if other and not mended and dice.random() < 0.3:
        path = other[0]
        damages = format.damages[:6]
    else:
        damages = format.damages
    content = bytearray(good[path])
    for _ in range(dice.choice((1, 1, 1, 2))):
        with suppress(ValueError, KeyError, TypeError, IndexError):  # damaged before beyond what it knows
            dice.choice(damages)(content, dice)
    save_bytes(path, content)
    if mended:
        format.mend(path)
    return mended


def _outcome(format: Format, folder: Path, path: Path, right: str, mended: bool) -> tuple[str, str]:
    """What reading the file comes to, and why."""
    try:
        with in_time(MOST_SECONDS):
            read = content_of(format.read(folder))
    except InputError as error:
        text = str(error)
        named = path.stem in text and "\n" not in text
        return ("refused", "") if named else ("raw", f"a message without the file: {text}")
    except Late:
        return "hang", "".join(traceback.format_exc())
    except Exception:
        return "raw", traceback.format_exc()
    if read == right:
        return "same", ""
    return ("another", "") if mended else ("wrong", "read as something else")
