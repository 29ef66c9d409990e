"""Where results go besides their files: TensorBoard, MLflow or Weights & Biases, where they are installed.

A tracker is any function (values, step) -> None, called with numbers by name after each epoch of `fit` and
each step of `squeeze` and `recipe`. `wandb.log` and `mlflow.log_metrics` are such functions as they are.

>>> from compression.trackers import track
>>> with track("tensorboard", "runs/mine") as tracker:  # doctest: +SKIP
...     fit(model, train, tracker=tracker)
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from capacity import checks
from capacity.errors import InputError, brief

Tracker = Callable[[Mapping[str, float], int], Any]
Kind = Literal["tensorboard", "mlflow", "wandb"]


@contextmanager
def track(
    kind: Kind,
    directory: str | os.PathLike[str] = "runs",
    *,
    name: str = "run",
    project: str = "deepcapacity",
    settings: Mapping[str, Any] | None = None,
) -> Iterator[Tracker]:
    """A tracker for one run, closed at the end; values that are no finite numbers are left out.

    Parameters
    ----------
    kind: "tensorboard" writes event files to DIRECTORY/NAME; "mlflow" goes to where MLFLOW_TRACKING_URI
        says, else to a database in the directory; "wandb" goes online where there is a key, else to offline
        files in the directory
    name, project: of the run, and of what it is one of (MLflow's experiment); a run of this name is gone on
        with
    settings: noted with the run

    Raises InputError where the package is not installed, naming the extra that brings it.
    """
    checks.word(*OPENED)("tracker", kind)
    require_installed(kind)
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    with OPENED[kind](folder, name, project, dict(settings or {})) as log:
        yield TrackedRun(log)


def require_installed(kind: Kind) -> None:
    """Raise InputError where a tracker's package is missing, naming the extra that brings it."""
    if find_spec(kind) is None:
        raise InputError(f"{kind} is not installed: pip install 'deepcapacity[{kind}]' brings it")


@dataclass(frozen=True)
class TrackedRun:
    """A run of `track`; not among what a stored result depends on."""

    log: Tracker

    def __call__(self, values: Mapping[str, Any], step: int) -> None:
        self.log(numbers_in(values), step)


def report(tracker: Tracker | None, values: Mapping[str, Any], step: int) -> None:
    """Call a tracker, if there is one, with the finite numbers among values."""
    if tracker is not None:
        tracker(numbers_in(values), step)


def require_tracker(tracker: Any) -> None:
    """Raise InputError for what is no tracker."""
    if tracker is not None and not checks.takes(tracker, 2):
        raise InputError(
            f"a tracker is a function (values, step), such as wandb.log, or what `with track('wandb') "
            f"as tracker` gives; found {brief(tracker)}"
        )


def numbers_in(values: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers among values.

    >>> numbers_in({"error": 0.5, "scheme": "static", "top5_error": None, "interval": float("nan")})
    {'error': 0.5}
    """
    numbers = {key: value for key, value in values.items() if isinstance(value, int | float)}
    return {key: float(value) for key, value in numbers.items() if abs(value) < float("inf")}


@contextmanager
def _tensorboard(folder: Path, name: str, project: str, settings: dict[str, Any]) -> Iterator[Tracker]:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(folder / name) as writer:
        if settings:
            rows = "\n".join(f"| {key} | {value} |" for key, value in settings.items())
            writer.add_text("settings", f"| setting | value |\n|---|---|\n{rows}")

        def log(values: Mapping[str, float], step: int) -> None:
            for key, value in values.items():
                writer.add_scalar(key, value, step)

        yield log


@contextmanager
def _mlflow(folder: Path, name: str, project: str, settings: dict[str, Any]) -> Iterator[Tracker]:
    import mlflow

    if not os.environ.get("MLFLOW_TRACKING_URI"):
        mlflow.set_tracking_uri(f"sqlite:///{(folder / 'mlflow.db').resolve().as_posix()}")
    experiment = mlflow.set_experiment(project)
    wanted = f"attributes.run_name = '{name}'"
    before = mlflow.search_runs([experiment.experiment_id], wanted, max_results=1, output_format="list")
    same = before and before[0].data.params == {key: str(value) for key, value in settings.items()}
    with mlflow.start_run(before[0].info.run_id if same else None, run_name=name):
        mlflow.log_params(settings)
        yield lambda values, step: mlflow.log_metrics(
            {re.sub(r"[^\w\-. :/]", "_", key): value for key, value in values.items()}, step
        )


@contextmanager
def _wandb(folder: Path, name: str, project: str, settings: dict[str, Any]) -> Iterator[Tracker]:
    import wandb

    mode: Any = os.environ.get("WANDB_MODE") or ("online" if wandb.login(prompt=False) else "offline")
    run = wandb.init(
        project=project, name=name, id=name, dir=folder, config=settings, mode=mode, resume="allow",
        settings=wandb.Settings(silent=True),
    )  # fmt: skip
    with run:
        yield lambda values, step: run.log(dict(values), step)


OPENED = {"tensorboard": _tensorboard, "mlflow": _mlflow, "wandb": _wandb}
