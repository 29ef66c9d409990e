"""Under what a run's steps were computed: versions, machine, threads, commit; said where a run mixes two."""

import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from analysis.lab.runs.trust import shown
from compression.checkpoints import load_json, save_json
from compression.processes import own_device

PACKAGES = ("deepcapacity", "torch", "torchvision", "numpy", "scipy", "pandas", "scikit-learn", "accelerate")
ROOTS = ("analysis", "capacity", "compression")


def environment() -> dict[str, Any]:
    """Versions, machine, device and commit that produce results now."""
    import torch

    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    device = own_device()
    commit, changed = commit_of(Path(__file__).resolve().parents[3])
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "packages": versions,
        "commit": commit,
        "changed_since_commit": changed,
    }


def commit_of(folder: Path) -> tuple[str | None, bool | None]:
    """The commit that holds this package's files in `home`, and whether they differ from it.

    None where they are in no repository, as after an install into somebody else's.
    """
    if _git(folder, "ls-files", "--error-unmatch", "--", "analysis/__init__.py") is None:
        return None, None
    changed = _git(folder, "status", "--porcelain", "--", *ROOTS)
    return _git(folder, "rev-parse", "HEAD"), None if changed is None else changed != ""


def lineage(commit: object, folder: Path | None = None) -> str:
    """A recorded commit for readers: with a word where this package's history does not hold it.

    folder: of the repository, by default this package's; where it lies in none, nothing can be told
    """
    text = str(commit)
    if not re.fullmatch(r"[0-9a-f]{7,64}", text):
        return "unknown"
    root = folder or Path(__file__).resolve().parents[3]
    ours = commit_of(root)[0] is not None
    held = _git(root, "merge-base", "--is-ancestor", text, "HEAD") is not None
    return text if held or not ours else f"{text}, which is not in this history"


def _git(folder: Path, *words: str) -> str | None:
    try:
        result = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two environments.

    >>> differences({"threads": 1, "packages": {"torch": "2"}}, {"threads": 2, "packages": {"torch": "2"}})
    ['threads 1 and now 2']
    """
    flat = [dict(_flat(facts)) for facts in (before, now)]
    return [
        f"{name} {_in_a_line(flat[0].get(name))} and now {value}"
        for name, value in flat[1].items()
        if flat[0].get(name) != value
    ]


def _in_a_line(value: Any) -> str:
    """What a file says, in one line that no terminal obeys."""
    text = str(value)
    return text if text.isprintable() and len(text) <= 100 else shown(value)


def _flat(facts: Mapping[str, Any]) -> Sequence[tuple[str, Any]]:
    packages = facts.get("packages")
    others = [(name, value) for name, value in facts.items() if name not in ("packages", "resumed", "inputs")]
    return [*others, *(packages.items() if isinstance(packages, Mapping) else ())]


def note_environment(record: Path, steps: Sequence[str]) -> list[str]:
    """Note in environment.json under what steps are computed from now on; returns what is not as before.

    steps: names of those that are finished. Where the environment is another than that of the latest, it is
    added under "resumed" with these names: all later steps are its.
    """
    now = environment()
    if not record.exists():
        save_json(record, now, sealed=False)
        return []
    facts = load_json(record, sealed=False)
    resumed = facts.get("resumed")
    resumed = resumed if isinstance(resumed, list) else []
    latest = resumed[-1].get("environment") if resumed and isinstance(resumed[-1], dict) else facts
    latest = latest if isinstance(latest, dict) else {}
    changes = differences(latest, now)
    if changes and not steps:
        save_json(record, now, sealed=False)
    elif changes:
        entry = {"finished_before": list(steps), "changes": changes, "environment": now}
        save_json(record, {**facts, "resumed": [*resumed, entry]}, sealed=False)
    return changes if steps else []
