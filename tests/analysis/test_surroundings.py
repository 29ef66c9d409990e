"""Runs where little is there: few descriptors, no home, no shared memory, folders that cannot be written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from running import call_of, run_command

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="takes /proc and prlimit")
NOWHERE = "/dev/null/home"  # which nobody can make


def apart(*call: str) -> list[str]:
    """A call with mounts of its own, where that is allowed."""
    words = ["unshare", "--mount"] + ([] if os.getuid() == 0 else ["--map-root-user"])
    try:
        allowed = subprocess.run([*words, "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("no mounts of one's own are allowed here")
    return [*words, *call]


def test_few_descriptors_no_home_and_a_working_folder_that_nobody_can_write(tmp_path: Path) -> None:
    homes = {"HOME": NOWHERE, "XDG_CACHE_HOME": NOWHERE, "MPLCONFIGDIR": NOWHERE}
    call = call_of("capacity_curve", "--smoke", "--output", str(tmp_path / "run"))
    done = subprocess.run(
        ["prlimit", "--nofile=64", *call], capture_output=True, text=True, cwd="/proc", env=os.environ | homes
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "run" / "results.csv").exists()


@pytest.mark.parametrize("backend", ["nonsense", "module://nowhere.backend", "tkagg"])
def test_figures_are_drawn_into_files_whatever_backend_is_asked_for(backend: str, tmp_path: Path) -> None:
    code = (
        "from dataclasses import dataclass; from analysis.lab.cli import execute\n"
        "@dataclass(frozen=True)\nclass Config:\n    'A figure.'\n    output: str = 'drawn.png'\n"
        "def draw(config):\n    from matplotlib import pyplot\n"
        "    pyplot.subplots()[0].savefig(config.output)\n"
        "execute(Config, {'default': Config()}, draw)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path,
        env=os.environ | {"MPLBACKEND": backend, "DISPLAY": ":77"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "drawn.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_folder_that_cannot_be_made_is_one_line_that_says_where_to_write() -> None:
    done = run_command("capacity_curve", "--smoke", cwd="/proc")
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "runs" in done.stderr


def test_a_folder_that_is_read_only_is_one_line_that_advises_another(tmp_path: Path) -> None:
    code = (
        "from dataclasses import dataclass; from analysis.lab.cli import execute; from pathlib import Path\n"
        "@dataclass(frozen=True)\nclass Config:\n    'A run.'\n    output: str = 'x'\n"
        "execute(Config, {'default': Config()}, lambda config: Path('x').write_text(''))"
    )
    call = f'mount -t tmpfs -o ro none {tmp_path} && cd {tmp_path} && exec {sys.executable} -c "$0"'
    done = subprocess.run(apart("bash", "-c", call, code), capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "Read-only" in done.stderr and "choose an --output that can be written" in done.stderr


@pytest.mark.parametrize("options", ["ro", "size=4k,nr_inodes=1"])
def test_without_shared_memory_one_process_computes_and_says_why(tmp_path: Path, options: str) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import warnings; warnings.simplefilter('ignore')\n"
        "import sweeping; from pathlib import Path; from analysis.lab.runs.grid import sweep\n"
        "from analysis.lab.runs.progress import silent; from analysis.lab.settings import WorkerSettings\n"
        "found = sweep(sweeping.square, '', ['cell-2', 'cell-3'], folder=Path(sys.argv[2]),"
        " workers=WorkerSettings(processes=2), on_progress=silent)\n"
        "print([row['square'] for row in found.rows])"
    )
    call = f'mount -t tmpfs -o {options} none /dev/shm && exec {sys.executable} -c "$0" "$@"'
    here = str(Path(__file__).parents[1] / "helpers")
    done = subprocess.run(
        apart("bash", "-c", call, code, here, str(tmp_path)), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    told, squares = done.stdout.splitlines()
    assert told.startswith("1 process at once, not 2: no semaphores can be shared") and squares == "[4, 9]"


SMALL_DISK = """
import resource, signal, sys
from pathlib import Path
from analysis.lab.reporting.figures import save_figure
from capacity.figures import new_figure

figure, axes = new_figure(4, 3)
axes.plot(range(5000), [place % 17 for place in range(5000)])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for least in (200, 3_000, 9_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (least, resource.RLIM_INFINITY))
    try:
        save_figure(figure, Path(sys.argv[1]), "figure")
    except OSError as error:
        print(error.strerror, sorted(Path(sys.argv[1]).iterdir()))
"""


def test_a_disk_that_is_full_within_a_figure_is_told_as_that(tmp_path: Path) -> None:
    """matplotlib's own way out of a write that failed fails too, with an error that says nothing of disks."""
    done = subprocess.run([sys.executable, "-c", SMALL_DISK, str(tmp_path)], capture_output=True, text=True)
    assert (done.stdout.splitlines(), done.stderr) == (["File too large []"] * 3, "")
