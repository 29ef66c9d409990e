"""Every figure at every venue: nothing cut off or covered, all explained, ticks at the ends."""

import math
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.text import Text

from analysis import capacity_report, data_requirement, memorization_curve
from analysis.capacity_curve.report import plot as plot_curve
from analysis.certificate import Config, frontier
from analysis.comparison.report import plot as plot_comparison
from analysis.lab.reporting.figures import GREY, VENUES, fit_venue
from analysis.lab.runs.loading import finished
from capacity import cover_fraction, generalization

RECORDED = Path(__file__).parents[2] / "paper" / "runs"
SMALLEST = 6  # points of a letter
NARROW = "ieee-one"


def squeezed() -> pd.DataFrame:
    """Rows of capacity_curve: all criteria over three seeds and six steps."""
    rows = [
        {
            "criterion": name, "seed": seed, "step": step, "total": 360, "classes": 10,
            "capacity_bits": 40_000 if name == "control" else 40_000 - 6_000 * step - 100 * place,
            "correct": 350 - (4 + place) * step - seed, "convention": "previous",
        }
        for place, name in enumerate(("l1", "l2", "reservoir", "random", "control"))
        for seed in range(3) for step in range(6)
    ]  # fmt: skip
    frame = pd.DataFrame(rows)
    ratio = frame["correct"] / frame["capacity_bits"]
    error = 1 - frame["correct"] / frame["total"]
    return frame.assign(top1_error=error, points_per_bit=ratio, bits_per_bit=3.3 * ratio, kappa=1 - error)


def memorized() -> pd.DataFrame:
    """Rows of memorization_curve: perceptrons decided by Cover's curve, networks by training."""
    rows = []
    networks = (("3-1", 4, True), ("10-1", 11, True), ("2-2-1", 8, False), ("8-4-1", 40, False))
    for name, bits, exact in networks:
        for ratio in (0.5, 1.0, 1.5, 2.0, 3.0):
            points = round(ratio * bits)
            share = cover_fraction(points, bits) if exact else max(0.0, min(1.0, 1.5 - 0.6 * ratio))
            rows.append({
                "name": name, "points": points, "capacity_bits": bits, "possible_share": share,
                "cover": share if exact else math.nan, "decided": 20 if exact else math.nan,
                "low": max(0, share - 0.2), "high": min(1, share + 0.2), "memorized": 15 * share,
                "trials": 20,
            })  # fmt: skip
    return pd.DataFrame(rows)


def needed() -> pd.DataFrame:
    """Rows of data_requirement: labels as they are and shuffled."""
    rows = [
        {"labels": labels, "rows": rows, "thresholds": share * rows, "thresholds_half_width": 0.1 * rows}
        for labels, share in (("as they are", 0.5), ("shuffled", 0.9))
        for rows in (10, 40, 160, 640, 1437)
    ]
    return pd.DataFrame(rows)


def many_techniques() -> Figure:
    """A comparison of fourteen techniques, made of a recorded one."""
    run = finished(RECORDED / "six-layer")
    rows = run.frame[run.frame["technique"] == "baseline"]
    parts = [
        rows.assign(
            technique=f"technique-{k}", file_bytes=rows["file_bytes"] * 0.8**k, speedup_32=1 + 0.2 * k
        )
        for k in range(13)
    ]
    return plot_comparison(pd.concat([rows, *parts]), run.config)


def usage() -> Figure:
    """The ratio of each layer."""
    report = capacity_report.report_of(capacity_report.Config(model="lenet5", input_size=(1, 28, 28)))
    used = generalization(report, correct=9_000, total=10_000, label_bits=3.32, classes=10)
    return capacity_report.plot_usage(used.to_frame(), title="N = 9,000 of 10,000, test, “previous”")


def depth(model: str, side: int) -> Figure:
    config = capacity_report.Config(model=model, input_size=(3, side, side))
    frame = capacity_report.frame_of(capacity_report.report_of(config))
    return capacity_report.plot(frame, title=f"{model}: its bits, convention “previous”")


def guaranteed() -> Figure:
    run = finished(RECORDED / "frontier-lenet5")
    return frontier.plot(frontier.certified(run, Config()), run)


def recorded(name: str) -> list[Figure]:
    return [draw() for draw in finished(RECORDED / name).figures().values()]


MADE: dict[str, Callable[[], Figure]] = {
    "capacity_curve": lambda: plot_curve(squeezed()),
    "memorization_curve": lambda: memorization_curve.plot(memorized()),
    "data_requirement": lambda: data_requirement.plot(needed()),
    "capacity_report": lambda: depth("lenet5", 32),
    "capacity_report of many layers": lambda: depth("vgg16", 224),
    "ratio of each layer": usage,
    "certificate": guaranteed,
    "comparison of fourteen": many_techniques,
}
RUNS = sorted(path.name for path in RECORDED.iterdir())
ONE_EACH = (
    "adequate-digits", "description-digits", "frontier-lenet5", "generalization", "memorization-bounds",
    "quantized-resnet20", "report-b-students-reduced", "report-e-pruned-reduced", "six-layer", "sizing",
)  # fmt: skip


def drawn(name: str) -> list[Figure]:
    return [MADE[name]()] if name in MADE else recorded(name)


def marked(axis: Axis) -> list[tuple[float, Text]]:
    """Ticks of an axis that are seen, in their order: their place and label."""
    low, high = sorted(axis.get_view_interval())
    seen = [(float(tick.get_loc()), tick.label1) for tick in axis.get_major_ticks()]
    return sorted(
        ((at, label) for at, label in seen if low <= at <= high and label.get_visible()),
        key=lambda one: one[0],
    )


def words(figure: Figure) -> list[Text]:
    """All that is written and seen."""
    found: list[Text] = list(figure.texts)
    for axes in figure.axes:
        found += [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
        found += [label for axis in (axes.xaxis, axes.yaxis) for _, label in marked(axis)]
    for legend in legends(figure):
        found += [*legend.get_texts(), legend.get_title()]
    return [text for text in found if text.get_text().strip() and text.get_visible()]


def legends(figure: Figure) -> list[Legend]:
    inside = [axes.get_legend() for axes in figure.axes]
    return [*figure.legends, *(legend for legend in inside if legend is not None)]


def looks(line: Line2D) -> tuple[str, str]:
    return to_hex(line.get_color()), str(line.get_marker())


def nothing_is_cut_or_covered(figure: Figure) -> None:
    whole = figure.bbox.padded(1)
    boxes = [(text.get_text(), text.get_rotation() % 90, text.get_window_extent()) for text in words(figure)]
    for text, _, box in boxes:
        assert whole.containsx(box.x0) and whole.containsx(box.x1), f"{text!r} is cut off"
        assert whole.containsy(box.y0) and whole.containsy(box.y1), f"{text!r} is cut off"
    for (one, turned, first), (other, too, second) in combinations(boxes, 2):
        if not (turned and too):  # boxes of slanting words overlap where the words do not
            assert not first.padded(-1).overlaps(second.padded(-1)), f"{one!r} covers {other!r}"
    for legend in legends(figure):
        for axes in figure.axes:
            box = legend.get_window_extent()
            assert not box.padded(-1).overlaps(axes.get_window_extent()), "the legend covers a panel"
    for text in words(figure):
        assert text.get_fontsize() >= SMALLEST, text.get_text()


def all_is_explained(figure: Figure) -> None:
    known = {looks(line) for legend in legends(figure) for line in legend.findobj(Line2D)}
    shapes = {mark for colour, mark in known if colour == GREY}  # of whatever colour
    named: dict[tuple[str, ...], str] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            for line in lines_of(handle):
                kind = (*looks(line), str(line.get_linestyle()), str(line.get_fillstyle()))
                assert named.setdefault(kind, label) == label, f"{label!r} looks like {named[kind]!r}"
        for line in axes.lines:
            if line.get_marker() not in ("None", "", " ", "_", "|", None):
                assert looks(line) in known or looks(line)[1] in shapes, (
                    f"{line.get_label()!r} {looks(line)} is not explained"
                )


def lines_of(handle: object) -> list[Line2D]:
    """The line of a series, without the caps of its bars."""
    line = handle[0] if isinstance(handle, ErrorbarContainer) else handle
    return [line] if isinstance(line, Line2D) else []


def axes_end_at_ticks(axes: Axes) -> None:
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            low, high = sorted(axis.get_data_interval())
            ticks = marked(axis)
            first, last = ticks[0], ticks[-1]
            assert first[1].get_text() and last[1].get_text(), axis.label.get_text()
            low = low if low > 0 else axis.get_minpos()
            assert first[0] <= 1.2 * low and last[0] >= high / 1.2, (axis.label.get_text(), first, low)


def errors_are_shares(axes: Axes) -> None:
    for place, axis in enumerate((axes.xaxis, axes.yaxis)):
        if "error [%]" in axis.label.get_text().replace("\n", " "):
            for bars in axes.collections:
                if isinstance(bars, LineCollection):
                    ends = [end[place] for segment in bars.get_segments() for end in segment]
                    assert all(-1e-9 <= end <= 100 + 1e-9 for end in ends), axis.label.get_text()


def legible(figure: Figure, venue: str) -> None:
    FigureCanvasAgg(figure)
    fit_venue(figure, venue)
    figure.draw_without_rendering()
    assert figure.get_size_inches()[0] in (VENUES[venue].column, VENUES[venue].text)
    nothing_is_cut_or_covered(figure)
    all_is_explained(figure)
    for axes in figure.axes:
        axes_end_at_ticks(axes)
        errors_are_shares(axes)


@pytest.mark.parametrize("name", [*MADE, *ONE_EACH])
def test_figures_are_legible_at_column_width(name: str) -> None:
    for figure in drawn(name):
        legible(figure, NARROW)


@pytest.mark.slow
@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("name", [*MADE, *RUNS])
def test_figures_are_legible_at_every_venue(name: str, venue: str) -> None:
    for figure in drawn(name):
        legible(figure, venue)
