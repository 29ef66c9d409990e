"""The registry of columns: what stored values are called in tables, figures and captions, and how shown."""

from collections.abc import Mapping
from dataclasses import replace

from capacity.columns import KEY, Column

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
    Column("perplexity", "perplexity", style=".3f", better="lower", importance=95),
    Column("perplexity_difference", "perplexity", style="+.3f", better="lower", importance=93),
    Column("top5_error", "top-5 error", "%", factor=100, style=".2f", better="lower", importance=12),
    Column(
        "balanced_accuracy", "balanced accuracy", "%", factor=100, style=".2f", better="higher", importance=8
    ),
    Column("macro_f1", "macro F1", "%", factor=100, style=".2f", better="higher", importance=7),
    Column("mean_iou", "mean IoU", "%", factor=100, style=".2f", better="higher", importance=6),
    Column("cross_entropy_nats", "cross-entropy", "nat", style=".4f", better="lower", importance=5),
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
    Column("latency_ms", "time", "ms", style=".3f", better="lower", importance=46),
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
    Column("kl_error_bound", "guaranteed by KL", "%", factor=100, style=".1f", better="lower", importance=27),
    Column("report", "report", importance=KEY),
    Column("item", "item", importance=KEY),
    Column("verdict", "verdict", importance=KEY),
    Column("published", "published", prose=True),
    Column("recomputed", "recomputed", prose=True),
    Column("source", "source", prose=True),
    Column("why", "why", prose=True),
    Column("job", "job", importance=KEY),
    Column("peer", "peer", importance=50),
    Column("ours_ms", "ours", "ms", style=",.4g", better="lower", importance=60),
    Column("peer_ms", "peer's", "ms", style=",.4g", importance=40),
    Column("ratio", "peer / ours", style=",.3g", better="higher", importance=90),
    Column("possible_ratio", "at most", style=",.3g", importance=20),
    Column("goal", "goal", importance=30),
    Column("runs", "runs", style=",", importance=10),
)  # fmt: skip
COLUMNS: Mapping[str, Column] = {column.name: column for column in _ALL}
UNITS = {"bits": "bit", "bytes": "bytes", "ms": "ms", "nats": "nat"}
STYLES = {"bit": ",.4g", "bytes": ",.0f", "ms": ".3f", "nat": ".4f"}
SHARES = ("error", "accuracy", "f1", "iou")


def column(name: str, *, against: str = "") -> Column:
    """A column by its stored name; `against` is what a difference is taken against.

    One that is not registered is called by its name's words, its unit by the last of them.

    >>> column("file_bytes").heading, column("onnx_latency_1_ms").heading, column("own_f1").heading
    ('file [bytes]', 'onnx latency 1 [ms]', 'own f1 [%]')
    """
    if name.startswith("error_minus_"):
        return replace(column("top1_error_difference"), name=name, against=name.removeprefix("error_minus_"))
    known = COLUMNS.get(name) or _guessed(name)
    return replace(known, against=against) if against and name.endswith("_difference") else known


def _guessed(name: str) -> Column:
    words = name.replace("top1", "top-1").replace("top5", "top-5").replace("_", " ")
    head, _, last = words.rpartition(" ")
    if head and last in UNITS:
        return Column(name, head, UNITS[last], style=STYLES[UNITS[last]])
    if last in SHARES:
        return Column(name, words, "%", factor=100, style=".2f")
    return Column(name, words, style=".4g")
