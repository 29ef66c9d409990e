"""Runs that are killed: what they had finished stays as it is, and the same command goes on from there."""

from pathlib import Path
from subprocess import CompletedProcess

import pytest
from running import kill_when, run_command


def finished_steps(folder: Path, pattern: str) -> dict[Path, int]:
    """Files of a run that was killed, with their times; none that a kill left half-written."""
    whole = [path for path in folder.rglob(pattern) if not path.parent.name.startswith(".")]
    return {path: path.stat().st_mtime_ns for path in whole}


def computed(places: pytest.TempPathFactory, command: str, *arguments: str) -> tuple[Path, str]:
    """The run folder of a command that nothing disturbed and that complained of nothing; what it printed."""
    folder = places.mktemp("run") / "undisturbed"
    done = run_command(command, *arguments, "--output", str(folder))
    assert (done.returncode, done.stderr) == (0, "")
    return folder, done.stdout


def killed_and_resumed(command: str, *arguments: str, folder: Path, at: str) -> CompletedProcess:
    """The same command again after a kill at the moment when a file is there.

    Steps that were finished before are not computed again.
    """
    call = (command, *arguments, "--output", str(folder))
    kill_when(*call, exists=folder / at)
    whole = finished_steps(folder, "*.json")
    steps = {path: moment for path, moment in whole.items() if path.parent != folder}
    done = run_command(*call)
    assert done.returncode == 0, done.stderr
    assert all(path.stat().st_mtime_ns == moment for path, moment in steps.items())
    return done


def same_files(one: Path, other: Path, *names: str) -> None:
    """Two run folders hold these files with the same bytes."""
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
