"""The columns of all experiments: what each is called in tables, figures, captions, and how it is shown."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from capacity.columns import KEY, Column, seeds
from capacity.columns import with_interval as written
from capacity.tables import Table

if TYPE_CHECKING:
    import pandas as pd

MORE = "with --wide and in results.csv"
_ALL = (
    Column("criterion", "criterion", importance=KEY),
    Column("step", "step", style=",", importance=KEY),
    Column("amount", "pruned", "%", factor=100, style=".4g", importance=KEY),
    Column("method", "method", importance=KEY),
    Column("density", "kept", "%", factor=100, style=".4g", importance=KEY),
    Column("scheme", "scheme", importance=KEY),
    Column("technique", "technique", importance=KEY),
    Column("network", "network", importance=KEY),
    Column("variant", "variant", importance=KEY),
    Column("top1_error", "top-1 error", "%", factor=100, style=".2f", better="lower", importance=90),
    Column(
        "top1_error_difference", "error", "points", factor=100, style="+.2f", better="lower", importance=80
    ),
    Column("top5_error", "top-5 error", "%", factor=100, style=".2f", better="lower", importance=12),
    Column("correct", "correct points", style=",.1f", better="higher", importance=20),
    Column("kappa", "kappa", symbol=r"$\kappa$", style=".4f", better="higher", importance=14),
    Column("capacity_bits", "capacity", "bit", style=",.0f", importance=60),
    Column("points_per_bit", "rho", "points/bit", r"$\rho$", style=".3g", better="higher", importance=50),
    Column("bits_per_bit", "G", "bit/bit", "$G$", style=".3g", better="higher", importance=16),
    Column(
        "points_of_all_per_bit", "rho, all points", "points/bit", r"$\rho$, all points", style=".3g",
        better="higher", importance=18,
    ),
    Column("parameters", "parameters", style=",.0f", better="lower", importance=30),
    Column("nonzero_parameters", "non-zero", style=",.0f", better="lower", importance=22),
    Column("live_parameters", "live parameters", style=",.0f", better="lower", importance=24),
    Column("flops", "FLOPs", style=",.0f", better="lower", importance=28),
    Column("state_bytes", "in memory", "bytes", style=",.0f", better="lower", importance=26),
    Column("file_bytes", "file", "bytes", style=",.0f", better="lower", importance=70),
    Column("coded_bytes", "coded", "bytes", style=",.0f", better="lower", importance=32),
    Column("onnx_bytes", "ONNX", "bytes", style=",.0f", better="lower", importance=17),
    Column("entropy_bytes", "by entropy", "bytes", style=",.0f", better="lower", importance=19),
    Column("book_bytes", "code books", "bytes", style=",.0f", better="lower", importance=11),
    Column("bias_bytes", "biases", "bytes", style=",.0f", better="lower", importance=10),
    Column("theoretical_bytes", "in theory", "bytes", style=",.0f", better="lower", importance=13),
    Column("compression_ratio", "ratio", style=".1f", better="higher", importance=65),
    Column("file_ratio", "file / dense", style=".3f", better="lower", importance=55),
    Column("theoretical_ratio", "4 x live / dense", style=".4f", better="lower", importance=15),
    Column("latency_ratio", "time / dense", style=".2f", better="lower", importance=45),
    Column("latency_1_ms", "time, batch 1", "ms", style=".3f", better="lower", importance=9),
    Column("latency_32_ms", "time, batch 32", "ms", style=".3f", better="lower", importance=9),
    Column("speedup_1", "speed-up, batch 1", style=".2f", better="higher", importance=40),
    Column("speedup_32", "speed-up, batch 32", style=".2f", better="higher", importance=42),
    Column("onnx_speedup_1", "speed-up, ONNX, batch 1", style=".2f", better="higher", importance=33),
    Column("onnx_speedup_32", "speed-up, ONNX, batch 32", style=".2f", better="higher", importance=34),
    Column(
        "agreement_with_float", "same as float", "%", factor=100, style=".2f", better="higher", importance=35
    ),
    Column("onnx_agreement", "ONNX agrees", "%", factor=100, style=".2f", better="higher", importance=23),
    Column("peak_memory_bytes", "peak memory", "bytes", style=",.0f", better="lower", importance=21),
    Column("labels", "labels", importance=KEY),
    Column("file_bits", "file", "bit", style=",.0f", better="lower", importance=70),
    Column("residual_bits", "labels given it", "bit", style=",.0f", better="lower", importance=68),
    Column("description_bits", "both", "bit", style=",.0f", better="lower", importance=88),
    Column("learned_share", "learned", "%", factor=100, style=".1f", better="higher", importance=89),
    Column("training_error", "training error", "%", factor=100, style=".2f", better="lower", importance=35),
    Column("top1_error_bound", "guaranteed", "%", factor=100, style=".1f", better="lower", importance=67),
    Column("report", "report", importance=KEY),
    Column("item", "item", importance=KEY),
    Column("verdict", "verdict", importance=KEY),
    Column("published", "published", prose=True),
    Column("recomputed", "recomputed", prose=True),
    Column("why", "why", prose=True),
    Column("job", "job", importance=KEY),
    Column("peer", "peer", importance=50),
    Column("ours_ms", "ours", "ms", style=",.4g", better="lower", importance=60),
    Column("peer_ms", "peer's", "ms", style=",.4g", importance=40),
    Column("ratio", "peer / ours", style=",.3g", better="higher", importance=90),
    Column("goal", "goal", importance=30),
    Column("runs", "runs", style=",", importance=10),
)  # fmt: skip
COLUMNS: Mapping[str, Column] = {column.name: column for column in _ALL}


def column(name: str, *, against: str = "") -> Column:
    """A column by its stored name; `against` is what a difference is taken against."""
    if name.startswith("error_minus_"):
        return replace(column("top1_error_difference"), name=name, against=name.removeprefix("error_minus_"))
    found = COLUMNS.get(name) or Column(name, name.replace("_", " "), style=".4g")
    return replace(found, against=against) if against and name.endswith("_difference") else found


def table_of(
    means: "pd.DataFrame", names: Sequence[str], *, against: str = "", caption: str = "", label: str = ""
) -> Table:
    """A table of a summary: NAME_mean and NAME_half_width of each column, and those that name the rows."""
    rows: list[dict[Any, Any]] = means.to_dict("records")
    columns = [column(name, against=against) for name in names]
    return Table(columns, rows, caption=caption, label=label, more=MORE)


def with_interval(row: Mapping[Any, Any], name: str) -> str:
    """NAME_mean ± NAME_half_width of a summary's row, as its column writes it; empty for NaN.

    >>> with_interval({"top1_error_mean": 0.0259, "top1_error_half_width": 0.0014}, "top1_error")
    '2.59 ± 0.14'
    """
    return column(name).cell(row)


def points(mean: float, half_width: float) -> str:
    """A difference of errors, given as fractions, in points with its interval.

    >>> points(-0.0028, 0.005)
    '-0.28 ± 0.50'
    """
    return written(100 * mean, 100 * half_width, "+.2f")


def axis_label(name: str) -> str:
    """What an axis of a figure says: header and unit."""
    return column(name).heading


def setting(frame: "pd.DataFrame", config: Any = None, *more: str) -> str:
    """What rows were measured on, in a sentence: network, data, split, seeds, convention, what ± is."""
    count = int(frame["seed"].nunique())
    parts = [f"{config.model} on {config.dataset}"] if config is not None else []
    parts += [*more, f"{int(frame['total'].iloc[0]):,} test points"]
    if "classes" in frame:
        parts.append(f"{int(frame['classes'].iloc[0])} classes")
    parts.append(seeds(count))
    if "convention" in frame:
        parts.append(f"convention {frame['convention'].iloc[0]!r}")
    spread = "± is a 95 % interval of the mean over seeds" if count > 1 else "one seed has no interval"
    return f"{', '.join(parts)}; {spread}"
