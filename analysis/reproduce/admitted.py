"""Which run folders a line may rest on; the others are named, with what is wrong with them, and left out."""

from collections.abc import Callable, Sequence
from pathlib import Path, PurePath

from analysis.lab.runs.loading import Run, finished, runs_below
from analysis.reproduce.trained import TRAINED, preset_of
from capacity.errors import InputError
from compression.checkpoints import load_json

WANTED = {
    (row.command, row.preset + scale) for row in TRAINED for scale in ("", "-reduced")
}  # commands and presets


def recorded(folders: Sequence[str | Path], refused: Callable[[str], object] = str) -> list[Run]:
    """Finished runs in any of these folders; `refused` is told of those that cannot be read or judged by."""
    runs = []
    for folder in folders:
        for path in sorted(Path(folder).glob("*/config.json")):
            reason = _unfinished(path.parent)
            if reason:
                refused(reason)
        for run in runs_below(folder, refused):
            reason = unfit(run)
            if reason:
                refused(f"{run.path} {reason}")
            else:
                runs.append(run)
    return runs


def _unfinished(folder: Path) -> str:
    """Why a run that a line waits for has no results; empty for others, and for one that has."""
    if (folder / "results.csv").exists():
        return ""
    try:
        facts = load_json(folder / "config.json", sealed=False)
        settings = facts.get("settings")
        preset = settings.get("preset") if isinstance(settings, dict) else None
        if (facts.get("command"), preset) in WANTED:
            finished(folder)
    except (InputError, OSError, TypeError) as error:
        return " ".join(str(error).split())
    return ""


def unfit(run: Run) -> str:
    """What keeps a run of a preset from judging that preset's lines; empty where nothing does."""
    if (run.command, run.preset) not in WANTED:
        return ""
    preset, config = preset_of(run.command, run.preset), run.config
    if config.smoke:
        return "is a quick pass, whose figures mean nothing"
    if not _same_data(config.dataset, preset.dataset):
        return f"is of {config.dataset}, and its preset of {preset.dataset}"
    if config.limit != preset.limit:
        return f"used {config.limit or 'all'} samples, and its preset uses {preset.limit or 'all'}"
    return _unfit_rows(run)


def _same_data(dataset: str, other: str) -> bool:
    """Whether two data sets hold the same pictures, if in another format, as cifar10-jpeg does."""
    name, expected = (PurePath(text.rpartition(":")[2]).name for text in (dataset, other))
    return name == expected or name.startswith(f"{expected}-")


def _unfit_rows(run: Run) -> str:
    rows = run.frame
    lacking = [name for name in ("seed", "top1_error") if name not in rows]
    if lacking:
        return f"is of another version: its results.csv lacks {' and '.join(lacking)}"
    if rows.empty:
        return "holds no row of results"
    errors = rows["top1_error"]
    if errors.dtype.kind not in "fiu":
        return f"holds an error that is no number: {str(errors.iloc[0])[:40]!r}"
    bad = ~errors.between(0, 1)
    if bad.any():
        return f"holds an error of {errors[bad].iloc[0]}, in row {int(bad.argmax()) + 1}"
    try:
        run.guarded("summary", run.summary)
    except InputError as error:
        return str(error).removeprefix(f"{run.path} ")
    return ""
