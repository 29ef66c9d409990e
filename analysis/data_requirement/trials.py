"""What growing parts of the data need, with their labels as they are and shuffled."""

from typing import TYPE_CHECKING

from analysis.data_requirement.config import Config

if TYPE_CHECKING:
    import pandas as pd

    from analysis.lab.data.datasets import DataSet
    from capacity import CapacityReport, Recommendation, Requirement


def data_of(config: Config) -> "DataSet":
    """The data set."""
    from analysis.lab.data.datasets import load

    return load(config.dataset, data=config.data, image_size=config.image_size, columns=config)


def requirements(config: Config, data: "DataSet") -> "dict[str, Requirement]":
    """The need of the training rows as they are, and with their labels shuffled: pure memorization."""
    import numpy as np
    import torch

    from capacity import requirement

    inputs = torch.cat([torch.as_tensor(part.inputs) for part in (data.train, data.validation)])
    labels = torch.cat([data.train.labels, data.validation.labels]).numpy()
    repeats = 1 if config.smoke else config.repeats
    shuffled = np.random.default_rng(config.seed).permutation(labels)
    return {
        name: requirement(inputs, wanted, repeats=repeats, seed=config.seed)
        for name, wanted in (("labels as they are", labels), ("labels shuffled", shuffled))
    }


def advice_for(
    config: Config, data: "DataSet", report: "CapacityReport", need: "Requirement"
) -> "Recommendation":
    """A size to start from; but for a quick pass, by two small networks trained first."""
    import torch

    from capacity import pilot, recommend

    first = None
    if not config.smoke and need.rows >= 25:
        first = pilot(torch.as_tensor(data.train.inputs), data.train.labels, seed=config.seed)
    return recommend(report, need, pilot=first)


def run(config: Config) -> "pd.DataFrame":
    """A row per kind of labels and part of the rows."""
    return frame_of(requirements(config, data_of(config)))


def frame_of(needs: "dict[str, Requirement]") -> "pd.DataFrame":
    """The progressions of all kinds of labels."""
    import pandas as pd

    parts = [need.to_frame().assign(labels=name) for name, need in needs.items()]
    return pd.concat(parts, ignore_index=True)
