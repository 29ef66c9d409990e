"""Trials side by side: each runs until it asks for something; when all wait, all are answered at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Semaphore, Thread, current_thread
from typing import Any, Generic, TypeVar

import torch

Q = TypeVar("Q")
A = TypeVar("A")
R = TypeVar("R")


class Dismissed(BaseException):
    """Ends work that waits for an answer that will never come."""


class Guest(Thread):
    """One piece of work. Of all guests at most one runs at any time, and only until it asks.

    It computes on one core: OpenMP keeps workers for each thread that ever asked for some, and once they are
    more than the cores, those of the training wait for each other at every operation.
    """

    def __init__(self, work: Callable[[], Any], host: "Guest | None") -> None:
        super().__init__(daemon=True)
        self.work, self.host = work, host
        self.turn, self.back = Semaphore(0), Semaphore(0)
        self.asked: Any = None
        self.answer: Any = None
        self.error: BaseException | None = None
        self.done = self.dismissed = False

    def run(self) -> None:
        self.turn.acquire()
        torch.set_num_threads(1)
        torch.get_num_threads()  # a thread takes the number set last when it first asks
        try:
            self.answer = None if self.dismissed else self.work()
        except BaseException as error:  # raised again by the meeting
            self.error = error
        self.done = True
        self.back.release()

    def ask(self, question: Any) -> Any:
        """Wait for the answer."""
        if self.dismissed:  # as what is closed at its end may ask
            raise Dismissed
        self.asked = question
        self.back.release()
        self.turn.acquire()
        if self.dismissed:
            raise Dismissed
        return self.answer

    def resume(self) -> None:
        """Let it run until it asks or ends."""
        if not self.is_alive():
            self.start()
        self.turn.release()
        self.back.acquire()
        if self.error is not None:
            raise self.error

    def dismiss(self) -> None:
        """End it where it waits, and wait for that."""
        if self.is_alive():
            self.dismissed = True
            self.turn.release()
            self.join()


@dataclass
class _Party:
    """Work that a guest has divided, and waits for."""

    guests: list[Guest]


@dataclass
class _Errand:
    """What a guest has the meeting's own thread do for it, at once."""

    call: Callable[[], Any]

    def done(self) -> tuple[Any, BaseException | None]:
        """What came of it: a value, or what was raised."""
        try:
            return self.call(), None
        except BaseException as error:  # raised again by the guest
            return None, error


@dataclass
class Meeting(Generic[Q, A]):
    """Brings work together whose questions are best answered together.

    Parameters
    ----------
    answers: questions -> their answers, in the same order; called by the thread that called `hold`
    """

    answers: Callable[[Sequence[Q]], Sequence[A]]
    guests: list[Guest] = field(default_factory=list)

    def hold(self, works: Sequence[Callable[[], R]]) -> list[R]:
        """The results of all work, which may call `ask`, and `hold` for its own parts.

        What one piece of work raises ends all.
        """
        thread = current_thread()
        if isinstance(thread, Guest):
            results: list[R] = thread.ask(_Party([Guest(work, thread) for work in works]))
            return results
        if any(guest.is_alive() for guest in self.guests):
            raise RuntimeError("what is done on all cores cannot bring other work together")
        first = self.guests = [Guest(work, None) for work in works]
        threads = torch.get_num_threads()
        try:
            ready = list(first)
            while ready:
                ready = self._round(ready)
        finally:
            for guest in self.guests[::-1]:
                guest.dismiss()
            torch.set_num_threads(threads)  # of threads that are yet to come, too
        return [guest.answer for guest in first]

    def ask(self, question: Q) -> A:
        """The answer, once everyone else waits too; only within work."""
        thread = current_thread()
        assert isinstance(thread, Guest)
        answer: A = thread.ask(question)
        return answer

    def on_all_cores(self, call: Callable[[], R]) -> R:
        """What a call returns that is made by the thread that called `hold`, which has all cores."""
        thread = current_thread()
        assert isinstance(thread, Guest)
        value, error = thread.ask(_Errand(call))
        if error is not None:
            raise error
        result: R = value
        return result

    def _turn(self, guest: Guest) -> None:
        """Let a guest run until it asks what is answered together, or ends."""
        guest.resume()
        while not guest.done and isinstance(guest.asked, _Errand):
            guest.answer = guest.asked.done()
            guest.resume()

    def _round(self, ready: list[Guest]) -> list[Guest]:
        """Let the guests run that can; answer the others once none can. Returns those that can run next."""
        while ready:
            guest = ready.pop(0)
            self._turn(guest)
            if guest.done:
                ready += self._hosts_of(guest)
            elif isinstance(guest.asked, _Party):
                self.guests = [*self.guests, *guest.asked.guests]
                ready = [*guest.asked.guests, *ready]
        waiting = [g for g in self.guests if g.is_alive() and not g.done and not isinstance(g.asked, _Party)]
        if waiting:
            for guest, answer in zip(waiting, self.answers([g.asked for g in waiting]), strict=True):
                guest.answer = answer
        return waiting

    def _hosts_of(self, guest: Guest) -> list[Guest]:
        """The guest that waited for this one and its fellows, if they are done."""
        host = guest.host
        if host is None or not all(other.done for other in host.asked.guests):
            return []
        host.answer = [other.answer for other in host.asked.guests]
        return [host]
