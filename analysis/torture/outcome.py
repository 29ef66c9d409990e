"""What became of the tries of one kind."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Outcome:
    """Tries of one kind so far: how many held, the longest that one took to end, and why others failed."""

    part: str
    what: str
    planned: int
    tries: int
    longest_seconds: float
    failures: Sequence[str] = field(default_factory=tuple)
    note: str = ""

    @property
    def held(self) -> int:
        """Tries that ended as they must."""
        return self.tries - len(self.failures)


def growing(part: str, what: str, planned: int, tries: Iterable[tuple[float, str]]) -> Iterator[Outcome]:
    """The outcome after each try, of which the seconds and why it failed, or nothing, are given."""
    longest = 0.0
    failures: tuple[str, ...] = ()
    for number, (seconds, why) in enumerate(tries, start=1):
        longest = max(longest, seconds)
        failures = (*failures, why) if why else failures
        yield Outcome(part, what, planned, number, longest, failures)


def frame_of(outcomes: Iterable[Outcome]) -> "pd.DataFrame":
    """A row per kind: tries planned and done, those that held, the longest time, the first failure."""
    import pandas as pd

    return pd.DataFrame([
        {"part": each.part, "what": each.what, "planned": each.planned, "tries": each.tries,
         "held": each.held, "longest_seconds": round(each.longest_seconds, 2),
         "first_failure": (*each.failures, "")[0], "note": each.note}
        for each in outcomes
    ])  # fmt: skip
