"""A progress bar with the time left, on a terminal; nothing elsewhere."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Advance(Protocol):
    """Tells the bar what is going on, and how many units of work were done."""

    def __call__(self, done: float = 0, doing: str | None = None) -> None: ...


@contextmanager
def progress(total: float, doing: str) -> Iterator[Advance]:
    """A bar over `total` units of work; it lives on standard error and leaves standard output clean."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from compression.processes import rank

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("left:"), TimeRemainingColumn(),
    )  # fmt: skip
    bar = Progress(
        *columns, console=Console(stderr=True), disable=rank() > 0 or not sys.stderr.isatty(), transient=True
    )
    with bar:
        task = bar.add_task(doing, total=total)

        def advance(done: float = 0, doing: str | None = None) -> None:
            bar.update(task, advance=done, description=doing)

        yield advance


def silent(done: float = 0, doing: str | None = None) -> None:
    """An Advance that shows nothing."""
