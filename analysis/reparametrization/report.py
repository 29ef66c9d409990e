"""What the rows say: by which factor each change moves each measure, in a table, sentences and a figure."""

from typing import TYPE_CHECKING, Any

from analysis.lab.reporting.summaries import once_for_the_same_rows
from analysis.reparametrization.config import CHANGES, Config
from capacity.columns import KEY, Column, number, with_interval
from capacity.figures import styled
from capacity.tables import Table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

MARGIN = 0.01  # within which a factor counts as one


@once_for_the_same_rows
def summary(frame: "pd.DataFrame") -> "pd.DataFrame":
    """A row per measure and change: mean over networks of after over before, 95 % interval, verdict."""
    import pandas as pd

    from analysis.lab.measurement.verdict import Estimate, compare
    from analysis.reparametrization.measures import MEASURES
    from capacity import mean_half_width

    keys = ["dataset", "seed"]
    measured = {change: part.set_index(keys)[[*MEASURES]] for change, part in frame.groupby("change")}
    moved = {change: measured[change] / measured["none"] for change in CHANGES}
    rows = []
    for measure in MEASURES:
        for change in CHANGES:
            factors = moved[change][measure].tolist()
            mean, half = sum(factors) / len(factors), mean_half_width(factors)
            judgement = compare(Estimate(mean, half), Estimate(1.0, 0.0), margin=MARGIN)
            rows.append({
                "measure": measure, "change": change, "networks": len(factors), "factor_mean": mean,
                "factor_half_width": half, "verdict": str(judgement.verdict),
            })  # fmt: skip
    return pd.DataFrame(rows)


def moves(means: "pd.DataFrame") -> "pd.DataFrame":
    """A row per measure: the changes that leave it, that move it, and by which factors at least and most.

    Of measures that as many changes leave the one with the narrower range of factors comes first.
    """
    import numpy as np
    import pandas as pd

    from analysis.lab.measurement.verdict import Verdict

    rows = []
    for measure, part in means.groupby("measure", sort=False):
        stays = part["verdict"].isin([Verdict.EXACT, Verdict.EQUIVALENT])
        moved = part["verdict"].isin([Verdict.BETTER, Verdict.WORSE])
        rows.append({
            "measure": measure, "stays": int(stays.sum()), "moves": int(moved.sum()),
            "undecided": int((~stays & ~moved).sum()), "least": part["factor_mean"].min(),
            "most": part["factor_mean"].max(),
        })  # fmt: skip
    factors = pd.DataFrame(rows)
    reach = np.log2(factors["most"]) - np.log2(factors["least"])
    return factors.assign(reach=reach).sort_values(["stays", "reach"], ascending=[False, True])


def _columns() -> tuple[Column, ...]:
    changes = [
        Column(name, heading, style=".3g", importance=8 - place)
        for place, (name, (_, heading)) in enumerate(CHANGES.items())
    ]
    return (
        Column("label", "measure", importance=KEY),
        Column("stays", f"stays, of {len(CHANGES)}", style=",", importance=12),
        Column("least", "least", style=".2g", importance=11),
        Column("most", "most", style=".2g", importance=10),
        *changes,
    )


def table(frame: "pd.DataFrame", config: Config | None = None) -> Table:
    """A row per measure with the factor of each change; 1 where it is shown to be so within a hundredth."""
    from analysis.lab.measurement.verdict import Verdict
    from analysis.reparametrization.measures import MEASURES

    means = summary(frame)
    same = means["verdict"].isin([Verdict.EXACT, Verdict.EQUIVALENT])
    means = means.assign(
        factor_mean=means["factor_mean"].where(~same, 1.0),
        factor_half_width=means["factor_half_width"].where(~same, 0.0),
    )
    rows: list[dict[Any, Any]] = []
    for row in moves(means).to_dict("records"):
        cells: dict[Any, Any] = {"label": MEASURES[row["measure"]]} | row
        for factor in means[means["measure"] == row["measure"]].to_dict("records"):
            cells[f"{factor['change']}_mean"] = factor["factor_mean"]
            cells[f"{factor['change']}_half_width"] = factor["factor_half_width"]
        rows.append(cells)
    caption = (
        f"Factors by which measures of {means['networks'].iloc[0]} networks move while the function stays: "
        f"mean and 95 % interval over networks"
    )
    more = "with --wide and in summary.csv"
    return Table(_columns(), rows, caption=caption, label="tab:reparametrization", more=more)


def headline(frame: "pd.DataFrame", config: Config) -> list[str]:
    """What the run says, in sentences: which measures stay, and what moves the capacity."""
    from analysis.lab.measurement.verdict import Verdict
    from analysis.lab.reporting.story import listed
    from analysis.reparametrization.measures import MEASURES

    means = summary(frame)
    factors = moves(means)
    count = int(means["networks"].iloc[0])
    lines = [
        f"{count} networks, {len(CHANGES)} changes of each; outputs moved by at most "
        f"{number(frame['moved'].max(), '.1g')} of the largest"
    ]
    if config.smoke or frame["seed"].nunique() == 1:
        return [*lines, str(Verdict.QUICK_PASS if config.smoke else Verdict.ONE_SEED)]
    unmoved = factors[factors["stays"] == len(CHANGES)]["measure"]
    stay = listed([MEASURES[name] for name in unmoved]) if len(unmoved) else "none"
    lines.append(f"Moved by no change: {stay}")
    for name in ("previous_bits", "effective_bits", "rounded_bits"):
        lines.append(said(MEASURES[name], means[means["measure"] == name]))
    return lines


def said(label: str, part: "pd.DataFrame") -> str:
    """Which changes move one measure, and by which factor."""
    from analysis.lab.measurement.verdict import Verdict

    moved = part[part["verdict"].isin([Verdict.BETTER, Verdict.WORSE])]
    if moved.empty:
        return f"{label}: no change is shown to move it"
    parts = [
        f"{CHANGES[row['change']][1]} {with_interval(row['factor_mean'], row['factor_half_width'], '.3g')}"
        for row in moved.to_dict("records")
    ]
    return f"{label}: moved by {len(moved)} of {len(part)}, times {', '.join(parts)}"


@styled
def plot(frame: "pd.DataFrame", config: Config | None = None) -> "Figure":
    """The factor of each change and measure, as a number and as a colour."""
    import numpy as np
    from matplotlib import colormaps

    from analysis.lab.reporting import figures
    from analysis.reparametrization.measures import MEASURES

    means = summary(frame)
    order = list(moves(means)["measure"])
    factors = means.pivot(index="measure", columns="change", values="factor_mean").loc[order, list(CHANGES)]
    values = factors.to_numpy(dtype=float)
    figure, axes = figures.new_figure(figures.PAGE_INCHES, 4.0)
    shades = colormaps["RdBu_r"](np.clip(np.log2(values) / 8 + 0.5, 0.25, 0.75))
    axes.set(xlim=(-0.5, len(CHANGES) - 0.5), ylim=(len(order) - 0.5, -0.5))
    for (row, column), value in np.ndenumerate(values):
        shade = tuple(shades[row, column])
        axes.plot([column], [row], "o", markersize=12.5, markeredgewidth=0, color=shade, clip_on=False)
        same = abs(value - 1) < MARGIN / 2
        axes.text(
            column, row, "1" if same else f"{value:.2g}".lstrip("0"), ha="center", va="center", fontsize=6.5,
            color="0.6" if same else "black",
        )  # fmt: skip
    headings = [heading for _, heading in CHANGES.values()]
    axes.set_xticks(range(len(CHANGES)), headings, rotation=35, ha="right")
    axes.set_yticks(range(len(order)), [MEASURES[name] for name in order])
    axes.tick_params(length=0)
    axes.grid(False)
    axes.set_title("after over before, mean over networks", fontsize=7)
    for side in axes.spines.values():
        side.set_visible(False)
    return figure
