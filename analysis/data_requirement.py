"""How many bits a data set needs, whether that need levels off, and how a network compares."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.lab.cli import execute
from analysis.lab.reporting.story import Story, counted
from analysis.lab.settings import ColumnsSettings, OutputSettings
from capacity.figures import styled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.lab.data.datasets import DataSet
    from capacity import CapacityReport, Recommendation, Requirement
    from capacity.tables import Table


@dataclass(frozen=True)
class Config(OutputSettings, ColumnsSettings):
    """Count label changes along the sorted feature sums, for growing parts of the data."""

    dataset: str = "digits"
    """digits, mnist, fashion-mnist, kmnist, cifar10, cifar100, flowers102; or your own: imagefolder:PATH,
    table:FILE.csv, text:FILE.csv."""
    data: str = "data"
    """Folder where torchvision's data sets lie, or are downloaded to."""
    model: str = "mlp"
    """A network to compare with: mlp, lenet300, ..., torchvision:NAME, timm:NAME, hf:CONFIG.json; or none."""
    repeats: int = 5
    """Random parts drawn for each size."""
    seed: int = 0
    """Seed of the random parts."""
    image_size: int = 224
    """Side in pixels to which pictures of differing sizes are brought."""
    output: str = ""
    """Run folder; by default runs/data_requirement-DATASET-HASH."""
    smoke: bool = False
    """One repeat only."""


def _steps(c: Config) -> list[str]:
    return [
        f"The training rows of {c.dataset!r} were sorted by the sum of their features, and the changes of "
        f"label along that order counted.",
        f"The same was done with parts of the rows, each drawn {counted(c.repeats, 'time')}, and with the "
        f"labels shuffled, which can only be memorized.",
    ]


STORY = Story(
    "How many bits does this data need of a network, and does that need level off as rows are added?",
    _steps,
    [
        "The sum of the features is one view of the data: structure that it does not see counts as need.",
        "Where labels as they are need as much as shuffled ones, the bound says nothing about learning.",
    ],
)


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


def headline(frame: "pd.DataFrame") -> list[str]:
    """What all rows need, as they are and shuffled."""
    lines = []
    for name, part in frame.groupby("labels", sort=False):
        last = part.iloc[part["rows"].argmax()]
        lines.append(
            f"{name}: {last['thresholds']:,.0f} changes of label along the feature sum in {last['rows']:,} "
            f"rows, an expected need of {last['expected_bits']:,} bits"
        )
    return lines


def table(frame: "pd.DataFrame") -> "Table":
    """The need of growing parts of the rows, with the labels as they are and shuffled."""
    from capacity._requirement import COLUMNS
    from capacity.registry import column
    from capacity.tables import Table

    rows: list[dict[Any, Any]] = frame.to_dict("records")
    return Table((column("labels"), *COLUMNS), rows)


@styled
def plot(frame: "pd.DataFrame") -> "Figure":
    """Label changes against rows, both logarithmic; memorizing is the diagonal."""
    from analysis.lab.reporting import figures

    figure, axes = figures.new_figure(figures.COLUMN_INCHES, 2.8)
    names = list(frame["labels"].unique())
    colour, mark = figures.colours(names), figures.marks(names)
    for place, name in enumerate(names):
        rows = frame[frame["labels"] == name]
        bars = figures.bounded_bars(rows["thresholds"], rows["thresholds_half_width"], 1, math.inf)
        axes.errorbar(
            rows["rows"], rows["thresholds"].clip(lower=1), yerr=bars, capsize=2, color=colour[name],
            marker=mark[name], linestyle=("-", "--")[place % 2], label=name,
        )  # fmt: skip
    least, most = frame["rows"].min(), frame["rows"].max()
    axes.plot([least, most], [least, most], ":", color=figures.GREY, label="a change at every row")
    axes.set(xlabel="rows", ylabel="label changes along the feature sum")
    figures.log_axis(axes, "x")
    figures.log_axis(axes, "y")
    title = "bars: 95 % interval over the parts drawn"
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2, title=title)
    return figure


def start(config: Config) -> None:
    """Print and write everything."""
    from analysis.lab.models import create
    from analysis.lab.reporting.figures import file_lines, save_figure
    from analysis.lab.runs.directory import open_run
    from capacity import measure
    from capacity.terminal import broken

    data = data_of(config)
    needs = requirements(config, data)
    frame = frame_of(needs)
    lines = [f"{name}: {need.table().to_text(wide=config.wide)}\n" for name, need in needs.items()]
    need = next(iter(needs.values()))
    if config.model != "none":
        model = create(config.model, input_size=data.shape, classes=len(data.classes))
        advice = advice_for(config, data, measure(model, data.input_size), need)
        lines.insert(0, f"{config.model}: {advice}\n")
    folder = open_run("data_requirement", config, name=config.dataset.partition(":")[0])
    folder.save_frame(frame)
    caption = f"Bits that the training rows of {config.dataset} need: {need.table().title}"
    folder.save_text(need.to_latex(caption=caption.replace("\n", "; "), venue=config.venue), "table.tex")
    figure = save_figure(plot(frame), folder.path, "data_requirement", venue=config.venue, pgf=config.pgf)
    print("\n".join(map(broken, [*data.notes, *lines])))
    print(file_lines(folder.path, [figure]))


def main(arguments: Sequence[str] | None = None) -> None:
    execute(Config, {"default": Config()}, start, arguments)


if __name__ == "__main__":
    main()
