"""A grid of cells: the same rows on processes and on a cluster, failures on their own, dead workers."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import sweeping

from analysis.lab.memory import DASKS, FREED
from analysis.lab.runs import grid
from analysis.lab.runs.grid import sweep
from analysis.lab.runs.progress import silent
from analysis.lab.settings import WorkerSettings
from capacity import InputError

NAMES = [f"cell-{number}" for number in range(6)]


def swept(folder: Path, work=sweeping.square, names=NAMES, **workers):
    return sweep(
        work, str(folder), names, folder=folder, workers=WorkerSettings(**workers), on_progress=silent
    )


@contextmanager
def cluster(folder: Path, workers: int):
    """A scheduler and workers as a user starts them, each a process of its own."""
    place = folder / "scheduler.json"
    paths = os.pathsep.join([str(Path(sweeping.__file__).parent), os.environ.get("PYTHONPATH", "")])
    options = {"env": os.environ | DASKS | {"PYTHONPATH": paths}, "stderr": subprocess.DEVNULL, "cwd": folder}
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    alive = [subprocess.Popen([*dask, "--scheduler-file", str(place), "--no-dashboard"], **options)]
    try:
        while not place.exists():
            assert alive[0].poll() is None
            time.sleep(0.05)
        address = json.loads(place.read_text())["address"]
        call = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1"]
        call += ["--no-dashboard", "--no-nanny", "--host", "127.0.0.1"]
        alive += [subprocess.Popen(call, **options) for _ in range(workers)]
        from dask.distributed import Client

        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=60)
        yield address, alive[1:]
    finally:
        for process in alive[::-1]:
            process.terminate()
            process.wait()


def test_processes_give_the_rows_of_one_in_the_order_of_the_grid(tmp_path: Path) -> None:
    one, two = swept(tmp_path / "one"), swept(tmp_path / "two", processes=2)
    assert [row["square"] for row in one.rows] == [0, 1, 4, 9, 16, 25]
    assert [row["square"] for row in two.rows] == [row["square"] for row in one.rows]
    assert not one.failures and len({row["process"] for row in two.rows}) == 2
    assert {row["threads"] for row in two.rows} == {max(1, os.cpu_count() // 2)}


@pytest.mark.parametrize("processes", [1, 2])
def test_a_failure_costs_no_other_cell_and_is_tried_again(tmp_path: Path, processes: int) -> None:
    found = swept(tmp_path, sweeping.fails_once, processes=processes)
    assert len(found.rows) == 5 and list(found.failures) == ["cell-3"]
    assert "ZeroDivisionError" in found.failures["cell-3"]
    kept = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("cell-*.json")}
    again = swept(tmp_path, sweeping.fails_once, processes=processes)
    assert len(again.rows) == 6 and not again.failures
    assert all((tmp_path / name).stat().st_mtime_ns == then for name, then in kept.items())


def test_a_killed_process_loses_nothing(tmp_path: Path) -> None:
    found = swept(tmp_path, sweeping.kills_itself_once, processes=2)
    assert [row["square"] for row in found.rows] == [0, 1, 4, 9, 16, 25] and not found.failures


def test_a_cell_that_always_kills_its_worker_is_named(tmp_path: Path) -> None:
    found = swept(tmp_path, sweeping.always_kills_itself, ["cell-1", "cell-2"], processes=2)
    assert "its worker died" in found.failures["cell-2"]


def test_a_cluster_gives_the_same_rows_and_survives_a_dead_worker(tmp_path: Path) -> None:
    pytest.importorskip("dask.distributed")
    with cluster(tmp_path, workers=2) as (address, workers):
        started = tmp_path / "started"
        started.mkdir()
        killer = subprocess.Popen(
            [sys.executable, "-c", sweeping.KILLER, str(started), str(workers[0].pid), str(signal.SIGKILL)]
        )
        names = [f"cell-{number}" for number in range(12)]
        found = swept(tmp_path, sweeping.slow_square, names, scheduler=address)
        assert killer.wait() == 0 and workers[0].wait() == -signal.SIGKILL
    assert [row["square"] for row in found.rows] == [number**2 for number in range(12)]
    workers_seen = {path.name.rpartition("-")[2] for path in started.iterdir()}
    assert not found.failures and len(workers_seen) == 2
    assert {row["trimmed"] for row in found.rows} == {str(FREED["MALLOC_TRIM_THRESHOLD_"][1])}


def test_what_no_cluster_can_run_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(grid, "ANSWER", "1s")
    distributed = pytest.importorskip("dask.distributed")
    options = {"threads_per_worker": 2, "processes": False, "dashboard_address": ":0", "silence_logs": 40}
    refused = pytest.raises(InputError, match="--nthreads 1")
    with distributed.LocalCluster(n_workers=1, **options) as local, refused:
        swept(tmp_path / "threads", scheduler=local.scheduler_address)
    with pytest.raises(InputError, match="no Dask scheduler answers"):
        swept(tmp_path / "none", scheduler="tcp://127.0.0.1:1")
