"""Work side by side: questions answered together, order kept, errors and interrupts end all of it."""

import threading
from functools import partial

import pytest
import torch

from analysis.lab.runs.meeting import Meeting


def doubled(asked: list[list[int]], questions) -> list[int]:
    asked.append(list(questions))
    return [2 * question for question in questions]


def test_questions_are_answered_together_and_results_keep_their_order() -> None:
    asked: list[list[int]] = []
    meeting: Meeting[int, int] = Meeting(partial(doubled, asked))

    def work(number: int) -> list[int]:
        return [meeting.ask(10 * number + turn) for turn in range(number)]

    assert meeting.hold([partial(work, number) for number in (3, 0, 2)]) == [[60, 62, 64], [], [40, 42]]
    assert asked == [[30, 20], [31, 21], [32]]


def test_work_divides_itself() -> None:
    asked: list[list[int]] = []
    meeting: Meeting[int, int] = Meeting(partial(doubled, asked))

    def part(number: int) -> int:
        return meeting.ask(number) + meeting.ask(number + 1)

    def work(number: int) -> list[int]:
        first = meeting.ask(number)
        return meeting.hold([partial(part, first + k) for k in range(2)])

    assert meeting.hold([partial(work, 100), partial(work, 200)]) == [[802, 806], [1602, 1606]]
    assert asked == [[100, 200], [200, 201, 400, 401], [201, 202, 401, 402]]
    assert meeting.hold([]) == []


def test_only_one_runs_at_a_time() -> None:
    running: list[int] = []
    meeting: Meeting[int, int] = Meeting(list)

    def work(number: int) -> None:
        for _ in range(20):
            running.append(number)
            assert running == [number]
            running.remove(number)
            meeting.ask(number)

    meeting.hold([partial(work, number) for number in range(5)])


@pytest.mark.parametrize("error", [ValueError("no"), OSError("disk full"), KeyboardInterrupt()])
def test_an_error_ends_all_and_every_thread(error: BaseException) -> None:
    before, ended = threading.active_count(), []

    def work(number: int) -> None:
        try:
            meeting.ask(number)
            if number == 1:
                raise error
            meeting.ask(number)
        finally:
            ended.append(number)

    meeting: Meeting[int, int] = Meeting(list)
    with pytest.raises(type(error)):
        meeting.hold([partial(work, number) for number in range(3)])
    assert sorted(ended) == [0, 1, 2] and threading.active_count() == before


def test_what_the_answer_raises_ends_all() -> None:
    def refuse(questions) -> list[int]:
        raise OSError("no space")

    meeting: Meeting[int, int] = Meeting(refuse)
    with pytest.raises(OSError, match="no space"):
        meeting.hold([lambda: meeting.ask(1), lambda: meeting.ask(2)])


def threads_of_another() -> int:
    seen: list[int] = []
    other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    other.start()
    other.join()
    return seen[0]


def test_work_computes_on_one_core_and_what_is_timed_on_all() -> None:
    """Whoever else sets the number of threads in between, as trainings side by side do."""
    before, threads = torch.get_num_threads(), 2

    def answers(questions: list[int]) -> list[int]:
        torch.set_num_threads(threads)
        return questions

    meeting: Meeting[int, int] = Meeting(answers)
    try:
        torch.set_num_threads(threads)

        def work() -> tuple[int, int, int]:
            meeting.ask(1)
            everything = torch.randn(400, 400).relu().sum()
            assert bool(everything > 0) and torch.is_grad_enabled()
            return torch.get_num_threads(), meeting.on_all_cores(torch.get_num_threads), meeting.ask(3)

        assert meeting.hold([work, work]) == [(1, 2, 3), (1, 2, 3)]
        assert (torch.get_num_threads(), threads_of_another()) == (2, 2)
    finally:
        torch.set_num_threads(before)


def test_what_an_errand_raises_reaches_who_sent_it() -> None:
    meeting: Meeting[int, int] = Meeting(list)

    def divide(by: int) -> float:
        return 1 / by

    def work(by: int) -> str:
        try:
            return str(meeting.on_all_cores(partial(divide, by)))
        except ZeroDivisionError as error:
            return type(error).__name__

    assert meeting.hold([partial(work, 0), partial(work, 2)]) == ["ZeroDivisionError", "0.5"]


def test_what_asks_while_it_is_dismissed_ends() -> None:
    meeting: Meeting[int, int] = Meeting(list)
    before = threading.active_count()

    def waits() -> None:
        try:
            meeting.ask(1)
        finally:
            meeting.on_all_cores(torch.get_num_threads)

    def fails() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        meeting.hold([waits, fails])
    assert threading.active_count() == before


def test_an_errand_brings_no_other_work_together() -> None:
    meeting: Meeting[int, int] = Meeting(list)
    with pytest.raises(RuntimeError, match="on all cores cannot"):
        meeting.hold([lambda: meeting.on_all_cores(lambda: meeting.hold([int])), lambda: meeting.ask(1)])
