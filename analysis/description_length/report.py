"""What the rows of the description length experiment say: summary, table, sentences, figure."""

import math
from typing import TYPE_CHECKING

from analysis.description_length.config import Config
from analysis.lab.reporting.summaries import once_for_the_same_rows
from capacity.columns import percent
from capacity.figures import styled
from capacity.tables import Table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = (
    "label_bits", "file_bits", "residual_bits", "description_bits", "learned_share", "training_error",
    "top1_error", "top1_error_bound", "file_bytes",
)  # fmt: skip


@once_for_the_same_rows
def summary(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Mean and 95 % interval over seeds of each code of the labels as they are and shuffled."""
    from analysis.lab.measurement.statistics import summarize

    return summarize(frame, ["labels", "method", "density"], list(COLUMNS))


def table(frame: "pd.DataFrame", config: Config | None = None) -> Table:
    """The summary as a table."""
    from analysis.lab.reporting.columns import setting, table_of

    names = (
        "labels", "method", "density", "file_bits", "residual_bits", "description_bits", "learned_share",
        "top1_error", "top1_error_bound",
    )  # fmt: skip
    scored = frame.dropna(subset="total")
    caption = f"Bits that tell the labels of the training samples: {setting(scored, config)}"
    means = summary(frame)
    means.loc[means["method"] == "prequential", "density"] = math.nan  # it keeps no file
    return table_of(means, names, caption=caption, label="tab:description-length")


def best(frame: "pd.DataFrame", labels: str, code: str) -> "pd.DataFrame":
    """The rows, one a seed, of the network of this code whose mean description is shortest."""
    import pandas as pd

    rows = frame[(frame["labels"] == labels) & (frame["code"] == code)]
    means = rows.groupby(["method", "density"])["description_bits"].mean()
    chosen = pd.MultiIndex.from_frame(rows[["method", "density"]]) == means.idxmin()
    return rows[chosen]


def headline(frame: "pd.DataFrame", config: Config) -> list[str]:
    """What the run says: what the labels are, what tells them, what the network could hold."""
    from analysis.lab.reporting.columns import setting

    first = frame.iloc[0]
    lines = [
        setting(frame.dropna(subset="total"), config),
        f"The {first['samples']:,.0f} training labels are {first['label_bits']:,.0f} bits; the network could "
        f"hold {first['convention_bits']:,.0f} by the convention, and {first['proven_bits']:,.0f} at most by "
        f"proof ({first['parameters']:,.0f} parameters)",
    ]
    for kind in config.labels:
        for code in ("file", "prequential"):
            lines.append(_said(frame, kind, code, config))
    guaranteed = frame[(frame["labels"] == "true") & (frame["code"] == "file")]
    if len(guaranteed):
        row = guaranteed.sort_values("top1_error_bound").iloc[0]
        lines.append(
            f"A file of {row['file_bytes']:,.0f} bytes (seed {row['seed']:.0f}) guarantees at most "
            f"{percent(row['top1_error_bound'], 1)} error on new data, with confidence 0.95, the choice "
            f"among all "
            f"files of the run paid for; on the test it errs on {percent(row['top1_error'], 1)}"
        )
    return lines


def _said(frame: "pd.DataFrame", kind: str, code: str, config: Config) -> str:
    """One code of one kind of labels; whether anything was learned is judged by the interval over seeds."""
    from analysis.lab.measurement.verdict import Estimate, Verdict, compare
    from capacity import mean_half_width
    from capacity.columns import with_interval

    rows = best(frame, kind, code)
    shares = rows["learned_share"].tolist()
    mean, half = sum(shares) / len(shares), mean_half_width(shares)
    judged = compare(
        Estimate(mean, half), Estimate(0.0, 0.0), margin=0, lower_is_better=False, quick=config.smoke
    )
    words = {
        Verdict.BETTER: "learned: fewer bits than the labels themselves",
        Verdict.WORSE: "nothing learned: more bits than the labels themselves",
    }
    what = "block by block, without a file"
    if code == "file":
        what = f"a file of {rows['file_bytes'].mean():,.0f} bytes ({100 * rows['density'].iloc[0]:g} % kept)"
    bits = f"{rows['description_bits'].mean():,.0f} bits"
    return (
        f"{kind} labels, {what}: {bits}, share learned {with_interval(100 * mean, 100 * half, '.1f')} %: "
        f"{words.get(judged.verdict, str(judged))}"
    )


@styled
def plot(frame: "pd.DataFrame", config: Config | None = None) -> "Figure":
    """Bits that tell the labels against bits of the file, beside the bits of the labels themselves."""
    import numpy as np

    from analysis.lab.reporting import figures

    means, kinds = summary(frame), list(frame["labels"].unique())
    inches = figures.PAGE_INCHES if len(kinds) > 1 else figures.COLUMN_INCHES
    figure, panels = figures.new_figure(inches, 2.9, ncols=len(kinds), sharex=True, sharey=True)
    for axes, kind in zip(np.atleast_1d(panels), kinds, strict=True):
        _draw(axes, means[means["labels"] == kind])
        title = "labels as they are" if kind == "true" else "labels shuffled"
        axes.set(xlabel="file [bit]", title=title, ylim=(0, 1.15 * means["description_bits_mean"].max()))
    for axes in np.atleast_1d(panels):  # once all are drawn: they share it
        figures.log_axis(axes, "x")
    first = np.atleast_1d(panels)[0]
    first.set_ylabel("bits that tell the labels")
    handles, labels = first.get_legend_handles_labels()
    count = frame["seed"].nunique()
    title = f"bars: 95 % interval of the mean over {count} seeds" if count > 1 else "one seed"
    figure.legend(handles, labels, loc="outside upper center", ncols=2, title=title)
    return figure


def _draw(axes: "Axes", rows: "pd.DataFrame") -> None:
    """The codes of one kind of labels."""
    from analysis.lab.reporting import figures

    colour = figures.colours(["description", "residual", "prequential"])
    files = rows[rows["method"] != "prequential"].sort_values("file_bits_mean")
    files = files.assign(bits=files["file_bits_mean"])
    given = "labels given the network"
    figures.interval_line(
        axes, files, "bits", "description_bits", limits=(0, math.inf), color=colour["description"],
        marker="o", label=f"{given}, and its file",
    )  # fmt: skip
    figures.interval_line(
        axes, files, "bits", "residual_bits", limits=(0, math.inf), color=colour["residual"], marker="s",
        linestyle="--", label=given,
    )  # fmt: skip
    blockwise = rows[rows["method"] == "prequential"].iloc[0]
    axes.axhline(
        blockwise["description_bits_mean"], color=colour["prequential"], linestyle="-.",
        label="block by block, no file",
    )  # fmt: skip
    axes.axhline(
        float(rows["label_bits_mean"].iloc[0]), color="black", linewidth=0.9, linestyle=":",
        label="the labels themselves, $n \\cdot H$",
    )  # fmt: skip
