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


def test_threads_compute_as_the_first() -> None:
    meeting: Meeting[int, int] = Meeting(list)
    threads = torch.get_num_threads()
    assert meeting.hold([torch.get_num_threads, torch.is_grad_enabled]) == [threads, True]
