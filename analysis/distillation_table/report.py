"""What the rows of the distillation experiment say: summary, table, sentences, figure."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

from analysis.distillation_table.config import Config
from analysis.lab.reporting.style import styled


def summary(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Mean and 95 % interval over seeds, and the paired differences to the student alone and distilled."""
    from analysis.lab.measurement.statistics import paired_difference, summarize

    by = ["network", "variant"]
    frame = frame.rename(columns={"total_parameters": "parameters"})
    means = summarize(
        frame, by, ["top1_error", "top5_error", "kappa", "parameters", "capacity_bits", "points_per_bit"]
    )
    for against in ("alone", "distilled"):
        if against in set(frame["variant"]):
            found = paired_difference(
                frame, "top1_error", against=against, keys=["seed", "network"], by=by, column_name="variant"
            )
            suffix = {
                f"top1_error_difference_{end}": f"error_minus_{against}_{end}"
                for end in ("mean", "half_width")
            }
            means = means.merge(found.rename(columns=suffix), on=by, how="left")
    return means


def table(frame: "pd.DataFrame") -> str:
    """The summary as text."""
    from rich.table import Table

    from analysis.lab.reporting.latex import with_interval
    from capacity.report import render

    means = summary(frame)
    against = [name for name in ("alone", "distilled") if f"error_minus_{name}_mean" in means.columns]
    shown = Table()
    heads = ["network", "variant", "top-1 error [%]", *(f"- {name} [points]" for name in against)]
    for column in (*heads, "kappa", "parameters", "rho [points/bit]"):
        shown.add_column(column, justify="left" if column in ("network", "variant") else "right")
    for row in means.to_dict("records"):
        shown.add_row(
            row["network"], row["variant"], with_interval(row, "top1_error", ".2f", 100),
            *(with_interval(row, f"error_minus_{name}", "+.2f", 100) for name in against),
            with_interval(row, "kappa", ".4f"), with_interval(row, "parameters", ",.0f"),
            with_interval(row, "points_per_bit", ".3g"),
        )  # fmt: skip
    return render(shown, width=150)


def headline(frame: "pd.DataFrame", config: Config) -> list[str]:
    """What the run says, in a few sentences."""
    from analysis.lab.literature import published_students
    from analysis.lab.measurement.verdict import Estimate, difference

    total, seeds = int(frame["total"].iloc[0]), frame["seed"].nunique()
    labels = "all labels" if config.labels is None else f"{config.labels:,} labels for the students"
    lines = [
        f"{config.model} teaches on {config.dataset}, {labels}, {total:,} test points, {seeds} seeds; "
        f"± is a 95 % interval of the mean over seeds"
    ]
    means = summary(frame)
    for row in means.to_dict("records"):
        for against in ("alone", "distilled"):
            gap, half = (
                row.get(f"error_minus_{against}_{end}", float("nan")) for end in ("mean", "half_width")
            )
            fault = row["variant"] in ("class-mean", "dropout-on", "cold", "report-b", "freezing")
            if (against == "distilled") != fault or gap != gap or half != half:
                continue
            verdict = difference(Estimate(gap, half), quick=config.smoke)
            lines.append(
                f"{row['network']}, {row['variant']}: {100 * gap:+.2f} ± {100 * half:.2f} points of error "
                f"beside {against}: {verdict}"
            )
    ours = means.set_index(["network", "variant"])["top1_error_mean"]
    whole = config.labels is None  # published students saw all labels
    for point in published_students([config.model, *config.student], config.dataset) if whole else ():
        if (point.student, point.variant) in ours.index:
            error = ours[(point.student, point.variant)]
            lines.append(
                f"{point.source}, {point.student}, {point.variant}: "
                f"published {100 * point.top1_error:.2f} %, ours {100 * error:.2f} %"
            )
    return lines


@styled
def plot(frame: "pd.DataFrame", config: Config) -> "Figure":
    """Error of each student and variant, mean and interval over seeds, each seed, the teacher as a line."""
    from analysis.distillation_table.trials import variants
    from analysis.lab.reporting.figures import COLUMN_INCHES, colours, new_figure

    means = summary(frame)
    students = means[means["variant"] != "teacher"].iloc[::-1].reset_index(drop=True)
    labels = {name: variant.label for name, variant in variants(config).items()}
    several = students["network"].nunique() > 1
    figure, axes = new_figure(1.35 * COLUMN_INCHES, 0.9 + 0.24 * len(students))
    colour = colours(list(dict.fromkeys(students["network"][::-1])))
    for place, row in enumerate(students.to_dict("records")):
        seeds = frame[(frame["network"] == row["network"]) & (frame["variant"] == row["variant"])]
        axes.plot(
            100 * seeds["top1_error"], [place + 0.2] * len(seeds), "|", color="0.55", markersize=4, zorder=1
        )
        half = row["top1_error_half_width"]
        axes.errorbar(
            100 * row["top1_error_mean"], place, xerr=None if half != half else 100 * half, fmt="o",
            color=colour[row["network"]], capsize=2, elinewidth=0.9,
        )  # fmt: skip
    _plot_published(axes, students, config)
    teacher = means.loc[means["variant"] == "teacher", "top1_error_mean"].iloc[0]
    axes.axvline(100 * teacher, color="0.45", linestyle="--", label=f"teacher, {config.model}")
    axes.set_yticks(
        range(len(students)),
        [
            f"{row.network}, {labels[row.variant]}" if several else labels[row.variant]
            for _, row in students.iterrows()
        ],
    )
    axes.set(xlabel="top-1 error [%]", ylim=(-0.6, len(students) - 0.4))
    handles, texts = axes.get_legend_handles_labels()
    unique = dict(zip(texts, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside upper center", ncols=2)
    return figure


def _plot_published(axes: "Axes", students: "pd.DataFrame", config: Config) -> None:
    """A star on the line of each student and variant that others published, of the same data."""
    from analysis.lab.literature import published_students

    for point in published_students(config.student, config.dataset) if config.labels is None else ():
        match = students[(students["network"] == point.student) & (students["variant"] == point.variant)]
        for place in match.index:
            error, label = 100 * point.top1_error, f"published, {point.source}"
            axes.plot(error, place, "*", color="black", markersize=6, label=label)
