"""A signal ends every process of a run, workers end with their parent, an error of any rank is printed."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

RUN = """
import os, signal, subprocess, sys, time
from dataclasses import dataclass
from analysis.lab import ending
from analysis.lab.cli import execute

@dataclass(frozen=True)
class Config:
    "A run."
    smoke: bool = False

def start(config):
    {work}

if __name__ == "__main__":
    ending.GRACE = 0.3
    execute(Config, {{"default": Config()}}, start, None, lambda config: "a run")
"""
WAITS = 'print("ready", flush=True); time.sleep(60)'
DEAF = """
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    print(child.pid, flush=True)
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass
"""


def run_of(tmp_path, work: str, **surroundings: str) -> subprocess.Popen:
    script = tmp_path / "run.py"
    script.write_text(RUN.format(work=work), encoding="utf-8")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, str(script)], env=os.environ | surroundings, **pipes)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_a_run_in_one_line(tmp_path, name: str) -> None:
    process = run_of(tmp_path, WAITS)
    assert [process.stdout.readline() for _ in range(2)] == ["a run\n", "ready\n"]
    process.send_signal(getattr(signal, name))
    _, error = process.communicate(timeout=5)
    assert process.returncode == 128 + getattr(signal, name)
    assert error == "interrupted; finished steps are kept, run the same command again to go on\n"


def test_signals_that_come_at_once_are_one_line(tmp_path) -> None:
    process = run_of(tmp_path, "time.sleep(60)")
    assert process.stdout.readline() == "a run\n"
    time.sleep(0.2)
    for name in ("SIGTERM", "SIGHUP", "SIGINT", "SIGTERM", "SIGHUP"):
        process.send_signal(getattr(signal, name))
    _, error = process.communicate(timeout=5)
    assert process.returncode in (129, 130, 143)
    assert error == "interrupted; finished steps are kept, run the same command again to go on\n"


def test_a_signal_where_python_passes_over_errors_ends_the_run_all_the_same(tmp_path) -> None:
    work = """
    class Last:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)
    Last()
    time.sleep(60)"""
    process = run_of(tmp_path, work)
    _, error = process.communicate(timeout=5)
    assert process.returncode == 143
    assert error == "interrupted; finished steps are kept, run the same command again to go on\n"


def test_what_does_not_end_by_itself_is_ended_with_its_children(tmp_path) -> None:
    process = run_of(tmp_path, DEAF)
    process.stdout.readline()
    child = psutil.Process(int(process.stdout.readline()))
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=5)
    assert process.returncode == 143 and error.startswith("interrupted;") and error.count("\n") == 1
    psutil.wait_procs([child], timeout=5)
    assert not child.is_running()


HASTY = """
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    print(child.pid, flush=True)
    time.sleep(60)
"""
SLOW = """
    import atexit
    atexit.register(lambda: (print("ready", flush=True), time.sleep(60)))
"""


def test_what_a_run_that_ends_at_once_had_started_ends_too(tmp_path) -> None:
    process = run_of(tmp_path, HASTY)
    process.stdout.readline()
    child = psutil.Process(int(process.stdout.readline()))
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate()
    assert process.returncode == 143 and error.count("\n") == 1
    assert psutil.wait_procs([child], timeout=5)[1] == []


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_after_all_is_done_ends_the_process_at_once(tmp_path, name: str) -> None:
    process = run_of(tmp_path, SLOW)
    assert [process.stdout.readline() for _ in range(2)] == ["a run\n", "ready\n"]
    process.send_signal(getattr(signal, name))
    assert process.communicate()[1] == "" and process.returncode == -getattr(signal, name)


def test_what_is_to_be_done_at_the_end_is_done_after_a_signal_too(tmp_path) -> None:
    work = """
    import atexit
    atexit.register(lambda: print("at the end", flush=True))
    print("ready", flush=True)
    time.sleep(60)"""
    process = run_of(tmp_path, work)
    assert [process.stdout.readline() for _ in range(2)] == ["a run\n", "ready\n"]
    process.send_signal(signal.SIGTERM)
    out, error = process.communicate()
    assert out == "at the end\n" and error.count("\n") == 1 and process.returncode == 143


def test_a_program_that_goes_on_after_a_run_keeps_its_signals() -> None:
    code = """
import os, signal, time
from analysis.lab import ending
ending.GRACE = 0.1
kinds = ending.SIGNALS
before = [signal.getsignal(each) for each in kinds]
try:
    with ending.ended_by_signals():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
except SystemExit as end:
    print(end.code)
time.sleep(0.5)
print(before == [signal.getsignal(each) for each in kinds])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "130\nTrue\n" and done.stderr.startswith("interrupted;"), done.stderr


def test_an_interrupt_before_a_command_has_begun_is_silent() -> None:
    code = (
        "import os, signal, sys; sys.argv[0] = '-m'; import analysis; "
        "print(signal.getsignal(signal.SIGINT) is signal.SIG_DFL)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "True\n"


LONG_CALL = "import re; re.match('(a+)+b', 'a' * 60)"  # in C, in which no other thread gets to run


@pytest.mark.parametrize(
    "work",
    [
        "time.sleep(60)",
        pytest.param(LONG_CALL, marks=pytest.mark.skipif(sys.platform != "linux", reason="Linux's own end")),
    ],
)
def test_a_worker_ends_with_its_parent(work: str) -> None:
    worker = (
        "import os, sys, time; from analysis.lab.ending import end_with; end_with(int(sys.argv[1])); "
        f"print(os.getpid(), flush=True); {work}"
    )
    parent = (
        f"import os, subprocess, sys; subprocess.run([sys.executable, '-c', {worker!r}, str(os.getpid())])"
    )
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    found = psutil.Process(int(process.stdout.readline()))
    process.kill()
    process.wait()
    gone, _ = psutil.wait_procs([found], timeout=5)
    assert gone == [found]


def test_an_ignored_signal_stays_ignored(tmp_path) -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGHUP); print('on', flush=True)"
    script = tmp_path / "run.py"
    script.write_text(RUN.format(work=f"exec({code!r})"), encoding="utf-8")
    ignoring = "import runpy, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); "
    ignoring += f"runpy.run_path({str(script)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", ignoring], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "a run\non\n"), done.stderr


@pytest.mark.parametrize(
    ("work", "status", "told"),
    [("raise ValueError('of its own')", 1, "ValueError: of its own"),
     ("raise OSError(28, 'No space left', 'there')", 2, "rank 1: error: [Errno 28] No space left: 'there'")],
)  # fmt: skip
def test_an_error_of_another_rank_is_printed(tmp_path, work: str, status: int, told: str) -> None:
    process = run_of(tmp_path, work, WORLD_SIZE="2", RANK="1")
    out, error = process.communicate()
    assert process.returncode == status and out == "" and error.startswith("rank 1: ") and told in error


@pytest.mark.parametrize("size", ["", "two", "0"])
def test_a_number_of_processes_that_is_none_is_one_line(tmp_path, size: str) -> None:
    process = run_of(tmp_path, "pass", WORLD_SIZE=size)
    _, error = process.communicate()
    assert process.returncode == 2 and error.count("\n") == 1 and "WORLD_SIZE" in error
