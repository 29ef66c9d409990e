"""Run folders: settings, environment, tidy results; a folder never mixes two runs."""

import dataclasses
import hashlib
import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.lab.settings import NOT_IDENTITY
from capacity.errors import InputError
from compression.checkpoints import load_json, save_json, settle, write_whole
from compression.processes import main_first, own_device

if TYPE_CHECKING:
    import pandas as pd

PACKAGES = ("deepcapacity", "torch", "torchvision", "numpy", "scipy", "pandas", "scikit-learn", "accelerate")


NO_STEPS = ("squeeze", "teacher-outputs")  # records that are no finished steps


@dataclass(frozen=True)
class RunDirectory:
    """One run: config.json, environment.json, results.csv and what the command adds."""

    path: Path

    def save_frame(self, frame: "pd.DataFrame", name: str = "results.csv") -> Path:
        """Write a tidy table; floats keep every bit."""
        path = self.path / name
        write_whole(path, lambda beside: frame.to_csv(beside, index=False, lineterminator="\n"))
        return path

    def save_text(self, text: str, name: str) -> Path:
        path = self.path / name
        write_whole(path, lambda beside: beside.write_text(text, encoding="utf-8"))
        return path

    def settle(self, content: Callable[[], Mapping[str, str]]) -> None:
        """Note what the run depends on besides its settings, or raise InputError if that is another now."""
        with main_first():
            settle(self.path / "inputs.json", content, "run")

    def resumed(self, steps: int) -> str:
        """A line that says what is there already, of so many steps; empty where nothing is."""
        done = sum(1 for path in self.path.glob("seed-*/**/*.json") if path.stem not in NO_STEPS)
        return f"resumed from {self.path}, {min(done, steps)} of {steps} steps" if done else ""

    def start_over(self) -> None:
        """Remove what a run keeps here: what it depends on first, then its steps and its results."""
        for name in ("config.json", "inputs.json", "environment.json", "results.csv", "summary.csv"):
            (self.path / name).unlink(missing_ok=True)
        for path in [*self.path.glob("seed-*"), *self.path.glob("network-*.json")]:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def settings_of(config: Any) -> dict[str, Any]:
    """The settings that differ from the defaults: what identifies a run, also after options are added."""
    plain = json.loads(json.dumps(dataclasses.asdict(config)))
    default = json.loads(json.dumps(dataclasses.asdict(type(config)())))
    return {key: value for key, value in plain.items() if value != default[key] and key not in NOT_IDENTITY}


def open_run(command: str, config: Any, *, name: str) -> RunDirectory:
    """The run folder of these settings, new or to be resumed: `config.output`, or runs/COMMAND-NAME-HASH.

    Raises InputError if the folder holds a run with other settings, OSError if it cannot be written.
    """
    with main_first():  # of several processes, so that no other finds a folder half made
        return _opened(command, config, name)


def _opened(command: str, config: Any, name: str) -> RunDirectory:
    settings = {"command": command, "settings": settings_of(config)}
    everything = json.loads(json.dumps(dataclasses.asdict(config)))
    mark = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    path = Path(config.output) if config.output else Path("runs") / f"{command}-{name}-{mark}"
    record = path / "config.json"
    if record.exists() and getattr(config, "fresh", False):
        RunDirectory(path).start_over()
    elif record.exists():
        different = _different(_read(record), command, everything, type(config))
        if different:
            raise InputError(
                f"output folder {path} holds another run: {', '.join(different)}; choose another --output or "
                f"start over with --fresh"
            )
    elif path.exists() and any(path.iterdir()):
        raise InputError(
            f"output folder {path} is not empty and holds no run; choose another --output or empty it"
        )
    if not record.exists():
        save_json(record, settings | {"all_settings": everything})
    if not (path / "environment.json").exists():  # second, so that a full disk leaves what can be resumed
        save_json(path / "environment.json", environment())
    return RunDirectory(path)


def _read(record: Path) -> dict[str, Any]:
    try:
        return load_json(record)
    except InputError as error:
        raise InputError(
            f"{record} is damaged, so nothing is known of the run in {record.parent}: choose another "
            f"--output or remove the folder"
        ) from error


def _different(stored: Mapping[str, Any], command: str, asked: Mapping[str, Any], config: type) -> list[str]:
    """What was stored and is not what is asked for; an option that the run did not know has its default."""
    if stored.get("command") != command:
        return [f"one of {stored.get('command')}"]
    default = json.loads(json.dumps(dataclasses.asdict(config())))
    before = stored.get("all_settings", {})
    return [
        f"{key} {before.get(key, default[key])!r} and not {value!r}"
        for key, value in asked.items()
        if key not in NOT_IDENTITY and before.get(key, default[key]) != value
    ]


def trial_folder(command: str, config: Any) -> RunDirectory:
    """The run folder of a command that trains a network on a data set: runs/COMMAND-DATASET-MODEL-HASH."""
    data, model = config.dataset.partition(":")[0], Path(config.model.replace(":", ".")).name
    return open_run(command, config, name=f"{data}-{model}")


def environment() -> dict[str, Any]:
    """Versions, machine, device and commit that produced a run."""
    import torch

    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    device = own_device()
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "packages": versions,
        "commit": _commit(),
    }


def _commit() -> str | None:
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
