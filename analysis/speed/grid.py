"""A grid of trainings on a cluster of this machine."""

import tempfile
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from analysis.lab.runs.progress import silent
from analysis.speed.config import Config
from analysis.speed.timing import Benchmark, say


def clusters(config: "Config") -> Iterator[Benchmark]:
    """A grid of 24 trainings on two local Dask workers, against one; while they import torch, and later."""

    if find_spec("distributed") is None:
        say('skipped: distributed is not installed (pip install "deepcapacity[cluster]")')
        return
    from distributed import LocalCluster

    options: dict[str, Any] = {
        "threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": 40,
        "processes": not config.smoke,  # each would load torch, which takes longer than a quick pass
    }  # fmt: skip
    with LocalCluster(n_workers=1, **options) as one, LocalCluster(n_workers=2, **options) as two:
        ours, theirs = (
            partial(_sweep, config, scheduler=cluster.scheduler_address) for cluster in (two, one)
        )
        for how in ("that have just started", "that ran cells before"):
            yield Benchmark(f"24 cells on two Dask workers {how}", "one worker", "at least 1.8", ours, theirs)


def processes(config: "Config") -> Iterator[Benchmark]:
    """The same grid in two processes of this machine, against one; and in four, against two."""
    if config.smoke:
        say("skipped: processes, each of which loads torch: that takes longer than a quick pass")
        return
    for count, fewer, goal in ((2, 1, "above 1"), (4, 2, "at least 0.95")):
        ours, theirs = (partial(_sweep, config, processes=number) for number in (count, fewer))
        yield Benchmark(f"24 cells in {count} processes", f"{fewer} of them", goal, ours, theirs)


def _sweep(config: Config, **workers: Any) -> None:
    """The grid, by these workers."""
    from analysis.lab.runs.grid import sweep
    from analysis.lab.settings import WorkerSettings

    with tempfile.TemporaryDirectory() as folder:
        names = [f"seed-{seed}" for seed in range(4 if config.smoke else 24)]
        results = sweep(
            trained_cell, 2 if config.smoke else 40, names, folder=Path(folder),
            workers=WorkerSettings(**workers), on_progress=silent,
        )  # fmt: skip
        assert len(results.rows) == len(names), results.failures


def trained_cell(epochs: int, name: str) -> dict[str, Any]:
    """A small network trained on the digits on one thread; what a worker imports, or this process runs."""
    from analysis.lab.data.datasets import load
    from analysis.lab.models import create
    from analysis.lab.resources import one_thread
    from compression.training import TrainingSettings, evaluate, fit

    with one_thread():
        data = load("digits")
        model = create("mlp", input_size=(1, 8, 8), classes=10)
        settings = TrainingSettings(epochs=epochs, seed=int(name.partition("-")[2]))
        trained = fit(model, data.train.batches(128, shuffle=True), settings=settings).model
        return evaluate(trained, data.test.batches(500)).to_dict()
