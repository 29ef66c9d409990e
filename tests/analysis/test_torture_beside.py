"""Parts of the torture side by side: all outcomes come, each part's in order, and an error ends all."""

import threading
import time
from collections.abc import Iterator

import pytest

from analysis.torture.beside import OutcomeStream, side_by_side
from analysis.torture.outcome import Outcome


def outcomes(part: str, count: int, seen: dict[str, int]) -> Iterator[Outcome]:
    for number in range(1, count + 1):
        seen[part] = threading.get_ident()
        yield Outcome(part, "x", count, number, 0.0)


def test_all_come_each_part_in_its_order() -> None:
    seen: dict[str, int] = {}
    counts = {"kills": 5, "files": 3, "starts": 4, "folders": 2}
    threaded = ("kills", "starts")
    parts = [OutcomeStream(name in threaded, outcomes(name, count, seen)) for name, count in counts.items()]
    come = [(each.part, each.tries) for each in side_by_side(parts)]
    for name, count in counts.items():
        assert [tries for part, tries in come if part == name] == list(range(1, count + 1))
    here = threading.get_ident()
    assert {name: thread == here for name, thread in seen.items()} == {
        "kills": False, "files": True, "starts": False, "folders": True,
    }  # fmt: skip
    assert list(side_by_side([])) == []


def test_parts_in_threads_go_on_while_others_are_done_here() -> None:
    met = threading.Barrier(2, timeout=10)

    def waiting(part: str) -> Iterator[Outcome]:
        met.wait()
        yield Outcome(part, "x", 1, 1, 0.0)

    come = list(side_by_side([OutcomeStream(False, waiting("files")), OutcomeStream(True, waiting("kills"))]))
    assert {each.part for each in come} == {"files", "kills"}


@pytest.mark.parametrize("threaded", [True, False])
def test_an_error_of_one_ends_the_others_after_their_next_try(threaded: bool) -> None:
    before, failed = threading.active_count(), threading.Event()
    tries: list[int] = []

    def fails() -> Iterator[Outcome]:
        yield Outcome("files", "x", 2, 1, 0.0)
        failed.set()
        raise RuntimeError("no disk")

    def goes_on() -> Iterator[Outcome]:
        for number in range(10_000):
            failed.wait(5)
            time.sleep(0.001)
            tries.append(number)
            yield Outcome("kills", "x", 10_000, number, 0.0)

    with pytest.raises(RuntimeError, match="no disk"):
        list(side_by_side([OutcomeStream(True, goes_on()), OutcomeStream(threaded, fails())]))
    assert threading.active_count() == before and len(tries) < 10_000
