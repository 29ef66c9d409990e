"""Run folders: settings, environment, tidy results; a folder never mixes two runs."""

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.lab.runs.cells import as_words
from analysis.lab.runs.provenance import note_environment
from analysis.lab.runs.trust import shown
from analysis.lab.settings import NOT_IDENTITY
from capacity.errors import InputError
from capacity.terminal import broken, printable
from compression.checkpoints import load_json, save_json, settle
from compression.identity import file_sha256
from compression.processes import main_first, rank
from compression.storage import MOST_TEXT, Hold, hold, is_ours, require_plain, write_atomically

if TYPE_CHECKING:
    import pandas as pd

CHECKSUMS = "checksums.json"
RECORDS = ("config.json", "inputs.json", "environment.json", CHECKSUMS)  # a run without more has no results
NO_STEPS = ("squeeze", "teacher-outputs")  # records that are no finished steps


@dataclass(frozen=True)
class RunDirectory:
    """One run: config.json, environment.json, results.csv and what the command adds."""

    path: Path
    hold: Hold | None = field(default=None, compare=False, repr=False)  # while it is written to

    def save_frame(self, frame: "pd.DataFrame", name: str = "results.csv") -> Path:
        """Write a tidy table, whose floats keep every bit, and note its SHA-256 in checksums.json."""
        path = self.path / name
        self._note(name, None)  # which must not outlive the table it speaks of
        words = as_words(frame)
        write_atomically(path, lambda beside: words.to_csv(beside, index=False, lineterminator="\n"))
        self._note(name, path)
        return path

    def _note(self, name: str, path: Path | None) -> None:
        if rank() > 0:
            return
        record = self.path / CHECKSUMS
        known = load_json(record) if record.exists() else {}
        before = known.pop(name, None)
        if path is not None:
            known[name] = file_sha256(path)
        if path is not None or before is not None:
            save_json(record, known)

    def require_unchanged(self, name: str = "results.csv") -> Path:
        """The path of a table; raises InputError if it is not as it was written.

        What checksums.json does not name was written by another release, and says nothing.
        """
        path, record = require_plain(self.path / name, MOST_TEXT), self.path / CHECKSUMS
        known = load_json(record).get(name) if record.exists() else None
        if known is not None and known != file_sha256(path):
            raise InputError(
                f"{path} is not as it was written: its SHA-256 is another; run its command again"
            )
        return path

    def save_text(self, text: str, name: str) -> Path:
        path = self.path / name
        write_atomically(path, lambda beside: beside.write_text(text, encoding="utf-8"))
        return path

    def settle(self, content: Callable[[], Mapping[str, str]]) -> None:
        """Note what the run depends on besides its settings, or raise InputError if that is another now."""
        with main_first():
            settle(self.path / "inputs.json", content, "run")
            record = self.path / "environment.json"
            if rank() == 0 and record.exists() and "inputs" not in (facts := load_json(record, sealed=False)):
                mark = file_sha256(self.path / "inputs.json")
                save_json(record, {**facts, "inputs": mark}, sealed=False)

    def finished_steps(self) -> list[str]:
        """The names of the records of steps that are there, below the folder."""
        records = (path for path in self.path.glob("seed-*/**/*.json") if path.stem not in NO_STEPS)
        return sorted(path.relative_to(self.path).as_posix() for path in records)

    def resumed(self, steps: int) -> str:
        """A line that says what is there already, of so many steps; empty where nothing is."""
        done = len(self.finished_steps())
        return f"resumed from {self.path}, {min(done, steps)} of {steps} steps" if done else ""

    def start_over(self) -> None:
        """Remove what a run keeps here: results, steps, and last what they depend on.

        Interrupted, what is left is the run that it was, with fewer steps.
        """
        for name in ("results.csv", "summary.csv"):
            (self.path / name).unlink(missing_ok=True)
        steps = [*self.path.glob("seed-*"), *self.path.glob("network-*.json")]
        for record in self.path.glob("seed-*/**/*.json"):  # which must not outlive the weights they speak of
            record.unlink()
        for path in steps:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        for name in reversed(RECORDS):
            (self.path / name).unlink(missing_ok=True)


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


def hold_run(command: str, config: Any, *, name: str) -> Hold | None:
    """Hold the folder that `open_run` opens for these settings, over several of its calls.

    Raises InputError if another process is at work there, or if the folder holds something else.
    """
    path = run_path(command, config, name)
    require_run(path)
    return hold(path)


def run_path(command: str, config: Any, name: str) -> Path:
    """Where a run of these settings lies."""
    if config.output:
        return Path(config.output)
    settings = {"command": command, "settings": settings_of(config)}
    mark = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    return Path("runs") / f"{command}-{name}-{mark}"


def require_run(path: Path) -> None:
    """Raise InputError unless a folder holds a run, or the beginning of one, or nothing; and no way out."""
    if path.exists() and not path.is_dir():
        raise InputError(f"output folder {path} is a file; choose another --output")
    require_no_way_out(path)
    if (path / "config.json").exists() or not path.exists():
        return
    if any(entry.name not in RECORDS and not is_ours(entry.name) for entry in path.iterdir()):
        raise InputError(
            f"output folder {path} is not empty and holds no run; choose another --output or empty it"
        )


def require_no_way_out(folder: Path) -> None:
    """Raise InputError if a link in a folder leads out of it: what is written there would be elsewhere."""
    inside = folder.resolve()
    for place, folders, files in os.walk(folder):
        for path in (Path(place, name) for name in (*folders, *files)):
            if path.is_symlink():
                try:
                    good = path.resolve().is_relative_to(inside)
                except (OSError, RuntimeError):  # a link to itself
                    good = False
                if not good:
                    raise InputError(
                        f"{path} is a link that leads out of the output folder; move what it leads to here, "
                        f"or choose another --output, which may be a link itself"
                    )


def _opened(command: str, config: Any, name: str) -> RunDirectory:
    path = run_path(command, config, name)
    folder = RunDirectory(path, hold_run(command, config, name=name))
    everything = json.loads(json.dumps(dataclasses.asdict(config)))
    record = path / "config.json"
    if record.exists() and getattr(config, "fresh", False):
        folder.start_over()
    elif record.exists():
        different = _different(_read(record), command, everything, type(config))
        if different:
            raise InputError(
                f"output folder {path} holds another run: {', '.join(different)}; choose another --output or "
                f"start over with --fresh"
            )
    if not record.exists():  # first, so that a full disk leaves what can be resumed
        settings = {"command": command, "settings": settings_of(config)}
        save_json(record, settings | {"all_settings": everything})
    changes = note_environment(path / "environment.json", folder.finished_steps())
    if changes:
        computed = f"the steps in {path} so far were computed with {', '.join(changes)}"
        print(printable(broken(f"{computed}: environment.json says which")))
    return folder


def _read(record: Path) -> dict[str, Any]:
    try:
        return load_json(record, sealed=False)
    except InputError as error:
        raise InputError(
            f"{record} is damaged, so nothing is known of the run in {record.parent}: choose another "
            f"--output or remove the folder"
        ) from error


def _different(stored: Mapping[str, Any], command: str, asked: Mapping[str, Any], config: type) -> list[str]:
    """What was stored and is not what is asked for; an option that the run did not know has its default."""
    if stored.get("command") != command:
        return [f"one of {shown(stored.get('command'))}"]
    default = json.loads(json.dumps(dataclasses.asdict(config())))
    before = stored.get("all_settings", {})
    if not isinstance(before, dict):
        return ["one without settings"]
    return [
        f"{key} {shown(before.get(key, default[key]))} and not {shown(value)}"
        for key, value in asked.items()
        if key not in NOT_IDENTITY and before.get(key, default[key]) != value
    ]


def trial_name(config: Any) -> str:
    """The name of the run of a command that trains a network on a data set: DATASET-MODEL."""
    data, model = config.dataset.partition(":")[0], Path(config.model.replace(":", ".")).name
    return f"{data}-{model}"


def trial_folder(command: str, config: Any) -> RunDirectory:
    """The run folder of a command that trains a network on a data set: runs/COMMAND-DATASET-MODEL-HASH."""
    return open_run(command, config, name=trial_name(config))
