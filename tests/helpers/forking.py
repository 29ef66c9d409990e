"""Commands and scripts in processes of their own, forked from one that imported the heavy libraries once."""

import gc
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

LIBRARIES = ["numpy", "scipy.stats", "pandas", "torch", "torchvision", "accelerate", "sklearn.datasets"]
LIBRARIES += ["matplotlib.pyplot", "seaborn", "rich.table", "tyro", "joblib", "safetensors.torch"]
LIBRARIES += ["torch_pruning", "torchao.quantization.pt2e.quantize_pt2e", "matplotlib.backends.backend_pdf"]
LIBRARIES += ["torchao.quantization.pt2e.quantizer.x86_inductor_quantizer"]


def run_forked(
    module: str,
    arguments: list[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    encoding: str | None = None,
    largest_file: int | None = None,
) -> subprocess.CompletedProcess:
    """What `subprocess.run([python, "-m", module, ...], capture_output=True, text=True)` gives, sooner.

    The process is new: arguments, folder, environment, streams and exit status are its own, and our packages
    are imported in it; libraries were imported before it began. PYTHONIOENCODING counts. A file that it
    writes may have `largest_file` bytes, as where the disk is full.
    """
    with tempfile.TemporaryDirectory() as folder:
        streams = [str(Path(folder) / name) for name in ("stdout", "stderr")]
        process = _started(_command, (module, arguments, *_surroundings(cwd, env), streams, largest_file))
        process.join()
        out, error = (Path(stream).read_text(encoding) for stream in streams)
    return subprocess.CompletedProcess([module, *arguments], process.exitcode, out, error)


def start_forked(module: str, arguments: list[str]) -> BaseProcess:
    """The process of a command or script that leads a group of its own; what it says is lost."""
    return _started(_leader, (module, arguments, *_surroundings(None, None), [os.devnull] * 2))


def _surroundings(cwd: Path | None, env: Mapping[str, str] | None) -> tuple[str, dict[str, str]]:
    return str(cwd or os.getcwd()), dict(os.environ if env is None else env)


def _started(target: Callable[..., None], work: tuple) -> BaseProcess:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LIBRARIES)
    process = context.Process(target=target, args=work)
    process.start()
    return process


def _leader(*work) -> None:
    os.setsid()
    _command(*work)


def _command(module, arguments, place, variables, streams, largest_file=None) -> None:
    gc.freeze()  # what was imported before is shared as long as nobody searches it for garbage
    for number, stream in enumerate(streams, start=1):
        opened = os.open(stream, os.O_WRONLY | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    for stream in (sys.stdout, sys.stderr) if "PYTHONIOENCODING" in variables else ():
        stream.reconfigure(encoding=variables["PYTHONIOENCODING"], errors=stream.errors)
    os.chdir(place)
    os.environ.clear()
    os.environ.update(variables)
    wanted = [path for path in variables.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [place, *wanted, *(path for path in sys.path if path not in wanted)]
    if largest_file is not None:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    if module.endswith(".py"):
        sys.argv = [module, *arguments]
        runpy.run_path(module, run_name="__main__")
    else:
        sys.argv = ["-m", *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
