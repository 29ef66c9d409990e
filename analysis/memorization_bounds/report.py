"""What the rows say: for each line that is said to bound what a network stores, who crosses it."""

from typing import TYPE_CHECKING, Any

from analysis.lab.reporting.columns import MORE
from analysis.lab.reporting.summaries import once_for_the_same_rows
from analysis.memorization_bounds.config import Config
from capacity.columns import KEY, Column, percent
from capacity.figures import styled
from capacity.tables import Table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

LINES = {
    "previous_bits": "capacity, convention 'previous'",
    "running_bits": "capacity, convention 'running'",
    "uncapped_bits": "capacity, convention 'uncapped'",
    "parameters": "one bit a parameter",
    "w_log_w_bits": "W log2 W",
    "piece_bits": "proven: pieces (VC dimension)",
    "storage_bits": "proven: bits of the stored weights",
}
SHORT = {
    "previous_bits": "capacity, previous", "running_bits": "capacity, running",
    "uncapped_bits": "capacity, uncapped", "parameters": "W", "w_log_w_bits": "W log2 W",
    "piece_bits": "proven: pieces",
    "storage_bits": "proven: storage",
}  # fmt: skip
SEARCHED = "each search is one seed's and finds a lower bound"
PROVEN = ("piece_bits", "storage_bits")
COLUMNS = (
    Column("label", "line", importance=KEY),
    Column("networks", "networks", style=",", importance=4),
    Column("crossed", "crossed by", style=",", importance=9),
    Column("ratio", "stored / line, median", style=".3g", importance=8),
    Column("most", "most", style=".3g", importance=7),
    Column("where", "most by", importance=3),
)
NETWORKS = (
    Column("network", "network", importance=KEY),
    Column("classes", "classes", style=",", importance=KEY),
    Column("parameters", "parameters", style=",", importance=8),
    Column("stored_bits", "stored", "bit", style=",.0f", importance=10),
    Column("missed_bits", "first miss", "bit", style=",.0f", importance=5),
    Column("bits_per_parameter", "stored", "bit/parameter", style=".2f", importance=7),
    Column("previous_bits", "previous", "bit", style=",", importance=6),
    Column("running_bits", "running", "bit", style=",", importance=4),
    Column("uncapped_bits", "uncapped", "bit", style=",", importance=4),
    Column("piece_bits", "pieces", "bit", style=",.0f", importance=3, missing="none"),
    Column("storage_bits", "storage", "bit", style=",", importance=2),
)


@once_for_the_same_rows
def summary(frame: "pd.DataFrame") -> "pd.DataFrame":
    """A row per line: how many networks cross it, and the ratio of what is stored to it, median and most.

    ratio_low, ratio_high: 95 % interval of the median, from order statistics, where there are enough networks
    """
    import pandas as pd

    rows = []
    for name, label in LINES.items():
        held = frame[frame[name].notna()]
        if held.empty:
            continue
        ratios = (held["stored_bits"] / held[name]).to_numpy(dtype=float)
        low, high = median_interval(ratios)
        worst = held.iloc[int(ratios.argmax())]
        rows.append({
            "line": name, "label": label, "networks": len(held), "crossed": int((ratios > 1).sum()),
            "ratio": float(pd.Series(ratios).median()), "ratio_low": low, "ratio_high": high,
            "most": float(ratios.max()), "where": f"{worst['network']}, {worst['classes']} classes",
        })  # fmt: skip
    return pd.DataFrame(rows)


def median_interval(values: Any) -> tuple[float, float]:
    """95 % interval of a median from order statistics; NaN of fewer than six values.

    Reference: David and Nagaraja 2003, "Order statistics", section 7.1.

    >>> median_interval([1, 2, 3, 4, 5, 6])
    (1.0, 6.0)
    """
    import numpy as np
    from scipy.stats import binom

    ordered = np.sort(np.asarray(values, dtype=float))
    place = int(binom.ppf(0.025, len(ordered), 0.5))  # of the first that the interval may hold
    if 2 * binom.cdf(place - 1, len(ordered), 0.5) > 0.05 or place < 1:
        return float("nan"), float("nan")
    return float(ordered[place - 1]), float(ordered[len(ordered) - place])


def networks_table(frame: "pd.DataFrame") -> Table:
    """The networks."""
    rows: list[dict[Any, Any]] = frame.to_dict("records")
    caption = (
        f"Bits of random labels that each network stored, beside the lines that are said to bound them; "
        f"{SEARCHED}"
    )
    return Table(NETWORKS, rows, caption=caption, label="tab:memorization-networks", more=MORE)


def table(frame: "pd.DataFrame", config: Config | None = None) -> Table:
    """The lines."""
    rows: list[dict[Any, Any]] = summary(frame).to_dict("records")
    caption = (
        f"Bits of random labels that {len(frame)} searches stored, beside what is said to bound them; "
        f"{SEARCHED}"
    )
    return Table(
        COLUMNS, rows, caption=caption, label="tab:memorization-bounds", more="with --wide and in summary.csv"
    )


def headline(frame: "pd.DataFrame", config: Config) -> list[str]:
    """What the run says, in sentences: which lines hold and which are crossed."""
    from analysis.lab.measurement.verdict import Verdict
    from analysis.lab.reporting.story import listed

    count = frame["network"].nunique()
    low, high = median_interval(frame["bits_per_parameter"])
    middle = frame["bits_per_parameter"].median()
    spread = f" (95 % of the median: {low:.2f} to {high:.2f})" if low == low else ""
    lines = [
        f"{count} networks, labels of {listed(sorted(frame['classes'].unique()))} classes: the "
        f"median stores {middle:.2f} bits a parameter{spread}; what training stores is a lower bound"
    ]
    if config.smoke:
        return [*lines, str(Verdict.QUICK_PASS)]
    for row in summary(frame).to_dict("records"):
        lines.append(said(row))
    return lines


def said(row: dict[Any, Any]) -> str:
    """Whether one line is crossed. A proven one that is would be a fault of this program."""
    total = f"{row['crossed']} of {row['networks']} searches"
    if row["line"] in PROVEN:
        if row["crossed"]:
            return f"{row['label']}: crossed by {total}: the bound or the count is wrong here"
        most = percent(row["most"], 1)
        return f"{row['label']}: held by all {row['networks']}, which fill {most} of it at most"
    if row["crossed"]:
        return f"{row['label']}: no bound, crossed by {total}, up to {row['most']:.3g} times ({row['where']})"
    return f"{row['label']}: not crossed by any of {row['networks']}, up to {row['most']:.3g} times"


@styled
def plot(frame: "pd.DataFrame", config: Config | None = None) -> "Figure":
    """Left, bits stored against parameters; right, how much of each line every network fills."""
    import numpy as np

    from analysis.lab.reporting import figures

    figure, (left, right) = figures.new_figure(figures.PAGE_INCHES, 3.3, ncols=2)
    families = list(frame["family"].unique())
    colour, mark = figures.colours(families), figures.marks(families)
    rows = summary(frame)
    aside = dict(zip(families, np.linspace(0.3, -0.3, len(families)), strict=True))
    for family in families:
        part = frame["family"] == family
        style = {"color": colour[family], "marker": mark[family], "linestyle": "none", "markersize": 3.5}
        left.plot(frame[part]["parameters"], frame[part]["stored_bits"].clip(lower=1), label=family, **style)
        for place, name in enumerate(rows["line"]):
            ratio = frame[part]["stored_bits"] / frame[part][name]
            right.plot(
                ratio.clip(lower=1e-4),
                [place + aside[family]] * len(ratio),
                alpha=0.8,
                **style | {"markersize": 2.5},
            )
    ends = np.array([frame["parameters"].min(), frame["parameters"].max()], dtype=float)
    for factor, dash in ((1, "-"), (2, "--")):
        name = "1 bit a parameter" if factor == 1 else f"{factor} bits a parameter"
        left.plot(ends, factor * ends, "k" + dash, linewidth=0.8, label=name)
    for axis in ("x", "y"):
        figures.log_axis(left, axis)
    left.set(xlabel="parameters W", ylabel="random labels stored [bit]")
    right.axvline(1, color=figures.GREY, linewidth=0.9, linestyle=":", label="as much as the line says")
    figures.log_axis(right, "x")
    right.set(xlabel="stored / line", yticks=range(len(rows)))
    right.set_yticklabels([SHORT[name] for name in rows["line"]])
    parts = zip(left.get_legend_handles_labels(), right.get_legend_handles_labels(), strict=True)
    handles, labels = [[*one, *other] for one, other in parts]
    figure.legend(handles, labels, loc="outside upper center", ncols=4)
    return figure
