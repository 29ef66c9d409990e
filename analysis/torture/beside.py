"""Parts side by side: what waits for processes in threads, what is done in this process in its own."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Event

from analysis.torture.outcome import Outcome

POLL = 0.1  # seconds between two looks at what threads have done


@dataclass(frozen=True)
class OutcomeStream:
    """Outcomes of a part as they come, and whether another thread may do it."""

    threaded: bool
    outcomes: Iterable[Outcome]


def side_by_side(parts: Sequence[OutcomeStream]) -> Iterator[Outcome]:
    """The outcomes of all parts as they come; an error of one ends the others after their next try."""
    from analysis.lab.resources import cores

    come: SimpleQueue[Outcome] = SimpleQueue()
    stop = Event()

    def collect(part: OutcomeStream) -> None:
        for outcome in part.outcomes:
            come.put(outcome)
            if stop.is_set():
                return

    pool = ThreadPoolExecutor(cores())
    threads = [pool.submit(collect, part) for part in parts if part.threaded]
    try:
        for part in parts:
            for outcome in () if part.threaded else part.outcomes:
                yield outcome
                yield from _arrived(come)
                _raise_errors(threads)
        while not all(thread.done() for thread in threads):
            yield from _arrived(come, POLL)
            _raise_errors(threads)
        yield from _arrived(come)
        _raise_errors(threads)
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _raise_errors(threads: "Sequence[Future[None]]") -> None:
    for thread in threads:
        if thread.done():
            thread.result()


def _arrived(come: "SimpleQueue[Outcome]", wait: float = 0.0) -> Iterator[Outcome]:
    """What lies in a queue; if that is nothing, what comes first within so many seconds."""
    with suppress(Empty):
        yield come.get(timeout=wait) if wait else come.get_nowait()
        while True:
            yield come.get_nowait()
