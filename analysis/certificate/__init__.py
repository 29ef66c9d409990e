"""Which error on new data does a small network's file guarantee, and how little can that be?"""

from collections.abc import Sequence

from analysis.certificate.config import PRESETS, Config, candidates, check, smoke
from analysis.certificate.report import headline, plot, summary, table
from analysis.certificate.story import STORY
from analysis.lab.cli import execute
from analysis.lab.experiment import CellExperiment, Cells, Steps
from capacity.columns import counted

__all__ = [
    "EXPERIMENT", "PRESETS", "STORY", "Config", "headline", "main", "plot", "run", "start", "summary",
    "table",
]  # fmt: skip


def _steps(config: Config) -> Steps:
    """What computes the row of each candidate and of the one that is chosen, what all take, and the data."""
    from dataclasses import replace
    from functools import partial

    from analysis.certificate.trials import Search
    from analysis.lab.needs import need_of_cells
    from compression.identity import describe

    search = Search(config, lambda: EXPERIMENT.directory(replace(config, fresh=False)))
    steps = search.steps()
    sizes = max(search.parameters.values()), search.outputs
    need = need_of_cells(1, sizes, config.batch_size, len(steps), "a smaller --batch-size")
    return Steps(steps, need, partial(describe, data=search.data))


def _name(config: Config) -> str:
    return f"{config.dataset.partition(':')[0]}-{len(candidates(config))}"


CELLS = Cells(
    _name, _steps, "networks",
    lambda c: f"{counted(len(candidates(c)), 'candidate')} on {c.dataset}",
)  # fmt: skip
EXPERIMENT = CellExperiment(
    "certificate", Config, PRESETS, check, smoke, None, summary, table, headline, plot, cells=CELLS
)
run = EXPERIMENT.run


def start(config: Config) -> None:
    """Search, or bound the files of the run that is named."""
    from analysis.certificate import frontier

    if config.run:
        frontier.start(config)
    else:
        EXPERIMENT.start(config)


def opening(config: Config) -> str:
    """What is said before anything heavy is loaded."""
    return f"certificate: the files of {config.run}" if config.run else EXPERIMENT.opening(config)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    execute(Config, PRESETS, start, arguments, opening)
