"""What the article includes: numbers as LaTeX macros, tables, figures, and the command that made each."""

import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from analysis.figures import fit_venue, save_figure
from analysis.lab.claims import REPORTS
from analysis.lab.finished import Finished, finished
from analysis.lab.published import COMPRESSION, DISTILLATION, report_of
from analysis.lab.records import NOT_SETTINGS, RunFolder
from analysis.tables import escape, mean_and_interval
from capacity.errors import InputError
from compression.checkpoints import load_json, save_json, write_whole

if TYPE_CHECKING:
    import pandas as pd

RECORDED = {  # runs at full size that the article shows: name -> command, preset
    "frontier-lenet300": ("compression_frontier", "lenet300"),
    "frontier-lenet5": ("compression_frontier", "lenet5"),
    "frontier-lenet5-long": ("compression_frontier", "lenet5-long"),
    "quantized-lenet5": ("quantization_table", "lenet5"),
    "quantized-resnet20": ("quantization_table", "resnet20"),
    "students-mnist": ("distillation_table", "report-d"),
    "students-cifar10": ("distillation_table", "report-d-cifar10"),
    "six-layer": ("comparison", "report-d"),
}


@dataclass(frozen=True)
class Style:
    """How the article's input is made: for which venue's widths, with PGF, from a quick pass."""

    venue: str = "ieee"
    pgf: bool = False
    smoke: bool = False


def write_article(
    folder: Path,
    lines: "pd.DataFrame",
    runs: Mapping[str, Finished],
    recorded: Sequence[Finished],
    style: Style,
) -> None:
    """Write numbers, tables and figures into a folder made anew; the same runs give the same bytes.

    runs: stand-ins by command; recorded: runs at full size, of which those in RECORDED must be there

    Raises InputError naming the runs that are missing.
    """
    full = _full(recorded)
    if folder.exists():
        shutil.rmtree(folder)
    home = RunFolder(folder)
    numbers = dict(_exact_numbers()) | dict(_verdicts(lines))
    numbers |= dict(_of_stand_ins(runs)) | dict(_of_full(full))
    numbers["QuickPass"] = "1" if style.smoke else "0"
    home.save_text("".join(f"\\newcommand{{\\{k}}}{{{v}}}\n" for k, v in numbers.items()), "numbers.tex")
    home.save_text(reports_table(lines), "reports.tex")
    sources = []
    for name, run in {**runs, **full}.items():
        figure = run.plot()
        fit_venue(figure, style.venue)
        save_figure(figure, folder, name.replace("_", "-"), pgf=style.pgf)
        call = escape(run.call).replace("--", "-{}-")  # two hyphens, which TeX would join
        sources.append(rf"{escape(name.replace('_', '-'))} & \texttt{{{call}}} \\")
    home.save_text("\n".join(sources) + "\n", "sources.tex")
    home.save_text(comparison_table(runs["comparison"]), "comparison.tex")
    for name, run in full.items():
        home.save_text(TABLES[run.command](run), f"{name}.tex")


def write_gallery(folder: Path, runs: Mapping[str, Finished], recorded: Sequence[Finished]) -> None:
    """The figures of the stand-ins and of the recorded runs as PNG, for README."""
    with TemporaryDirectory() as place:
        for name, run in {**runs, **_full(recorded)}.items():
            _, picture = save_figure(run.plot(), Path(place), name.replace("-", "_"))
            write_whole(folder / picture.name, partial(shutil.copy, picture))


def record(run: str | Path, folder: Path) -> Path:
    """Copy a finished run's settings, environment and results to where the article finds them.

    Paths of this machine are left out: where the data lay, and of a folder of pictures all but its name.
    """
    found = finished(run)
    facts = load_json(found.path / "config.json")
    wanted = (found.command, found.preset)
    other = f"{found.command}-{found.preset or found.config.model}"
    name = next((key for key, value in RECORDED.items() if value == wanted), other)
    for settings in (facts["settings"], facts["all_settings"]):
        for key in NOT_SETTINGS:
            settings.pop(key, None)
        kind, colon, path = settings.get("dataset", "").partition(":")
        if colon:
            settings["dataset"] = f"{kind}:{Path(path).name}"
    home = RunFolder(folder / name)
    save_json(home.path / "config.json", facts)
    save_json(home.path / "environment.json", found.environment)
    home.save_frame(found.frame)
    return home.path


def _full(recorded: Sequence[Finished]) -> dict[str, Finished]:
    found = {}
    for name, (command, preset) in RECORDED.items():
        fits = [r for r in recorded if (r.command, r.preset) == (command, preset) and not r.config.smoke]
        if not fits:
            raise InputError(
                f"the article needs a finished run of {command} --preset {preset}; see paper/runs"
            )
        found[name] = fits[0]
    return found


def _camel(name: str) -> str:
    """A name that TeX allows in a macro: letters only.

    >>> _camel("frontier-lenet5")
    'FrontierLenetFive'
    """
    names = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
    digits = {str(value): name for value, name in enumerate(names)}
    parts = [part.capitalize() for part in re.split(r"[^a-zA-Z0-9]+", name)]
    return "".join(digits.get(letter, letter) for letter in "".join(parts))


def grouped(value: float, decimals: int = 0) -> str:
    """A number with thin spaces between thousands.

    >>> grouped(102772992)
    '102\\\\,772\\\\,992'
    """
    return f"{value:,.{decimals}f}".replace(",", r"\,")


def _exact_numbers() -> Iterator[tuple[str, str]]:
    from analysis.lab.models import create
    from capacity import dense_capacity, measure

    head = dense_capacity(25_088, [4096, 4096, 256, 10])
    yield "HeadBits", grouped(head)
    yield "HeadBitsTimesEight", grouped(8 * head)
    yield "HeadBitsSqueezed", grouped(dense_capacity(25_088, [3596, 4096, 256, 10]))
    report = measure(create("mlp", input_size=(1, 8, 8), classes=10), (1, 8, 8))
    yield "SmallBits", grouped(report.capacity_bits)
    yield "SmallParameters", grouped(report.total_parameters)
    for name, model in (("LenetThree", "lenet300"), ("LenetFive", "lenet5")):
        found = measure(create(model, input_size=(1, 28, 28), classes=10), (1, 28, 28))
        yield f"{name}Bits", grouped(found.capacity_bits)
        yield f"{name}Parameters", grouped(found.total_parameters)
    for convention in ("running", "previous", "uncapped"):
        bits = measure(
            create("lenet5", input_size=(1, 28, 28), classes=10), (1, 28, 28), convention=convention
        ).capacity_bits
        yield f"LenetFive{convention.capitalize()}", grouped(bits)


def _verdicts(lines: "pd.DataFrame") -> Iterator[tuple[str, str]]:
    counts = lines["verdict"].value_counts()
    yield "Lines", str(len(lines))
    for verdict in ("exact", "within interval", "not reproduced", "wrong", "needs its preset"):
        yield f"Lines{_camel(verdict)}", str(int(counts.get(verdict, 0)))


def _of_stand_ins(runs: Mapping[str, Finished]) -> Iterator[tuple[str, str]]:
    curve = runs["capacity_curve"]
    means = curve.summary()
    rows = means[means["criterion"] == "l1"]
    last = rows[rows["step"] == rows["step"].max()].iloc[0]
    first = rows[rows["step"] == 0].iloc[0]
    yield "CurveSeeds", str(curve.frame["seed"].nunique())
    yield "CurvePoints", grouped(int(curve.frame["total"].iloc[0]))
    yield "CurveSteps", str(int(rows["step"].max()))
    yield "CurveLeft", f"{100 * last['capacity_bits_mean'] / first['capacity_bits_mean']:.1f}"
    yield "CurveGap", _pair(last, "top1_error_difference", 100)
    yield "CurveFirstError", _pair(first, "top1_error", 100)
    yield "CurveLastError", _pair(last, "top1_error", 100)
    yield "CurveFirstRho", _pair(first, "points_per_bit")
    yield "CurveLastRho", _pair(last, "points_per_bit")
    taught = runs["distillation_table"].summary()
    taught = taught[taught["variant"] != "teacher"].set_index("variant")
    for variant in ("alone", "class-mean", "dropout-on", "cold", "report-b"):
        if variant in taught.index:
            yield f"Students{_camel(variant)}", _pair(taught.loc[variant], "error_minus_distilled", 100)
    rounded = runs["quantization_table"].summary().set_index("scheme")
    for scheme in ("static", "uncalibrated"):
        yield f"Rounded{_camel(scheme)}", _pair(rounded.loc[scheme], "top1_error_difference", 100)
    means = runs["comparison"].summary().set_index("technique")
    size: dict[Any, float] = means["file_bytes_mean"].to_dict()
    for name in ("static-int8", "deep-compressed", "rate-coded"):
        yield f"Compared{_camel(name)}Ratio", f"{size['baseline'] / size[name]:.1f}"
    need = runs["data_requirement"].frame
    labels: Any = need[need["labels"] == "labels as they are"].iloc[-1]
    yield "NeedBits", grouped(labels["expected_bits"])
    yield "NeedChanges", grouped(labels["thresholds"])
    shuffled: Any = need[need["labels"] == "labels shuffled"].iloc[-1]
    yield "NeedChangesShuffled", grouped(shuffled["thresholds"])


def _of_full(full: Mapping[str, Finished]) -> Iterator[tuple[str, str]]:
    for name, run in full.items():
        yield from NUMBERS[run.command](_camel(name), run.summary())
    for student in DISTILLATION:
        if report_of(student.source) == "D" and student.dataset != "flowers102":
            key = _camel(f"published-{student.dataset}-{student.variant}")
            yield key, f"{100 * student.top1_error:.2f}"
    for record in COMPRESSION:
        key = _camel(f"published-{record.model}-{record.source}")
        yield f"{key}Ratio", f"{record.compression_ratio:g}"
        yield f"{key}Error", f"{100 * record.top1_error:.2f}"


def _of_frontier(name: str, means: "pd.DataFrame") -> Iterator[tuple[str, str]]:
    rows = means[means["method"] == "rate"].reset_index(drop=True)
    for letter, (_, row) in zip("ABCDEFG", rows.iterrows(), strict=False):
        key = f"{name}{letter}"
        yield f"{key}Ratio", f"{row['compression_ratio_mean']:.0f}"
        yield f"{key}Error", _pair(row, "top1_error", 100)
        yield f"{key}Bytes", grouped(row["file_bytes_mean"])
        yield f"{key}Rho", f"{row['points_of_all_per_bit_mean']:.1f}"


def _of_quantized(name: str, means: "pd.DataFrame") -> Iterator[tuple[str, str]]:
    means = means.set_index("scheme")
    for scheme in ("static", "weight-only-4", "grouped-4", "aware-4", "uncalibrated"):
        yield f"{name}{_camel(scheme)}", _pair(means.loc[scheme], "top1_error_difference", 100)
    yield f"{name}Float", _pair(means.loc["float"], "top1_error", 100)
    agree = means.loc[["static", "aware-8"], "onnx_agreement_mean"].min()
    yield f"{name}Agreement", f"{100 * agree:.2f}"


def _of_students(name: str, means: "pd.DataFrame") -> Iterator[tuple[str, str]]:
    for row in means.to_dict("records"):
        key = f"{name}{_camel(row['variant'])}"
        yield key, _pair(row, "top1_error", 100)
        if row["variant"] == "distilled":
            yield f"{key}Difference", _pair(row, "error_minus_alone", 100)


def _of_sparse(name: str, means: "pd.DataFrame") -> Iterator[tuple[str, str]]:
    means = means.set_index("technique")
    for technique in ("control", "masked", "static-int8", "masked-int8"):
        yield f"{name}{_camel(technique)}", _pair(means.loc[technique], "top1_error_difference", 100)
    yield f"{name}Baseline", _pair(means.loc["baseline"], "top1_error", 100)


def _pair(row: Any, name: str, factor: float = 1) -> str:
    return mean_and_interval(row[f"{name}_mean"] * factor, row[f"{name}_half_width"] * factor)


def reports_table(lines: "pd.DataFrame") -> str:
    """All lines with their verdict, a block for each report; those that need a preset by number."""
    parts = []
    for report, rows in lines.groupby("report"):
        parts.append(
            rf"\midrule\multicolumn{{4}}{{l}}{{\textbf{{{report}.}} {escape(REPORTS[str(report)])}}} \\*"
        )
        waiting = rows[rows["verdict"] == "needs its preset"]
        for row in rows[rows["verdict"] != "needs its preset"].to_dict("records"):
            why = f" ({row['why']})" if row["why"] else ""
            cells = (row["item"], row["published"], row["recomputed"] + why, row["verdict"])
            parts.append(" & ".join(_text(cell) for cell in cells) + r" \\")
        if len(waiting):
            items = _text("; ".join(f"{row.item} ({row.published})" for row in waiting.itertuples()))
            parts.append(
                rf"\multicolumn{{4}}{{p{{0.97\linewidth}}}}{{\emph{{not trained here:}} {items}}} \\"
            )
    return "\n".join(parts) + "\n"


def _text(value: object) -> str:
    symbols = {"Σ": r"$\Sigma$", "ŷ": r"$\hat y$", "²": r"$^2$", "α": r"$\alpha$"}
    text = re.sub(r"\\textasciicircum{}(\d+)", r"$^{\1}$", escape(value))
    for symbol, tex in symbols.items():
        text = text.replace(symbol, tex)
    return text


def comparison_table(run: Finished) -> str:
    """Technique, error, capacity, rho, bytes of the file and speed-up, mean and interval."""
    return _rows(
        run.summary(), "technique",
        (
            ("top1_error", 100), ("capacity_bits", 1), ("points_per_bit", 1), ("file_bytes", 1),
            ("speedup_32", 1),
        ),
    )  # fmt: skip


def frontier_table(run: Finished) -> str:
    """Method and share kept, error, bytes, ratio and rho."""
    means = run.summary()
    kept = means["density"].map(lambda share: f"{100 * share:g} %")
    return _rows(
        means.assign(method=means["method"] + ", " + kept), "method",
        (("top1_error", 100), ("file_bytes", 1), ("compression_ratio", 1), ("points_of_all_per_bit", 1)),
    )  # fmt: skip


def quantized_table(run: Finished) -> str:
    """Scheme, error, difference to float, bytes of the file and agreement of ONNX Runtime."""
    return _rows(
        run.summary(), "scheme",
        (("top1_error", 100), ("top1_error_difference", 100), ("file_bytes", 1), ("onnx_agreement", 100)),
    )  # fmt: skip


def students_table(run: Finished) -> str:
    """Network and how it was trained, error, difference to the student alone, parameters."""
    means = run.summary()
    names = means["network"].str.removeprefix("cnn_") + ", " + means["variant"]
    means = means.assign(network=names.str.replace("teacher, teacher", "teacher"))
    return _rows(means, "network", (("top1_error", 100), ("error_minus_alone", 100), ("parameters", 1)))


def sparse_table(run: Finished) -> str:
    """Technique, error, difference to the whole network, bytes of the file and of the coded file."""
    return _rows(
        run.summary(), "technique",
        (("top1_error", 100), ("top1_error_difference", 100), ("file_bytes", 1), ("coded_bytes", 1)),
    )  # fmt: skip


def _rows(means: "pd.DataFrame", key: str, columns: Sequence[tuple[str, float]]) -> str:
    lines = []
    for row in means.to_dict("records"):
        cells = [_pair(row, name, factor) for name, factor in columns]
        lines.append(" & ".join([escape(row[key]), *cells]) + r" \\")
    return "\n".join(lines) + "\n"


TABLES: dict[str, Callable[[Finished], str]] = {  # of a run at full size, by its command
    "compression_frontier": frontier_table, "quantization_table": quantized_table,
    "distillation_table": students_table, "comparison": sparse_table,
}  # fmt: skip
NUMBERS: dict[str, Callable[[str, "pd.DataFrame"], Iterator[tuple[str, str]]]] = {
    "compression_frontier": _of_frontier, "quantization_table": _of_quantized,
    "distillation_table": _of_students, "comparison": _of_sparse,
}  # fmt: skip
