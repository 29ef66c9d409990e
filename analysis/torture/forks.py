"""Runs that start in no time: each is forked from a process that has imported what such runs import.

Arguments, variables, streams, session and signals are each run's own; it ends as any Python does.
"""

import gc
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from threading import Lock, RLock
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

POLL = 0.01  # seconds between two looks at a run
THREADED = ("onnxruntime",)  # start threads when they are imported, which no fork has


class Forks:
    """The process that forks, and the runs that it is asked for; a context manager.

    Parameters
    ----------
    library: loaded before all others, in this process and its runs
    modules: imported before the first run
    """

    def __init__(self, library: Path | None = None, modules: Sequence[str] = ()) -> None:
        self.undisturbed: dict[tuple[str, ...], tuple[Path, str]] = {}  # by call: a run's folder and table
        self.first = RLock()  # of those who would do an undisturbed run
        self._asking = Lock()
        self._folder = TemporaryDirectory(prefix="torture-")
        surroundings = {"LD_PRELOAD": str(library)} if library else {}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "analysis.torture.forks", *modules],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
            env=with_package() | surroundings,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()
        self._folder.cleanup()

    def ask(self, order: object) -> Any:
        """What the process answers to an order."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("no pipes")
        with self._asking:
            stdin.write(f"{json.dumps(order)}\n")
            stdin.flush()
            return json.loads(stdout.readline())

    def start(self, call: Sequence[str], surroundings: Mapping[str, str] | None = None) -> "Run":
        """A run of `python -m MODULE OPTIONS`."""
        _, _, module, *options = call
        place = Path(mkdtemp(dir=self._folder.name))
        order = {"module": module, "options": options, "place": str(place), "more": dict(surroundings or {})}
        return Run(self, int(self.ask(order)), place)

    def learn(self, run: "Run") -> None:
        """Import what a run that has ended had imported, so that later ones need not."""
        if (listed := run.place / "modules").exists():
            self.ask({"modules": json.loads(listed.read_text(encoding="utf-8"))})


class Run:
    """A run that was forked, with what `subprocess.Popen` offers.

    Parameters
    ----------
    forks: what forked it
    pid: its number
    place: folder of its output
    """

    def __init__(self, forks: Forks, pid: int, place: Path) -> None:
        self.pid = pid
        self.place = place
        self.returncode: int | None = None
        self._forks = forks

    def poll(self) -> int | None:
        """Its exit status once it has ended, else None."""
        if self.returncode is None:
            self.returncode = self._forks.ask({"ended": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status; raises TimeoutExpired."""
        began = time.monotonic()
        while (status := self.poll()) is None:
            if timeout is not None and time.monotonic() - began > timeout:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(POLL)
        return status

    def communicate(self) -> tuple[str, str]:
        """What it printed, and what it printed as errors, once it has ended."""
        self.wait()
        out, error = ((self.place / name).read_text(errors="replace") for name in ("out", "error"))
        return out, error

    def send_signal(self, number: int) -> None:
        """Send it a signal; raises ProcessLookupError where it has ended."""
        os.kill(self.pid, number)


def with_package() -> dict[str, str]:
    """The variables of this process, with this package on the path of Python, and one core for each run."""
    root = str(Path(__file__).parents[2])
    return os.environ | {
        "OMP_NUM_THREADS": "1",  # threads of runs beside each other would wait for each other
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")])),
    }


def _serve() -> None:
    """Do one order a line, and answer each in a line; a fork goes on as the run that it is."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    ended: dict[int, int] = {}
    begun: set[int] = set()

    def reap(number: int, frame: FrameType | None) -> None:
        with suppress(ChildProcessError):
            while (child := os.waitpid(-1, os.WNOHANG))[0]:
                ended[child[0]] = os.waitstatus_to_exitcode(child[1])

    signal.signal(signal.SIGCHLD, reap)
    _import(sys.argv[1:])
    while line := sys.stdin.readline():
        order = json.loads(line)
        answer = None
        if "ended" in order:
            answer = ended.get(order["ended"])
        elif "modules" in order:
            _import(order["modules"])
        elif not (answer := os.fork()):
            answers.close()
            _run(**order)
        else:
            begun.add(answer)
        answers.write(f"{json.dumps(answer)}\n")
        answers.flush()
    for pid in begun - set(ended):  # whoever asked has ended; a run that has just begun leads no group yet
        for end in (os.killpg, os.kill):
            with suppress(ProcessLookupError):
                end(pid, signal.SIGKILL)


def _import(names: Sequence[str]) -> None:
    for name in names:
        if name not in sys.modules and name.partition(".")[0] not in THREADED:
            with suppress(Exception):  # what a run imported under conditions of its own
                import_module(name)
    gc.collect()
    gc.freeze()  # what is imported is looked at by no run again, each of which would copy its memory


def _run(module: str, options: Sequence[str], place: str, more: Mapping[str, str]) -> NoReturn:
    """Be a run from here to its end."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, name in enumerate((os.devnull, f"{place}/out", f"{place}/error")):
        opened = os.open(name, os.O_RDWR | os.O_CREAT, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.update(more)
    sys.argv[1:] = options
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        if not more:
            Path(place, "modules").write_text(json.dumps(list(sys.modules)), encoding="utf-8")
    sys.exit(0)


if __name__ == "__main__":
    _serve()
