"""What the rows of the distillation experiment say: summary, table, sentences, figure."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

from analysis.distillation_table.config import Config
from analysis.lab.reporting.columns import axis_label
from analysis.lab.reporting.summaries import once_for_the_same_rows
from capacity.figures import styled
from capacity.tables import Table


@once_for_the_same_rows
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
            paired = paired_difference(
                frame, "top1_error", against=against, keys=["seed", "network"], by=by, column_name="variant"
            )
            suffix = {
                f"top1_error_difference_{end}": f"error_minus_{against}_{end}"
                for end in ("mean", "half_width")
            }
            means = means.merge(paired.rename(columns=suffix), on=by, how="left")
    return means


def table(frame: "pd.DataFrame", config: Config | None = None) -> Table:
    """The summary as a table."""
    from analysis.lab.reporting.columns import setting, table_of

    names = (
        "network", "variant", "top1_error", "error_minus_alone", "error_minus_distilled", "kappa",
        "parameters", "points_per_bit", "top5_error",
    )  # fmt: skip
    caption = f"Students alone and under a teacher: {setting(frame, config)}"
    return table_of(summary(frame), names, caption=caption, label="tab:distillation")


def headline(frame: "pd.DataFrame", config: Config) -> list[str]:
    """What the run says, in a few sentences."""
    from analysis.lab.literature import published_students
    from analysis.lab.measurement.verdict import Estimate, difference
    from analysis.lab.reporting.columns import points, setting

    labels = "all labels" if config.labels is None else f"{config.labels:,} labels for the students"
    lines = [f"teacher {setting(frame, config, labels)}"]
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
                f"{row['network']}, {row['variant']}: {points(gap, half)} points of error "
                f"beside {against}: {verdict}"
            )
    ours = means.set_index(["network", "variant"])["top1_error_mean"]
    all_labels = config.labels is None  # published students saw all labels
    for point in published_students([config.model, *config.student], config.dataset) if all_labels else ():
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
    from analysis.lab.reporting import figures

    means = summary(frame)
    students = means[means["variant"] != "teacher"].iloc[::-1].reset_index(drop=True)
    labels = {name: variant.label for name, variant in variants(config).items()}
    several, count = students["network"].nunique() > 1, frame["seed"].nunique()
    figure, axes = figures.new_figure(1.35 * figures.COLUMN_INCHES, 1.0 + 0.24 * len(students))
    networks = list(dict.fromkeys(students["network"][::-1]))
    colour, mark = figures.colours(networks), figures.marks(networks)
    for name in networks:
        rows = students[students["network"] == name]
        error = 100 * rows["top1_error_mean"]
        bars = figures.bounded_bars(error, 100 * rows["top1_error_half_width"], 0, 100)
        label = "mean and 95 % interval" if count > 1 else "student"
        axes.errorbar(
            error, rows.index, xerr=bars, fmt=mark[name], color=colour[name], capsize=2,
            elinewidth=0.9, label=f"{name}: {label}" if several else label,
        )  # fmt: skip
    if count > 1:
        _draw_seeds(axes, frame, students)
    _draw_published(axes, students, config)
    teacher = means.loc[means["variant"] == "teacher", "top1_error_mean"].iloc[0]
    axes.axvline(100 * teacher, color=figures.GREY, linestyle="--", label=f"teacher, {config.model}")
    axes.set_yticks(range(len(students)), [labels[variant] for variant in students["variant"]])
    axes.set(xlabel=axis_label("top1_error"), ylim=(-0.6, len(students) - 0.4))
    handles, texts = axes.get_legend_handles_labels()
    unique = dict(zip(texts, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside upper center", ncols=2)
    return figure


def _draw_seeds(axes: "Axes", frame: "pd.DataFrame", students: "pd.DataFrame") -> None:
    for place, row in enumerate(students.to_dict("records")):
        seeds = frame[(frame["network"] == row["network"]) & (frame["variant"] == row["variant"])]
        axes.plot(
            100 * seeds["top1_error"], [place + 0.2] * len(seeds), "|", color="0.55", markersize=4, zorder=1,
            label="each seed",
        )  # fmt: skip


def _draw_published(axes: "Axes", students: "pd.DataFrame", config: Config) -> None:
    from analysis.lab.literature import published_students

    for point in published_students(config.student, config.dataset) if config.labels is None else ():
        match = students[(students["network"] == point.student) & (students["variant"] == point.variant)]
        for place in match.index:
            axes.plot(
                100 * point.top1_error, place, "*", color="black", markersize=6,
                label=f"published, {point.source}",
            )  # fmt: skip
