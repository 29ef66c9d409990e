"""Networks trained on random labels: a row per network and number of points."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from analysis.memorization_curve.config import Config, smoke
from capacity.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from capacity import Memorization


def widths_of(name: str) -> list[int]:
    """The widths in a name such as 4-3-1.

    >>> widths_of("4-3-1")
    [4, 3, 1]
    """
    parts = name.split("-")
    if len(parts) < 2 or not all(part.isdigit() and int(part) for part in parts) or parts[-1] != "1":
        raise InputError(
            f"a network is written as widths that end in one output, such as 4-3-1; found {name!r}"
        )
    return [int(part) for part in parts]


def builder(widths: Sequence[int]) -> "Callable[[], Any]":
    """A function that makes the network with fresh weights."""
    from torch import nn

    def build() -> nn.Module:
        if len(widths) == 2:
            return nn.Linear(widths[0], 1, bias=False)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.Tanh()]
        return nn.Sequential(*layers[:-1])

    return build


def experiments(config: Config) -> "list[Memorization]":
    """One finished experiment for each network; finished ones are read from the run folder."""
    from analysis.lab.runs.directory import open_run
    from analysis.lab.runs.progress import progress
    from capacity import Memorization, MemorizationPoint, measure, memorization
    from compression.checkpoints import load_json, save_json

    config = smoke(config) if config.smoke else config
    planned = [(name, widths_of(name)) for name in config.networks]
    folder = open_run("memorization_curve", config, name="networks")
    done_before = sum((folder.path / f"network-{name}.json").exists() for name, _ in planned)
    if done_before:
        print(f"resumed from {folder.path}, {done_before} of {len(planned)} steps")
    results = []
    with progress(len(planned), "memorizing") as on_progress:
        for name, widths in planned:
            on_progress(doing=f"network {name}")
            path = folder.path / f"network-{name}.json"
            if path.exists():
                facts = load_json(path)
                curve = tuple(MemorizationPoint(**point) for point in facts.pop("curve"))
                results.append(Memorization(curve=curve, **facts))
            else:
                capacity_bits = measure(builder(widths)(), (widths[0],)).capacity_bits
                points = sorted({max(1, round(ratio * capacity_bits)) for ratio in config.ratios})
                trials = config.trials if len(widths) == 2 else config.network_trials
                done = memorization(
                    builder(widths), widths[0], points,
                    trials=trials, restarts=config.restarts, seed=config.seed,
                )  # fmt: skip
                save_json(path, asdict(done))
                results.append(done)
            on_progress(1)
    return results


def run(config: Config) -> "pd.DataFrame":
    """A row per network and number of points."""
    return frame_of(experiments(config))


def frame_of(results: "Sequence[Memorization]") -> "pd.DataFrame":
    """The rows of all experiments."""
    import pandas as pd

    return pd.concat([done.to_frame() for done in results], ignore_index=True)
