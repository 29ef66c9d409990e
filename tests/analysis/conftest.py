"""Quick runs that the slow tests of terminal, pages and venues read: one of each command in a process."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from running import run_command

QuickRun = Callable[[str], tuple[Path, CompletedProcess]]


@pytest.fixture(scope="session")
def quick_run(tmp_path_factory: pytest.TempPathFactory) -> QuickRun:
    """The folder of a command's `--smoke` run in `run` below it, and what it printed at 80 columns."""
    folder = tmp_path_factory.mktemp("quick")

    @cache
    def run(command: str) -> tuple[Path, CompletedProcess]:
        (folder / command).mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("COLUMNS", "80")
            done = run_command(command, "--smoke", "--output", "run", cwd=folder / command)
        assert done.returncode == 0, done.stderr
        return folder / command, done

    return run
