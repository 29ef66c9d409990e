"""The article's tables."""

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from analysis.lab.measurement.verdict import Verdict
from analysis.lab.reporting.latex import escape
from analysis.lab.runs.loading import Run
from analysis.reproduce.claim import REPORTS

if TYPE_CHECKING:
    import pandas as pd
from analysis.reproduce.numbers import interval_cell


def reports_table(lines: "pd.DataFrame") -> str:
    """All lines with their verdict, a block for each report; those that need a preset by number."""
    parts = []
    for report, rows in lines.groupby("report"):
        parts.append(
            rf"\midrule\multicolumn{{4}}{{l}}{{\textbf{{{report}.}} {escape(REPORTS[str(report)])}}} \\*"
        )
        waiting = rows[rows["verdict"] == Verdict.NOT_RUN]
        for row in rows[rows["verdict"] != Verdict.NOT_RUN].to_dict("records"):
            why = f" ({row['why']})" if row["why"] else ""
            cells = (row["item"], row["published"], row["recomputed"] + why, row["verdict"])
            parts.append(" & ".join(as_latex(cell) for cell in cells) + r" \\")
        if len(waiting):
            items = as_latex("; ".join(f"{row.item} ({row.published})" for row in waiting.itertuples()))
            parts.append(
                rf"\multicolumn{{4}}{{p{{0.97\linewidth}}}}{{\emph{{not trained here:}} {items}}} \\"
            )
    return "\n".join(parts) + "\n"


def as_latex(value: object) -> str:
    symbols = {"Σ": r"$\Sigma$", "ŷ": r"$\hat y$", "²": r"$^2$", "α": r"$\alpha$"}
    text = re.sub(r"\\textasciicircum{}(\d+)", r"$^{\1}$", escape(value))
    text = re.sub(r"(^|[ (])-(?=\d)", r"\1$-$", text).replace(" x 10$", r" $\times$ 10$")
    for symbol, tex in symbols.items():
        text = text.replace(symbol, tex)
    return text


def comparison_table(run: Run) -> str:
    """Technique, error, capacity, rho, bytes of the file and speed-up, mean and interval."""
    return _rows(
        run.summary(), "technique",
        (
            ("top1_error", 100), ("capacity_bits", 1), ("points_per_bit", 1), ("file_bytes", 1),
            ("speedup_32", 1),
        ),
    )  # fmt: skip


def frontier_table(run: Run) -> str:
    """Method and share kept, error, bytes, ratio and rho."""
    means = run.summary()
    densities = means["density"].map(lambda share: f"{100 * share:g} %")
    return _rows(
        means.assign(method=means["method"] + ", " + densities), "method",
        (("top1_error", 100), ("file_bytes", 1), ("compression_ratio", 1), ("points_of_all_per_bit", 1)),
    )  # fmt: skip


def quantized_table(run: Run) -> str:
    """Scheme, error, difference to float, bytes of the file and agreement of ONNX Runtime."""
    return _rows(
        run.summary(), "scheme",
        (("top1_error", 100), ("top1_error_difference", 100), ("file_bytes", 1), ("onnx_agreement", 100)),
    )  # fmt: skip


def students_table(run: Run) -> str:
    """Network and how it was trained, error, difference to the student alone, parameters."""
    means = run.summary()
    names = means["network"].str.removeprefix("cnn_") + ", " + means["variant"]
    means = means.assign(network=names.str.replace("teacher, teacher", "teacher"))
    return _rows(means, "network", (("top1_error", 100), ("error_minus_alone", 100), ("parameters", 1)))


def sparse_table(run: Run) -> str:
    """Technique, error, difference to the whole network, bytes of the file and of the coded file."""
    return _rows(
        run.summary(), "technique",
        (("top1_error", 100), ("top1_error_difference", 100), ("file_bytes", 1), ("coded_bytes", 1)),
    )  # fmt: skip


def _rows(means: "pd.DataFrame", key: str, columns: Sequence[tuple[str, float]]) -> str:
    lines = []
    for row in means.to_dict("records"):
        cells = [interval_cell(row, name, factor) for name, factor in columns]
        lines.append(" & ".join([escape(row[key]), *cells]) + r" \\")
    return "\n".join(lines) + "\n"


TABLES: dict[str, Callable[[Run], str]] = {  # of a run at full size, by its command
    "compression_frontier": frontier_table, "quantization_table": quantized_table,
    "distillation_table": students_table, "comparison": sparse_table,
}  # fmt: skip
