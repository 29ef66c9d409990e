"""The torture itself: what it starts, counts and calls right."""

import errno
import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pandas as pd
import psutil
import pytest

from analysis.__main__ import commands
from analysis.torture.clock import seconds
from analysis.torture.forks import Forks
from analysis.torture.full_disk import compiled
from analysis.torture.kills import SEVERAL
from analysis.torture.outcome import Outcome, frame_of, growing
from analysis.torture.parts import PARTS
from analysis.torture.processes import end_of, family, left_over, started, table_of
from analysis.torture.report import line_of


def test_tries_that_hold_are_those_without_a_failure() -> None:
    outcome = Outcome("kills", "speed", 40, 20, 1.25, ("results.csv is another",))
    assert outcome.held == 19
    assert frame_of([outcome]).iloc[0].to_dict() == {
        "part": "kills", "what": "speed", "planned": 40, "tries": 20, "held": 19, "longest_seconds": 1.25,
        "first_failure": "results.csv is another", "note": "",
    }  # fmt: skip
    assert line_of(outcome).startswith("kills, speed: 19 of 20 hold")


def test_parts_are_those_of_the_settings() -> None:
    from analysis.torture import Config

    assert tuple(PARTS) == Config().parts


def test_every_command_that_resumes_is_killed() -> None:
    from analysis.lab.experiment import Experiment
    from analysis.torture import PRESETS

    found = {
        name for name in commands()
        if isinstance(getattr(import_module(f"analysis.{name}"), "EXPERIMENT", None), Experiment)
    }  # fmt: skip
    assert found | {"comparison"} == set(PRESETS["full"].commands)
    several = {name for name in found if hasattr(import_module(f"analysis.{name}").Config(), "processes")}
    assert several | {"comparison"} == set(SEVERAL)


def test_times_are_no_results(tmp_path: Path) -> None:
    pd.DataFrame({"seed": [0], "train_seconds": [1.5], "latency_ms": [2]}).to_csv(tmp_path / "results.csv")
    assert table_of(tmp_path) == "Unnamed: 0,seed\n0,0\n"


def test_outcomes_grow_with_each_try() -> None:
    found = list(growing("starts", "speed", 3, [(1.0, ""), (3.0, "late"), (2.0, "")]))
    assert [(each.tries, each.held, each.longest_seconds) for each in found] == [
        (1, 1, 1.0), (2, 1, 3.0), (3, 2, 3.0),
    ]  # fmt: skip


def test_runs_are_forked_and_end_as_they_do(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "forked_here.py").write_text(
        "import atexit, json, os, signal, sys, time\n"
        "atexit.register(print, 'over', flush=True)\n"
        "if 'wait' in sys.argv: print(os.environ['WORD'], flush=True); time.sleep(60)\n"
        "print(sys.argv[1:], os.getsid(0) == os.getpid(), flush=True)\n"
        "sys.exit(3)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Forks() as forks:
        run = forks.start(["python", "-m", "forked_here", "a b"])
        assert run.communicate() == ("['a b'] True\nover\n", "") and run.returncode == 3
        forks.learn(run)
        run = forks.start(["python", "-m", "forked_here", "wait"], {"WORD": "x"})
        with pytest.raises(subprocess.TimeoutExpired):
            run.wait(0.1)
        found = family(run.pid)
        run.send_signal(signal.SIGTERM)
        assert end_of(found) < 5 and run.wait() == -signal.SIGTERM
        run = forks.start(["python", "-m", "forked_here", "wait"], {"WORD": "x"})
        found = family(run.pid)
    assert psutil.wait_procs(found, timeout=5)[1] == []  # none outlives what forked it


def test_waits_for_a_processor_do_not_count() -> None:
    clock, began, cpu = time.monotonic(), seconds(), time.thread_time()
    while time.thread_time() - cpu < 0.3:
        pass
    assert 0.15 < seconds() - began <= time.monotonic() - clock + 0.01


def test_processes_that_stay_are_found_and_ended(monkeypatch) -> None:
    monkeypatch.setattr("analysis.torture.processes.MOST_SECONDS", 0.1)
    child = "import subprocess, sys; print('on', flush=True); "
    child += "subprocess.run([sys.executable, '-c', 'import time; print(1, flush=True); time.sleep(60)'])"
    process = started([sys.executable, "-c", child])
    assert [process.stdout.readline() for _ in range(2)] == ["on\n", "1\n"]
    found = family(process.pid)
    assert len(found) == 2 and end_of(found) >= 0.2
    process.communicate()
    assert psutil.wait_procs(found, timeout=5)[1] == []


def test_left_overs_are_ours_alone(tmp_path: Path) -> None:
    (tmp_path / ".results.csv.abcd1234.part").mkdir()
    (tmp_path / ".hidden").touch()
    assert [path.name for path in left_over(tmp_path)] == [".results.csv.abcd1234.part"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="takes a library loaded before all others")
def test_the_disk_is_full_from_a_write_on(tmp_path: Path) -> None:
    library, folder = compiled(tmp_path), tmp_path / "run"
    code = (
        "import os, sys\nos.mkdir(sys.argv[1])\nopen(sys.argv[1] + '/a', 'w').close()\n"
        "try: print(open(sys.argv[1] + '/b', 'w'))\nexcept OSError as error: print(error.errno)\n"
    )
    surroundings = {"LD_PRELOAD": str(library), "FULL_FOLDER": str(folder), "FULL_FROM": "3"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        env=os.environ | surroundings,
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"{errno.ENOSPC}\n", done.stderr
