"""Commands as a user runs them, and how they must end."""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from socket import socket

import pytest
from forking import run_forked, start_forked


def name_of(command: str) -> str:
    """A script's path as it is, the module of a command of `analysis`."""
    return command if command.endswith(".py") else f"analysis.{command}"


def call_of(command: str, *arguments: str) -> list[str]:
    """The words that start a command or a script."""
    words = [] if command.endswith(".py") else ["-m"]
    return [sys.executable, *words, name_of(command), *arguments]


def can_fork(arguments: tuple[str, ...]) -> bool:
    """Whether a command can be forked: where the system does so, and it starts no workers of its own."""
    return "--processes" not in arguments and "forkserver" in multiprocessing.get_all_start_methods()


def run_command(command: str, *arguments: str, **options) -> subprocess.CompletedProcess:
    """The outcome of a command or script; one that starts workers is a plain process, which ends them."""
    if can_fork(arguments):
        return run_forked(name_of(command), list(arguments), **options)
    return subprocess.run(call_of(command, *arguments), capture_output=True, text=True, **options)


def run_in_two(command: str, *arguments: str, **options) -> list[subprocess.CompletedProcess]:
    """The outcomes of two processes of a command that share one run, told what torchrun tells its own."""
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}

    def one(rank: int) -> subprocess.CompletedProcess:
        env = os.environ | group | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        return run_command(command, *arguments, env=env, **options)

    with ThreadPoolExecutor(2) as both:
        return list(both.map(one, range(2)))


def run_script(code: str, *arguments: str, **options) -> subprocess.CompletedProcess:
    """The outcome of code in a process of its own, in which heavy libraries are imported already."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "script.py"
        script.write_text(code, encoding="utf-8")
        return run_command(str(script), *arguments, **options)


def run_python(code: str) -> str:
    """What code prints in a process of its own that has imported nothing yet."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def kill_when(command: str, *arguments: str, exists: Path) -> None:
    """Start a command or script in its own process and kill it as soon as a file exists."""
    call = call_of(command, *arguments)
    if can_fork(arguments):
        process = start_forked(name_of(command), list(arguments))
        while not exists.exists():
            assert process.is_alive()
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
        return
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
