"""Run folders: settings, environment, tidy results; a folder never mixes two runs."""

import dataclasses
import hashlib
import json
import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capacity.errors import InputError
from compression.checkpoints import load_json, save_json, write_whole
from compression.processes import main_first

if TYPE_CHECKING:
    import pandas as pd

PACKAGES = ("deepcapacity", "torch", "torchvision", "numpy", "scipy", "pandas", "scikit-learn", "accelerate")
NOT_SETTINGS = ("output", "data")  # where things lie does not change what comes out


@dataclass(frozen=True)
class RunFolder:
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


def settings_of(config: Any) -> dict[str, Any]:
    """The settings that differ from the defaults: what identifies a run, also after options are added."""
    plain = json.loads(json.dumps(dataclasses.asdict(config)))
    default = json.loads(json.dumps(dataclasses.asdict(type(config)())))
    return {key: value for key, value in plain.items() if value != default[key] and key not in NOT_SETTINGS}


def open_run(command: str, config: Any, *, name: str) -> RunFolder:
    """The run folder of these settings, new or to be resumed: `config.output`, or runs/COMMAND-NAME-HASH.

    Raises InputError if the folder holds a run with other settings, OSError if it cannot be written.
    """
    with main_first():  # of several processes, so that no other finds a folder half made
        return _opened(command, config, name)


def _opened(command: str, config: Any, name: str) -> RunFolder:
    settings = {"command": command, "settings": settings_of(config)}
    mark = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    path = Path(config.output) if config.output else Path("runs") / f"{command}-{name}-{mark}"
    kept = path / "config.json"
    if kept.exists():
        try:
            found = load_json(kept)
        except InputError as error:
            raise InputError(
                f"{kept} is damaged, so nothing is known of the run in {path}: "
                f"choose another --output or remove the folder"
            ) from error
        if {key: found.get(key) for key in settings} != settings:
            theirs = json.dumps(found.get("settings"), sort_keys=True)
            raise InputError(
                f"output folder {path} holds another run ({found.get('command')} with {theirs}); "
                f"choose another --output or remove the folder"
            )
    else:
        if path.exists() and any(path.iterdir()):
            raise InputError(
                f"output folder {path} is not empty and holds no run; choose another --output or empty it"
            )
        save_json(path / "environment.json", environment())
        save_json(kept, settings | {"all_settings": json.loads(json.dumps(dataclasses.asdict(config)))})
    return RunFolder(path)


def trial_folder(command: str, config: Any) -> RunFolder:
    """The run folder of a command that trains a network on a data set: runs/COMMAND-DATASET-MODEL-HASH."""
    data, model = config.dataset.partition(":")[0], config.model.replace(":", ".")
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
    cuda = torch.cuda.is_available()
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if cuda else "cpu",
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
