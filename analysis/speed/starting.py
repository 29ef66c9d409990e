"""What it takes until a command answers: whole processes."""

import subprocess
import sys
from collections.abc import Iterator
from functools import partial

from analysis.speed.config import Config
from analysis.speed.timing import Benchmark


def starting(config: Config) -> Iterator[Benchmark]:
    """The list of commands, a command's help, and imports, each in a process of its own; no peer.

    A quick pass starts a command's help only.
    """
    rows = (
        ("list of the commands", "0.3 s", ["-m", "analysis"]),
        ("help of a command", "0.3 s", ["-m", "analysis.capacity_curve", "--help"]),
        ("import capacity", "less than torch's", ["-c", "import capacity"]),
        ("import compression, with torch", "torch's and little more", ["-c", "import compression, torch"]),
    )
    torch = partial(_run, ["-c", "import torch"])
    for name, goal, arguments in rows[1:2] if config.smoke else rows:
        yield Benchmark(f"start: {name}", "import torch", goal, partial(_run, arguments), torch)


def _run(arguments: list[str]) -> None:
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
