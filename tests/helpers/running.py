"""Commands as a user runs them, and how they must end."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from forking import run_forked, start_forked


def call_of(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"analysis.{module}", *arguments]


def can_fork(arguments: tuple[str, ...]) -> bool:
    """Whether a command can be forked: where the system does so, and it starts no workers of its own."""
    return "--processes" not in arguments and "forkserver" in multiprocessing.get_all_start_methods()


def run_command(module: str, *arguments: str, **options) -> subprocess.CompletedProcess:
    """A command's outcome; one that starts workers of its own is a plain process, which ends them at once."""
    if options.keys() <= {"cwd", "env", "encoding"} and can_fork(arguments):
        return run_forked(f"analysis.{module}", list(arguments), **options)
    return subprocess.run(call_of(module, *arguments), capture_output=True, text=True, **options)


def run_python(code: str) -> str:
    """What code prints in a process of its own."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def kill_when(module: str, *arguments: str, exists: Path) -> None:
    """Start a command in its own process and kill it as soon as a file exists."""
    if can_fork(arguments):
        process = start_forked(f"analysis.{module}", list(arguments))
        while not exists.exists():
            assert process.is_alive()
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
        return
    call = call_of(module, *arguments)
    with subprocess.Popen(call, stdout=subprocess.DEVNULL, start_new_session=True) as plain:
        while not exists.exists():
            assert plain.poll() is None
            time.sleep(0.01)
        os.killpg(plain.pid, signal.SIGKILL)


def ends_in_one_line(main, arguments: list[str], message: str, folder: Path, capsys) -> None:
    """Bad input: one line on standard error, exit status 2, nothing written."""
    with pytest.raises(SystemExit) as ending:
        main([*arguments, "--output", str(folder)])
    error = capsys.readouterr().err
    assert ending.value.code == 2 and message in error and error.count("\n") == 1
    assert not folder.exists()
