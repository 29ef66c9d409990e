"""The network of the settings, measured: a row per layer."""

from functools import partial
from typing import TYPE_CHECKING

from analysis.capacity_report.config import Config
from capacity.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from capacity.report import CapacityReport


def report_of(config: Config, model: "nn.Module | None" = None) -> "CapacityReport":
    """Measure the network of these settings, built anew unless it is given."""
    from capacity import measure

    return measure(
        network_of(config) if model is None else model,
        config.input_size, convention=config.convention, scope=config.scope, effective=config.effective,
    )  # fmt: skip


def network_of(config: Config) -> "nn.Module":
    """Build the network, without memory for its weights where they are not needed."""
    import torch

    from analysis.lab.models import create

    if not config.input_size or min(config.input_size) < 1:
        raise InputError(f"input_size must be positive numbers such as 3 224 224, found {config.input_size}")
    build = partial(
        create,
        config.model,
        input_size=config.input_size,
        classes=config.classes,
        pretrained=config.pretrained,
    )
    hollow = not (config.effective or config.pretrained)
    try:
        with torch.device("meta" if hollow else "cpu"):
            return build()
    except (RuntimeError, NotImplementedError):  # some constructors compute with numbers meta does not have
        return build()


def run(config: Config) -> "pd.DataFrame":
    """A row per layer."""
    return frame_of(report_of(config))


def frame_of(report: "CapacityReport") -> "pd.DataFrame":
    """The report's rows as they are written to results.csv."""
    frame = report.to_frame()
    frame["sources"] = [" ".join(sources) for sources in frame["sources"]]
    return frame
