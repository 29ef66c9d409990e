"""Tables and figures of every kind fit a NeurIPS-like and an IEEE-like article: compiled, no box overfull."""

import math
import shutil
import subprocess
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from running import run_command

from analysis.answer import RECORDED as ANSWERED
from analysis.answer import table as answer
from analysis.certificate import Config, frontier
from analysis.lab.reporting.columns import COLUMNS, axis_label, column, points, setting, table_of
from analysis.lab.reporting.figures import (
    VENUES,
    bounded_bars,
    colours,
    log_axis,
    marks,
    new_figure,
    save_figure,
)
from analysis.lab.runs.loading import COMMANDS, Run, finished
from capacity.columns import KEY, Column
from capacity.figures import COLOURS, MARKERS
from capacity.tables import Table

needs_latex = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX here")
IEEE = (
    r"\documentclass[10pt,twocolumn]{article}"
    r"\usepackage[textwidth=7.16in,textheight=9.2in]{geometry}\setlength{\columnsep}{0.16in}"
)
CLASSES = {
    "neurips": r"\documentclass[10pt]{article}\usepackage[textwidth=5.5in,textheight=9in]{geometry}",
    "ieee-one": IEEE,
}
ALL_CLASSES = CLASSES | {
    "ieee-two": IEEE,
    "icml": r"\documentclass[10pt,twocolumn]{article}"
    r"\usepackage[textwidth=6.75in,textheight=9in]{geometry}\setlength{\columnsep}{0.25in}",
    "article": r"\documentclass[10pt]{article}",
}
RECORDED = Path(__file__).parents[2] / "paper" / "runs"
ONE_EACH = (
    "adequate-digits", "description-digits", "frontier-lenet5", "generalization", "memorization-bounds",
    "quantized-resnet20", "reparametrization", "report-b-students-reduced", "report-e-pruned-reduced",
    "six-layer", "sizing",
)  # fmt: skip


def overfull(venue: str, parts: list[str], folder: Path, more: str = "") -> list[str]:
    """Compile an article of these parts; what TeX says of boxes and errors."""
    packages = r"\usepackage{array,booktabs,graphicx}\usepackage[T1]{fontenc}\usepackage{lmodern}" + more
    text = "\n\\clearpage\n".join(parts)
    (folder / "article.tex").write_text(
        f"{ALL_CLASSES[venue]}{packages}\n\\begin{{document}}\n{text}\n\\end{{document}}\n"
    )
    call = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "article.tex"]
    done = subprocess.run(call, cwd=folder, capture_output=True)
    log = (folder / "article.log").read_text(errors="replace")
    assert done.returncode == 0, log[-2000:]
    return [line for line in log.splitlines() if "Overfull" in line]


def figure_of(path: Path, venue: str = "article") -> str:
    """A figure as it is, across both columns where the venue has them and one is too narrow."""
    drawn = rf"\centering\includegraphics{{{path}}}\caption{{A figure}}"
    one, both = (rf"\begin{{{kind}}}[t]{drawn}\end{{{kind}}}" for kind in ("figure", "figure*"))
    if venue == "ieee-two":
        return both
    if VENUES[venue].column == VENUES[venue].text:
        return one
    return rf"\sbox0{{\includegraphics{{{path}}}}}\ifdim\wd0>\columnwidth{both}\else{one}\fi"


def summary(rows: int = 9) -> pd.DataFrame:
    """A mean and an interval in every column that there is."""
    values = {}
    for place, (name, shown) in enumerate(COLUMNS.items()):
        if shown.importance < KEY and shown.numeric:
            mean = 10.0 ** (place % 7 - 4) * np.linspace(1, 3, rows) / shown.factor
            values |= {f"{name}_mean": mean, f"{name}_half_width": mean * 0.013}
    return pd.DataFrame({"technique": [rf"a_{k}\ ~ ^ % & # $ {{x}}" for k in range(rows)]} | values)


@needs_latex
@pytest.mark.parametrize("venue", CLASSES)
def test_any_table_and_figure_fits_its_venue(venue: str, tmp_path) -> None:
    names = ["technique", *(name for name in COLUMNS if f"{name}_mean" in summary())]
    tables = [
        table_of(summary(), names[: 1 + count], against="baseline", caption="ρ, 50 % ± 3: 'a_b' → c")
        for count in (4, 7, 12, 40)
    ]
    reasons = [
        {"name": "features." + "denseblock4.denselayer16." * 4 + "conv", "bits": 12, "why": "no way " * 30}
    ] * 50
    told = (
        Column("name", "layer", importance=KEY),
        Column("bits", "bits", style=","),
        Column("why", "why", prose=True),
    )
    tables.append(Table(told, reasons, "Reasons"))
    figure, panels = new_figure(7.16, 2.5, ncols=2)
    for axes in panels:
        axes.errorbar([1, 2], [3, 4], yerr=1, fmt="o", label="a_long label of a series & of another_one")
        axes.set(
            xlabel=r"$\rho$ [points/bit] → a_b",
            ylabel="top-1 error [%]",
            title="a long title of a figure " * 3,
        )
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    pdf, _, pgf = save_figure(figure, tmp_path, "drawn", venue=venue, pgf=True)
    assert (
        figure.get_size_inches()[0] == VENUES[venue].text
        and r"a\_b" in pgf.read_text()
        and "ρ" not in pgf.read_text()
    )
    assert (
        overfull(venue, [*(table.to_latex(venue=venue) for table in tables), figure_of(pdf)], tmp_path) == []
    )


@needs_latex
@pytest.mark.parametrize("venue", CLASSES)
def test_tables_of_recorded_runs_fit_their_venue(venue: str, tmp_path) -> None:
    parts = [
        table.to_latex(venue=venue)
        for name in ONE_EACH
        for table in finished(RECORDED / name).tables().values()
    ]
    parts.append(answer(answer_runs()).to_latex(venue=venue))
    assert overfull(venue, parts, tmp_path) == []
    assert all(r"\caption{" in part and r"\label{tab:" in part for part in parts)


def answer_runs() -> list[Run]:
    return [finished(RECORDED / name) for name in ANSWERED]


@pytest.mark.slow
@needs_latex
@pytest.mark.parametrize("venue", ALL_CLASSES)
def test_tables_and_figures_of_every_command_fit_their_venue(venue: str, quick_run, tmp_path) -> None:
    recorded = sorted(RECORDED.iterdir()) if venue in CLASSES else [RECORDED / name for name in ONE_EACH]
    parts = []
    for path in recorded:
        run = finished(path)
        parts += [table.to_latex(venue=venue) for table in run.tables().values()]
        for name, draw in run.figures().items():
            drawn = save_figure(draw(), tmp_path, f"{path.name}-{name}", venue=venue)[0]
            parts.append(figure_of(drawn, venue))
    for command in sorted(set(COMMANDS) - {finished(path).command for path in recorded}):
        folder, _ = quick_run(command)
        again = ("--smoke", "--output", "run", "--venue", venue)
        done = run_command(command, *again, cwd=folder)
        assert done.returncode == 0, done.stderr
        parts += [path.read_text() for path in sorted((folder / "run").glob("*.tex"))]
        parts += [figure_of(path, venue) for path in sorted((folder / "run").glob("*.pdf"))]
    run, config = finished(RECORDED / "frontier-lenet5"), Config()
    frame = frontier.certified(run, config)
    parts += [frontier.table(frame, run, config).to_latex(venue=venue)]
    drawn = save_figure(frontier.plot(frame, run), tmp_path, "certificate", venue=venue)[0]
    assert overfull(venue, [*parts, figure_of(drawn, venue)], tmp_path) == []


@pytest.mark.slow
@needs_latex
@pytest.mark.parametrize("venue", CLASSES)
def test_figures_in_the_letters_of_the_article_compile(venue: str, tmp_path) -> None:
    if not subprocess.run(["kpsewhich", "pgf.sty"], capture_output=True, text=True).stdout.strip():
        pytest.skip("LaTeX has no pgf package here")
    parts = []
    for name in ONE_EACH:
        for key, draw in finished(RECORDED / name).figures().items():
            *_, pgf = save_figure(draw(), tmp_path, f"{name}-{key}", venue=venue, pgf=True)
            parts.append(
                rf"\begin{{figure}}[t]\centering\input{{{pgf.name}}}\caption{{A figure}}\end{{figure}}"
            )
    assert overfull(venue, parts, tmp_path, r"\usepackage{pgf}") == []


def test_fourteen_series_differ_in_colour_and_mark_and_the_control_is_grey() -> None:
    names = [f"series {k}" for k in range(14)]
    assert len(set(colours(names).values())) == 14 == len(COLOURS) and len(set(marks(names).values())) == 14
    many = [f"series {k}" for k in range(60)]
    assert len(set(zip(colours(many).values(), marks(many).values(), strict=True))) == 60
    grey = colours(["control", *names])["control"]
    assert grey not in COLOURS and len(MARKERS) == len(set(MARKERS))
    rgb = np.array([mpl.colors.to_rgb(colour) for colour in COLOURS])
    apart = np.abs(rgb[:, None] - rgb[None]).sum(-1) + 9 * np.eye(len(rgb))
    assert apart.min() > 0.2


def test_drawing_leaves_no_trace_in_matplotlib(tmp_path) -> None:
    import matplotlib.pyplot as plt

    before, backend = dict(mpl.rcParams), mpl.get_backend()
    figure, axes = new_figure(3.5, 2)
    axes.errorbar(
        [10, 3000], [1, 99], yerr=bounded_bars(pd.Series([1.0, 99]), pd.Series([5.0, math.nan]), 0, 100)
    )
    log_axis(axes, "x")
    save_figure(figure, tmp_path, "drawn", venue="icml")
    assert dict(mpl.rcParams) == before and mpl.get_backend() == backend and plt.get_fignums() == []
    ticks, (low, high) = axes.get_xticks(), axes.get_xlim()
    assert ticks[0] == 10 and ticks[-1] == 3000 and low < 10 and high > 3000
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_intervals_end_where_no_value_can_be() -> None:
    low, high = bounded_bars(pd.Series([1.0, 50, 99]), pd.Series([5.0, 5, 5]), 0, 100)
    assert low.tolist() == [1, 5, 5] and high.tolist() == [5, 5, 1]


def test_the_registry_names_what_all_show() -> None:
    assert (
        axis_label("top1_error") == "top-1 error [%]"
        and column("latency_1_ms").heading == "time, batch 1 [ms]"
    )
    assert column("error_minus_alone").heading == "error - alone [points]" and column("own").heading == "own"
    assert points(-0.0028, 0.005) == "-0.28 ± 0.50" and not any(
        "_ms" in shown.heading for shown in COLUMNS.values()
    )
    frame = pd.DataFrame({"seed": [0], "total": [360]})
    assert setting(frame) == "360 test points, 1 seed; one seed has no interval"
