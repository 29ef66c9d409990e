"""The cells of a comparison: each technique on each seed's baseline, wherever there are workers."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from analysis.comparison.config import UNTRAINED
from analysis.comparison.techniques import compute, contenders
from analysis.lab.consoles import Say
from analysis.lab.needs import require_fit
from analysis.lab.runs.grid import sweep
from analysis.lab.runs.progress import progress

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from analysis.comparison.config import Config
    from analysis.lab.runs.directory import RunDirectory


def compare_cells(
    config: "Config", opened: "Callable[[Config], RunDirectory]", say: Say
) -> "tuple[pd.DataFrame, dict[str, str]]":
    """The rows, and the cells that failed with the reason; both baselines and techniques are cells."""
    import pandas as pd

    here = replace(config, processes=1, scheduler="", output="", smoke=False, fresh=False)
    shared = contenders(here)  # refuses what cannot be before anything is written
    folder = opened(config)
    for note in shared.runner.data.notes:
        say(note)
    trained = len(set(config.techniques) - set(UNTRAINED))
    epochs = config.seeds * (config.epochs + trained * config.retrain_epochs)
    require_fit(shared.runner, replace(config, seeds=1), config.seeds, folder.path, epochs, say)
    folder.settle(shared.content)
    resumed = folder.resumed(config.seeds * (1 + len(config.techniques)))
    if resumed:
        say(resumed)
    setting = (here, str(folder.path.resolve()))
    names = [  # the baselines first: all other cells start from them
        [f"seed-{seed}/{name}" for name in wave for seed in config.trial_seeds]
        for wave in (("baseline",), config.techniques)
    ]
    rows: list[Any] = []
    failures: dict[str, str] = {}
    with progress(sum(map(len, names)), "cells") as on_progress:
        for wave in names:
            cells = sweep(compute, setting, wave, folder=folder.path, workers=config, on_progress=on_progress)
            rows += cells.rows
            failures |= cells.failures
    frame = pd.DataFrame(rows)
    if not frame.empty:
        folder.save_frame(frame.drop(columns="right", errors="ignore"))
    return frame, failures
