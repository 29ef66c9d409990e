"""What the rows of the study say: each measure's correlations, in a table, sentences and a figure."""

from typing import TYPE_CHECKING

from analysis.generalization_study.config import FACTORS, Config
from analysis.lab.reporting.summaries import once_for_the_same_rows
from capacity.columns import KEY, Column
from capacity.figures import styled
from capacity.tables import Table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.lab.measurement.verdict import Judgement

COLUMNS = (
    Column("label", "more of it", importance=KEY),
    Column("gap_tau", "tau, gap", symbol=r"$\tau$, gap", style="+.2f", importance=9),
    Column("test_tau", "tau, test error", symbol=r"$\tau$, test error", style="+.2f", importance=8),
    Column("score", "beyond two settings", "%", factor=100, style=".1f", better="higher", importance=11),
    Column("verdict", "the gap is then", importance=10),
)


@once_for_the_same_rows
def summary(frame: "pd.DataFrame") -> "pd.DataFrame":
    """A row per measure: means over seeds of tau and of the conditional score, with 95 % intervals."""
    import pandas as pd

    from analysis.generalization_study.judging import Pairs, kendall
    from analysis.generalization_study.measures import MEASURES
    from capacity import mean_half_width

    seeds = [(one, Pairs(one, FACTORS)) for _, one in frame.groupby("seed", sort=True)]
    rows = []
    for name, label in MEASURES.items():
        scores: dict[str, list[float]] = {"gap_tau": [], "test_tau": [], "score": []}
        for one, pairs in seeds:
            gap, error, value = (one[key].to_numpy(dtype=float) for key in ("gap", "test_error", name))
            scores["gap_tau"].append(kendall(value, gap))
            scores["test_tau"].append(kendall(value, error))
            scores["score"].append(pairs.score(value, gap))
        row: dict[str, object] = {"measure": name, "label": label}
        for column, values in scores.items():
            row[f"{column}_mean"] = sum(values) / len(values)
            row[f"{column}_half_width"] = mean_half_width(values)
        rows.append(row)
    return pd.DataFrame(rows).sort_values("score_mean", ascending=False, ignore_index=True)


def judged(row: "pd.Series", *, quick: bool) -> "Judgement":
    """Whether the gap grows with a measure: above zero is worse, below better."""
    from analysis.lab.measurement.verdict import Estimate, compare

    tau = Estimate(float(row["gap_tau_mean"]), float(row["gap_tau_half_width"]))
    return compare(tau, Estimate(0.0, 0.0), margin=0, quick=quick)


def table(frame: "pd.DataFrame", config: Config | None = None) -> Table:
    """The measures, the most telling first."""
    from analysis.lab.measurement.verdict import Verdict
    from analysis.lab.reporting.columns import spread
    from analysis.lab.reporting.story import listed
    from capacity.columns import seeds

    words = {Verdict.WORSE: "larger", Verdict.BETTER: "smaller", Verdict.UNDECIDED: "undecided"}
    quick = config is not None and config.smoke
    rows: list[dict[object, object]] = []
    for _, row in summary(frame).iterrows():
        judgement = judged(row, quick=quick)
        rows.append(dict(row.items()) | {"verdict": words.get(judgement.verdict, str(judgement))})
    count = len(frame) // frame["seed"].nunique()
    datasets, repeats = listed(list(frame["dataset"].unique())), int(frame["seed"].nunique())
    caption = (
        f"Which measures follow the gap between test and training error of {count} networks on {datasets}, "
        f"{seeds(repeats)}: Kendall's tau with gap and test error, and the share of the order of gaps told "
        f"beyond any two settings; {spread(repeats)}"
    )
    more = "with --wide and in summary.csv"
    return Table(COLUMNS, rows, caption=caption, label="tab:generalization-study", more=more)


def headline(frame: "pd.DataFrame", config: Config) -> list[str]:
    """What the run says, in sentences: the best measure, and how capacity does."""
    from analysis.lab.measurement.verdict import Verdict
    from capacity.columns import seeds, with_interval

    count, means = frame["seed"].nunique(), summary(frame)
    lines = [
        f"{len(frame) // count} networks that differ in {', '.join(FACTORS[:-1])} and {FACTORS[-1]}, "
        f"{seeds(count)}; gap is test minus training error, tau Kendall's rank correlation; the score is the "
        f"share of the order of gaps that a measure tells beyond any two settings"
    ]
    if config.smoke:
        return [*lines, str(Verdict.QUICK_PASS)]
    best = means.iloc[0]
    lines.append(f"Most telling: {best['label']}, {_percent(best)} beyond two settings")
    words = {
        Verdict.WORSE: "the more, the larger the gap",
        Verdict.BETTER: "the more, the smaller the gap",
        Verdict.UNDECIDED: "whether the gap grows with it cannot be told",
    }
    for name in ("capacity", "inverse_rho"):
        row = means[means["measure"] == name].iloc[0]
        verdict = judged(row, quick=False).verdict
        tau = with_interval(row["gap_tau_mean"], row["gap_tau_half_width"], "+.2f")
        place = int(means.index[means["measure"] == name][0]) + 1
        lines.append(
            f"{row['label']}: tau {tau}, {words.get(verdict, str(verdict))}; place {place} of {len(means)}, "
            f"{_percent(row)} beyond two settings"
        )
    return lines


def _percent(row: "pd.Series") -> str:
    from capacity.columns import with_interval

    return f"{with_interval(100 * row['score_mean'], 100 * row['score_half_width'], '.1f')} %"


@styled
def plot(frame: "pd.DataFrame", config: Config | None = None) -> "Figure":
    """Left, tau of each measure with gap and test error; right, what it tells beyond two settings."""
    import numpy as np

    from analysis.lab.reporting.figures import PAGE_INCHES, bounded_bars, colours, new_figure

    means = summary(frame)[::-1]
    figure, (left, right) = new_figure(PAGE_INCHES, 3.6, ncols=2, sharey=True)
    colour, places = colours(["gap", "test error", "score"]), np.arange(len(means))
    for shift, mark, name, label in (
        (0.15, "o", "gap_tau", "gap"), (-0.15, "s", "test_tau", "test error"),
    ):  # fmt: skip
        left.errorbar(
            means[f"{name}_mean"], places + shift, linestyle="none",
            xerr=bounded_bars(means[f"{name}_mean"], means[f"{name}_half_width"].fillna(0), -1, 1),
            marker=mark, markersize=3.5, color=colour[label], capsize=1.5, elinewidth=0.8, label=label,
        )  # fmt: skip
    left.axvline(0, color="black", linewidth=0.7)
    left.set(xlabel=r"Kendall's $\tau$ with", xlim=(-1, 1), yticks=places, yticklabels=list(means["label"]))
    scores = 100 * means["score_mean"]
    right.barh(
        places, scores, height=0.6, color=colour["score"],
        xerr=bounded_bars(scores, 100 * means["score_half_width"].fillna(0), 0, 100),
        error_kw={"elinewidth": 0.8, "capsize": 1.5}, label="order of gaps told beyond any two settings",
    )  # fmt: skip
    right.set(xlabel="order of gaps told [%]", xlim=(0, None))
    handles, labels = [
        [*one, *other]
        for one, other in zip(
            left.get_legend_handles_labels(), right.get_legend_handles_labels(), strict=True
        )
    ]
    count = frame["seed"].nunique()
    title = f"bars: 95 % interval of the mean over {count} seeds" if count > 1 else "one seed"
    figure.legend(handles, labels, loc="outside upper center", ncols=3, title=title)
    return figure
