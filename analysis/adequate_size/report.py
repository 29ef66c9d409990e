"""What the rows say: the errors of each width, the smallest adequate one, and what the pilot foretold."""

from dataclasses import dataclass
from math import log2
from typing import TYPE_CHECKING

from analysis.adequate_size.config import Config
from analysis.lab.reporting.summaries import once_for_the_same_rows
from capacity.columns import KEY, Column, percent, seeds
from capacity.figures import styled
from capacity.tables import Table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from capacity.recommendation import Advice

COLUMNS = (
    Column("width", "units", style=",", importance=KEY),
    Column(
        "validation_error", "validation error", "%", factor=100, style=".2f", better="lower", importance=8
    ),
    Column("test_error", "test error", "%", factor=100, style=".2f", better="lower", importance=9),
    Column("training_error", "training error", "%", factor=100, style=".2f", better="lower", importance=5),
    Column("said", "found", importance=7),
)


@dataclass(frozen=True)
class SizeOutcome:
    """The smallest adequate width and the best one; the size that was foretold, and its 90 % range."""

    adequate: int
    best: int
    foretold: int
    low: int
    high: int
    beyond: str

    @property
    def octaves(self) -> float:
        """How far foretold and measured lie apart: 1 is a factor of two."""
        return abs(log2(self.foretold / self.adequate))

    @property
    def held(self) -> bool:
        """Whether the range holds what was found."""
        return self.low <= self.adequate <= self.high


def size_outcome(frame: "pd.DataFrame", advice: "Advice | None" = None) -> SizeOutcome:
    """What the rows of one data set say beside the advice, by default the one recorded with the package."""
    from analysis.sizing.sizes import adequate
    from capacity.pilots import Pilot
    from capacity.recommendation import recorded

    size, row = adequate(frame).iloc[0], frame.iloc[0]
    pilot = Pilot(int(row["pilot_rows"]), row["pilot_small_error"], row["pilot_large_error"])
    facts: dict[str, float] = {name: int(row[name]) for name in ("features", "classes")}
    facts |= {"rows": pilot.rows, "pilot_gap": pilot.gap}
    advice = advice or recorded("pilot")
    return SizeOutcome(int(size["adequate"]), int(size["best"]), *advice.units(facts), advice.beyond(facts))


@once_for_the_same_rows
def summary(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Means and 95 % intervals over seeds of each width's errors."""
    from analysis.lab.measurement.statistics import summarize

    return summarize(frame, ["width"], ["validation_error", "test_error", "training_error"])


def table(frame: "pd.DataFrame", config: Config | None = None) -> Table:
    """A row per width."""
    from analysis.lab.reporting.columns import spread

    size = size_outcome(frame)
    said = {size.best: "best", size.adequate: "adequate"}
    means = summary(frame)
    rows = means.assign(said=[said.get(width, "") for width in means["width"]]).to_dict("records")
    first, count = frame.iloc[0], int(frame["seed"].nunique())
    caption = (
        f"Networks of one hidden layer on {first['dataset']}, {first['samples']:,} training samples, "
        f"{first['test_samples']:,} test points, {first['classes']} classes, {seeds(count)}; "
        f"{spread(count)}; "
        f"adequate is the smallest within one standard error of the best on validation"
    )
    return Table(COLUMNS, rows, caption=caption, label="tab:adequate-size", more="with --wide")


def headline(frame: "pd.DataFrame", config: Config) -> list[str]:
    """What the run says, in sentences; verdicts are computed."""
    from analysis.lab.measurement.verdict import Verdict

    size, row = size_outcome(frame), frame.iloc[0]
    means = summary(frame).set_index("width")["test_error_mean"]
    lines = [
        f"{row['dataset']}: {row['samples']:,} training samples, {row['features']:,} features, "
        f"{row['classes']} classes, {seeds(int(frame['seed'].nunique()))}",
        f"foretold by a pilot on {row['pilot_rows']:,} rows: {size.foretold:,} units "
        f"(90 % range {size.low:,} to {size.high:,}){size.beyond}",
    ]
    if config.smoke:
        return [*lines, str(Verdict.QUICK_PASS)]
    if frame["seed"].nunique() == 1:
        return [*lines, str(Verdict.ONE_SEED)]
    last = ", the largest tried" if size.best == frame["width"].max() else ""
    held = "holds it" if size.held else "does not hold it"
    return [
        *lines,
        f"found: {size.adequate:,} units, the smallest within one standard error of the best "
        f"({size.best:,}{last}) on validation; test error {percent(means[size.adequate], 2)} beside "
        f"{percent(means[size.best], 2)}",
        f"foretold and found lie a factor of {2**size.octaves:.2g} apart; the range {held}",
    ]


@styled
def plot(frame: "pd.DataFrame", config: Config | None = None) -> "Figure":
    """Errors against width, with what was foretold and what was found."""
    from matplotlib.ticker import FixedLocator

    from analysis.lab.reporting import figures

    figure, axes = figures.new_figure(figures.COLUMN_INCHES, 2.9)
    means, size = summary(frame), size_outcome(frame)
    labels = {"validation_error": "validation", "test_error": "test", "training_error": "training"}
    colour, mark = figures.colours([*labels, "range"]), figures.marks(list(labels))
    axes.axvspan(size.low, size.high, color="0.92", linewidth=0, label="foretold, 90 % range")
    axes.axvline(size.foretold, color="0.5", linestyle=":", label="foretold")
    axes.axvline(size.adequate, color="black", linestyle="--", linewidth=0.9, label="smallest adequate")
    for name, label in labels.items():
        percent = {f"{name}_{part}": 100 * means[f"{name}_{part}"] for part in ("mean", "half_width")}
        figures.interval_line(
            axes, means.assign(**percent), "width", name, limits=(0, 100), color=colour[name],
            marker=mark[name], label=label,
        )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(sorted(frame["width"].unique())))
    axes.xaxis.set_major_formatter(figures.spaced(lambda width, place: f"{width:,.0f}"))
    axes.set(xlabel="units of the one hidden layer", ylabel="top-1 error [%]", ylim=(0, None))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure
