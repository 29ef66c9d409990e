"""A progress bar with the time left, on a terminal and in notebooks; nothing elsewhere: logs stay clean."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from capacity import checks
from capacity.errors import InputError, brief

Progress = Callable[[int, int], None] | bool | None


class OnProgress(Protocol):
    """Tells the bar what is going on, and how many units of work were done."""

    def __call__(self, done: float = 0, doing: str | None = None) -> None: ...


@contextmanager
def bar(total: float, doing: str) -> Iterator[OnProgress]:
    """A bar over `total` units of work; it lives on standard error and leaves standard output clean."""
    from compression.processes import rank

    if rank() > 0:
        yield silent
    elif in_notebook():
        yield _Cell(total, doing)
    else:
        yield from _terminal(total, doing)


def silent(done: float = 0, doing: str | None = None) -> None:
    """An OnProgress that shows nothing."""


def in_notebook() -> bool:
    """Whether this is a kernel of Jupyter, which shows what is displayed and has no terminal."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return shell is not None and hasattr(shell, "kernel")


@contextmanager
def reporting(progress: Progress, total: int, doing: str) -> Iterator[Callable[[int, int], None] | None]:
    """What is to be called after each of `total` units: the caller's own function, or for True a bar's."""
    if not isinstance(progress, bool):
        if progress is not None and not checks.takes(progress, 2):
            raise InputError(
                f"progress must be True, for a bar, or a function (done, total); found {brief(progress)}"
            )
        yield progress
    elif not progress:
        yield None
    else:
        with bar(total, doing) as on_progress:
            shown = 0

            def report(done: int, _: int) -> None:
                nonlocal shown
                on_progress(done - shown)
                shown = done

            yield report


def _terminal(total: float, doing: str) -> Iterator[OnProgress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("left:"), TimeRemainingColumn(),
    )  # fmt: skip
    with Bar(
        *columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True
    ) as shown:
        task = shown.add_task(doing, total=total)

        def on_progress(done: float = 0, doing: str | None = None) -> None:
            shown.update(task, advance=done, description=doing)

        yield on_progress


class _Cell:
    """A line below a notebook's cell, renewed in place at most twice a second."""

    def __init__(self, total: float, doing: str) -> None:
        from IPython.display import display

        self.total, self.doing, self.done = total, doing, 0.0
        self.start = self.last = time.monotonic()
        self.handle: Any = display(self._text(), raw=True, display_id=True)

    def __call__(self, done: float = 0, doing: str | None = None) -> None:
        self.done, self.doing = self.done + done, doing or self.doing
        now = time.monotonic()
        if now - self.last >= 0.5 or self.done >= self.total:
            self.last = now
            self.handle.update(self._text(), raw=True)

    def _text(self) -> dict[str, str]:
        share = min(1.0, self.done / self.total) if self.total else 1.0
        spent = time.monotonic() - self.start
        left = f", {_clock(spent / share - spent)} left" if 0 < share < 1 else ""
        filled = round(30 * share)
        line = f"{self.doing} {'█' * filled}{'░' * (30 - filled)} {self.done:g} of {self.total:g}{left}"
        return {"text/plain": line}


def _clock(seconds: float) -> str:
    """Minutes and seconds.

    >>> _clock(75)
    '1:15'
    """
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
