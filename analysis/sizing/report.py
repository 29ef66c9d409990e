"""What the rows of the sizing experiment say: each predictor judged, in tables, sentences and a figure."""

from typing import TYPE_CHECKING, Any

from analysis.lab.reporting.columns import MORE
from analysis.lab.reporting.summaries import once_for_the_same_rows
from analysis.sizing.config import Config
from capacity.columns import seeds
from capacity.figures import styled
from capacity.tables import Table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@once_for_the_same_rows
def summary(frame: "pd.DataFrame") -> "pd.DataFrame":
    """A row per predictor; each data set is foretold from the others.

    rank: Spearman's between value and adequate size, with its 95 % interval; octaves: distance of foretold
    and adequate size, 1 is a factor of two; gain: octaves by which it is nearer than 64 units always;
    regret: test error beyond that of the best width; within_two: share within a factor of two.
    """
    import numpy as np
    import pandas as pd

    from analysis.sizing.advice import judged
    from analysis.sizing.judging import foretell, rank_correlation
    from analysis.sizing.predictors import tables_of, unfitted
    from analysis.sizing.sizes import adequate

    sets = adequate(frame)
    octaves = np.log2(sets["adequate"].to_numpy(dtype=float))
    facts = sets.to_dict("records")
    guesses = {name: (guess, guess) for name, guess in unfitted(facts).items()}
    for name, values in tables_of(facts).items():
        value = values[:, 0] if values.shape[1] else np.zeros(len(sets))
        guesses[name] = (value, foretell(values, octaves))
    rows: list[dict[str, Any]] = []
    for name, (value, guess) in guesses.items():
        ranks = dict(zip(("rank", "rank_low", "rank_high"), rank_correlation(value, octaves), strict=True))
        rows.append({"predictor": name} | ranks | judged(frame, sets, guess))
    return pd.DataFrame(rows)


@once_for_the_same_rows
def sizes(frame: "pd.DataFrame") -> "pd.DataFrame":
    """A row per data set: its facts, the adequate size, and the size and range that the pilot foretells it.

    Line and range come from the other data sets.
    """
    import numpy as np

    from analysis.sizing.advice import KINDS
    from analysis.sizing.judging import foretell_by_the_best
    from analysis.sizing.predictors import tables_of
    from analysis.sizing.sizes import adequate

    sets = adequate(frame)
    tables = {name: v for name, v in tables_of(sets.to_dict("records")).items() if name in KINDS["pilot"]}
    foretold = foretell_by_the_best(tables, np.log2(sets["adequate"].to_numpy(dtype=float)))
    least, most = frame["width"].min(), frame["width"].max()
    ends = {"foretold": np.zeros(len(sets)), "low": -foretold.half_ranges, "high": foretold.half_ranges}
    return sets.assign(**{n: np.clip(2 ** (foretold.octaves + end), least, most) for n, end in ends.items()})


def sets_table(frame: "pd.DataFrame") -> Table:
    """The data sets."""
    from analysis.sizing.columns import SETS

    rows: list[dict[Any, Any]] = sizes(frame).to_dict("records")
    caption = f"The smallest adequate width of {len(rows)} data sets, and the width foretold from the others"
    return Table(SETS, rows, caption=caption, label="tab:sizing-sets", more=MORE)


def table(frame: "pd.DataFrame", config: Config | None = None) -> Table:
    """The predictors."""
    from analysis.sizing.columns import PREDICTORS

    rows: list[dict[Any, Any]] = summary(frame).to_dict("records")
    caption = (
        f"What foretells the smallest adequate width of {frame['dataset'].nunique()} data sets, "
        f"{seeds(int(frame['seed'].nunique()))}, each set from the others; ± is a 95 % interval over data "
        f"sets"
    )
    return Table(PREDICTORS, rows, caption=caption, label="tab:sizing", more="with --wide and in summary.csv")


def headline(frame: "pd.DataFrame", config: Config) -> list[str]:
    """What the run says, in sentences; verdicts are computed."""
    from analysis.lab.measurement.verdict import Verdict
    from analysis.sizing.advice import KINDS, advice_of
    from analysis.sizing.predictors import REACHED

    widths = sorted(frame["width"].unique())
    lines = [
        f"{frame['dataset'].nunique()} data sets, {seeds(int(frame['seed'].nunique()))}, one hidden layer "
        f"of {widths[0]} to "
        f"{widths[-1]} units; adequate is the smallest within one standard error of the best on validation; "
        f"± and [ ] are 95 % intervals over data sets"
    ]
    if config.smoke:
        return [*lines, str(Verdict.QUICK_PASS)]
    rows = summary(frame).set_index("predictor")
    reached = rows.loc[REACHED]
    lines.append(
        f"{REACHED}: rank correlation with the adequate size {reached['rank']:+.2f} "
        f"[{reached['rank_low']:+.2f}, {reached['rank_high']:+.2f}]"
    )
    for kind in KINDS:
        advice = advice_of(frame, kind)
        lines.append(
            f"best of {kind}: {advice.predictor}; {advice}; against 64 units always: {advice.verdict}"
        )
    return lines


@styled
def plot(frame: "pd.DataFrame", config: Config | None = None) -> "Figure":
    """Left, each data set's foretold and adequate size, with ranges; right, how far each predictor is off."""
    import numpy as np
    from matplotlib.ticker import FixedLocator

    from analysis.lab.reporting.figures import PAGE_INCHES, colours, new_figure, spaced

    rows, judged = sizes(frame), summary(frame)
    figure, (left, right) = new_figure(PAGE_INCHES, 3.4, ncols=2)
    colour = colours(["sets", "predictors"])
    grid = np.sort(frame["width"].unique())
    shake = 2 ** np.random.default_rng(0).uniform(-0.2, 0.2, len(rows))  # equal sizes side by side
    bars = [rows["foretold"] - rows["low"], rows["high"] - rows["foretold"]]
    left.errorbar(rows["adequate"] * shake, rows["foretold"], yerr=bars, fmt="o", elinewidth=0.6, alpha=0.7,
                  color=colour["sets"], label="by the pilot, 90 % range")  # fmt: skip
    left.plot(grid, grid, "--", color="0.5", linewidth=0.8, label="foretold = adequate")
    left.axhline(64, color="0.5", linestyle=":", linewidth=0.8, label="64 units always")
    left.set_xscale("log", base=2)
    left.set_yscale("log", base=2)
    for axis in (left.xaxis, left.yaxis):
        axis.set_major_locator(FixedLocator(grid.tolist()))
        axis.set_major_formatter(spaced(lambda width, place: f"{width:,.0f}"))
    left.set(xlabel="smallest adequate size [units]", ylabel="foretold from the other data sets [units]")
    place = np.arange(len(judged))[::-1]
    half = judged["octaves_half_width"]
    right.errorbar(judged["octaves_mean"], place, xerr=half, fmt="s", color=colour["predictors"], capsize=2,
                   elinewidth=0.8, label="mean and 95 % interval")  # fmt: skip
    right.set_yticks(place, judged["predictor"])
    right.axvline(1, color="black", linestyle="-.", linewidth=0.8, label="a factor of two")
    right.set(xlabel="distance to the adequate size [octaves]", xlim=(0, None))
    parts = zip(left.get_legend_handles_labels(), right.get_legend_handles_labels(), strict=True)
    handles, labels = [[*one, *other] for one, other in parts]
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return figure
