"""A grid of independent cells on the processes of one machine, or on a Dask cluster: the same code.

Run cells are kept as JSON and never computed again. A cell that fails is reported at the end and
costs no other; one whose worker dies is tried again in a fresh worker.
"""

import os
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.lab.ending import end_with
from analysis.lab.memory import keep_freed_memory
from analysis.lab.resources import cores, fitting_processes, free_memory, why_no_workers
from analysis.lab.runs.progress import OnProgress
from analysis.lab.settings import WorkerSettings
from capacity.errors import InputError, missing
from compression.checkpoints import load_json, save_json

Row = Mapping[str, Any]
Work = Callable[[Any, str], Row]
ATTEMPTS = 3  # how often a cell may lose its worker
ANSWER = "10s"  # within which a scheduler answers


@dataclass(frozen=True)
class Sweep:
    """The rows of the finished cells, in the order of the grid, and why others failed, by name."""

    rows: tuple[Row, ...]
    failures: Mapping[str, str]


def sweep(
    work: Work,
    setting: Any,
    names: Sequence[str],
    *,
    folder: Path,
    workers: WorkerSettings,
    on_progress: OnProgress,
) -> Sweep:
    """Compute every cell that FOLDER/NAME.json does not hold yet.

    Parameters
    ----------
    work: (setting, name) -> facts that JSON can hold; a function of a module, for workers import it
    setting: what all cells share, sent along with each
    names: of the cells
    workers: each keeps what `work` caches, and takes an equal share of its machine's threads
    on_progress: the progress bar, by one a cell

    Raises InputError for a scheduler that cannot be reached or without workers of one thread each.
    """
    paths = {name: folder / f"{name}.json" for name in names}
    left = [name for name in names if not paths[name].exists()]
    on_progress(len(names) - len(left))
    failures: dict[str, str] = {}
    for attempt in range(ATTEMPTS):
        if not left:
            break
        for name, row, reason in _computed(work, setting, left, workers):
            if row is not None:
                save_json(paths[name], row)
                failures.pop(name, None)
            else:
                failures[name] = reason
            lost = row is None and reason.startswith(LOST)
            on_progress(0 if lost and attempt < ATTEMPTS - 1 else 1, doing=name)
        left = [name for name in left if not paths[name].exists() and failures[name].startswith(LOST)]
    rows = tuple(load_json(paths[name]) for name in names if paths[name].exists())
    return Sweep(rows, failures)


LOST = "its worker died"
Result = tuple[str, "Row | None", str]


def _computed(work: Work, setting: Any, names: Sequence[str], workers: WorkerSettings) -> Iterator[Result]:
    """Results as they come: the name, the row, or why there is none."""
    if workers.scheduler:
        yield from _on_cluster(work, setting, names, workers.scheduler)
    elif workers.processes == 1:
        for name in names:
            yield _guarded(work, setting, name, 0)
    else:
        yield from _on_processes(work, setting, names, workers.processes)


def _guarded(work: Work, setting: Any, name: str, threads: int) -> Result:
    """One cell in a worker; what it raises comes back as text."""
    if threads:
        import torch

        torch.set_num_threads(threads)
    try:
        return name, work(setting, name), ""
    except InputError as error:
        return name, None, str(error)
    except OSError:
        raise  # a full disk ends the run; finished cells are kept
    except Exception:  # whatever a technique stumbles over must not cost the other cells
        return name, None, traceback.format_exc(limit=-3)


def _on_processes(work: Work, setting: Any, names: Sequence[str], processes: int) -> Iterator[Result]:
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    threads = max(1, cores() // processes)  # as many on a resumed run, whatever is left then
    if reason := why_no_workers():
        print(f"1 process at once, not {processes}: {reason}")
        for name in names:
            yield _guarded(work, setting, name, threads)
        return
    count = fitting_processes(processes, len(names), free_memory())
    pool = Parallel(  # never one job, which joblib would compute here
        n_jobs=max(2, count), return_as="generator_unordered", batch_size=1, pre_dispatch=count,
        initializer=end_with, initargs=(os.getpid(),),
    )  # fmt: skip
    done = set()
    try:
        for result in pool(delayed(_guarded)(work, setting, name, threads) for name in names):
            done.add(result[0])
            yield result
    except TerminatedWorkerError:
        for name in names:
            if name not in done:
                yield name, None, f"{LOST}: killed, or out of memory"


def _on_cluster(work: Work, setting: Any, names: Sequence[str], scheduler: str) -> Iterator[Result]:
    from dask.distributed import as_completed

    with _client(scheduler) as client:
        slots = _slots(client)
        futures = {
            client.submit(_shared, work, setting, name, slots, key=f"{name}-{os.urandom(4).hex()}"): name
            for name in names
        }
        for future in as_completed(futures):
            name = futures[future]
            if future.status == "error" and isinstance(future.exception(), OSError):
                raise OSError(f"cell {name} on its worker: {future.exception()}")
            if future.status == "finished":
                yield future.result()
            else:
                yield name, None, f"{LOST}: {future.exception()!r}"


@contextmanager
def _client(scheduler: str) -> Iterator[Any]:
    try:
        from dask.distributed import Client
    except ImportError as error:
        raise missing("cluster", "--scheduler") from error
    try:
        client = Client(scheduler, timeout=ANSWER, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(f"no Dask scheduler answers at {scheduler!r}: {error}") from error
    with client, client.as_current():
        yield client


def _slots(client: Any) -> int:
    """Most cells that run on one machine at once."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    if not workers:
        raise InputError("the Dask scheduler has no workers: start some with `dask worker --nthreads 1`")
    if any(worker["nthreads"] != 1 for worker in workers):
        raise InputError("a training takes a process of its own: start workers with --nthreads 1")
    hosts = [worker["host"] for worker in workers]
    return max(map(hosts.count, hosts))


def _shared(work: Work, setting: Any, name: str, slots: int) -> Result:
    keep_freed_memory()
    return _guarded(work, setting, name, max(1, cores() // slots))
