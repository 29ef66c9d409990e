"""What became of the tries of one kind."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Outcome:
    """Tries of one kind: how many held, the longest that one took to end, and why others failed."""

    part: str
    what: str
    tries: int
    longest_seconds: float
    failures: Sequence[str] = field(default_factory=tuple)

    @property
    def held(self) -> int:
        """Tries that ended as they must."""
        return self.tries - len(self.failures)


def frame_of(outcomes: Sequence[Outcome]) -> "pd.DataFrame":
    """A row per kind: tries, those that held, the longest time, the first failure."""
    import pandas as pd

    return pd.DataFrame([
        {"part": each.part, "what": each.what, "tries": each.tries, "held": each.held,
         "longest_seconds": round(each.longest_seconds, 2), "first_failure": (*each.failures, "")[0]}
        for each in outcomes
    ])  # fmt: skip
