"""The article's numbers as LaTeX macros."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from analysis.lab.literature import CERTIFICATES, COMPRESSION, DISTILLATION, report_of
from analysis.lab.measurement.verdict import Verdict
from analysis.lab.reporting.latex import mean_and_interval
from analysis.lab.runs.loading import Run, finished
from analysis.reproduce.claim import published

if TYPE_CHECKING:
    import pandas as pd


def macro_name(name: str) -> str:
    """A name that TeX allows in a macro: letters only.

    >>> macro_name("frontier-lenet5")
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


def exact_numbers() -> Iterator[tuple[str, str]]:
    from analysis.lab.models import create
    from capacity import dense_capacity, measure

    head = dense_capacity(25_088, [4096, 4096, 256, 10])
    yield "HeadBits", grouped(head)
    yield "HeadBitsTimesEight", grouped(8 * head)
    yield "HeadBitsThatLearn", grouped(dense_capacity(4096, [256, 10]))
    yield "HeadBitsSqueezed", grouped(dense_capacity(25_088, [3596, 4096, 256, 10]))
    report = measure(create("mlp", input_size=(1, 8, 8), classes=10), (1, 8, 8))
    yield "SmallBits", grouped(report.capacity_bits)
    yield "SmallParameters", grouped(report.total_parameters)
    for name, model in (("LenetThree", "lenet300"), ("LenetFive", "lenet5")):
        measured = measure(create(model, input_size=(1, 28, 28), classes=10), (1, 28, 28))
        yield f"{name}Bits", grouped(measured.capacity_bits)
        yield f"{name}Parameters", grouped(measured.total_parameters)
    for convention in ("running", "previous", "uncapped"):
        bits = measure(
            create("lenet5", input_size=(1, 28, 28), classes=10), (1, 28, 28), convention=convention
        ).capacity_bits
        yield f"LenetFive{convention.capitalize()}", grouped(bits)


def verdict_counts(lines: "pd.DataFrame") -> Iterator[tuple[str, str]]:
    lines = published(lines)
    counts = lines["verdict"].value_counts()
    yield "Lines", str(len(lines))
    yield "LinesFigures", str(int(lines["figures"].astype(int).sum()))
    for verdict in Verdict:
        yield f"Lines{macro_name(verdict)}", str(int(counts.get(verdict, 0)))


def surrogate_numbers(runs: Mapping[str, Run]) -> Iterator[tuple[str, str]]:
    curve = runs["capacity_curve"]
    means = curve.summary()
    rows = means[means["criterion"] == "l1"]
    last = rows[rows["step"] == rows["step"].max()].iloc[0]
    first = rows[rows["step"] == 0].iloc[0]
    yield "CurveSeeds", str(curve.frame["seed"].nunique())
    yield "CurvePoints", grouped(int(curve.frame["total"].iloc[0]))
    yield "CurveSteps", str(int(rows["step"].max()))
    yield "CurveLeft", f"{100 * last['capacity_bits_mean'] / first['capacity_bits_mean']:.1f}"
    yield "CurveGap", interval_cell(last, "top1_error_difference", 100)
    yield "CurveFirstError", interval_cell(first, "top1_error", 100)
    yield "CurveLastError", interval_cell(last, "top1_error", 100)
    yield "CurveFirstRho", interval_cell(first, "points_per_bit")
    yield "CurveLastRho", interval_cell(last, "points_per_bit")
    taught = runs["distillation_table"].summary()
    taught = taught[taught["variant"] != "teacher"].set_index("variant")
    for variant in ("alone", "class-mean", "dropout-on", "cold", "report-b"):
        if variant in taught.index:
            yield (
                f"Students{macro_name(variant)}",
                interval_cell(taught.loc[variant], "error_minus_distilled", 100),
            )
    rounded = runs["quantization_table"].summary().set_index("scheme")
    for scheme in ("static", "uncalibrated"):
        yield f"Rounded{macro_name(scheme)}", interval_cell(rounded.loc[scheme], "top1_error_difference", 100)
    means = runs["comparison"].summary().set_index("technique")
    size: dict[Any, float] = means["file_bytes_mean"].to_dict()
    for name in ("static-int8", "deep-compressed", "rate-coded"):
        yield f"Compared{macro_name(name)}Ratio", f"{size['baseline'] / size[name]:.1f}"
    need = runs["data_requirement"].frame
    labels: Any = need[need["labels"] == "labels as they are"].iloc[-1]
    yield "NeedBits", grouped(labels["expected_bits"])
    yield "NeedChanges", grouped(labels["thresholds"])
    shuffled: Any = need[need["labels"] == "labels shuffled"].iloc[-1]
    yield "NeedChangesShuffled", grouped(shuffled["thresholds"])


def recorded_numbers(full: Mapping[str, Run]) -> Iterator[tuple[str, str]]:
    for name, run in full.items():
        yield from NUMBERS[run.command](macro_name(name), run.summary())
    for student in DISTILLATION:
        if report_of(student.source) == "D" and student.dataset != "flowers102":
            key = macro_name(f"published-{student.dataset}-{student.variant}")
            yield key, f"{100 * student.top1_error:.2f}"
    for record in COMPRESSION:
        key = macro_name(f"published-{record.model}-{record.source}")
        yield f"{key}Ratio", f"{record.compression_ratio:g}"
        yield f"{key}Error", f"{100 * record.top1_error:.2f}"


def certificates(full: Mapping[str, Run]) -> Iterator[tuple[str, str]]:
    """The least error that any file of a recorded run on MNIST guarantees, and its error on the test."""
    from math import log2

    from analysis.answer import RECORDS
    from analysis.certificate import Config
    from analysis.certificate.frontier import certified

    confidence = Config().confidence
    yield "CertificateConfidence", f"{confidence:g}"
    yield "PublishedCertificateMnist", f"{100 * CERTIFICATES['mnist']:.1f}"
    yield "LenetFiveLabelBits", grouped(60_000 * log2(10))
    for name, run in full.items():
        if run.command == "compression_frontier":
            frame = certified(run, Config())
            best = frame.iloc[int(frame["top1_error_bound"].argmin())]
            key = macro_name(f"certificate-{name}")
            yield f"{key}Bytes", grouped(best["file_bytes"])
            yield f"{key}Bound", f"{100 * best['top1_error_bound']:.1f}"
            yield f"{key}Test", f"{100 * best['top1_error']:.2f}"
    searched = finished(RECORDS / "certificate-mnist").frame.iloc[-1]
    yield "CertificateSearchBytes", grouped(searched["file_bytes"])
    yield "CertificateSearchWeights", grouped(searched["parameters"])
    yield "CertificateSearchBound", f"{100 * searched['top1_error_bound']:.1f}"
    yield "CertificateSearchTest", f"{100 * searched['top1_error']:.2f}"


def _of_frontier(name: str, means: "pd.DataFrame") -> Iterator[tuple[str, str]]:
    rows = means[means["method"] == "rate"].reset_index(drop=True)
    for letter, (_, row) in zip("ABCDEFG", rows.iterrows(), strict=False):
        key = f"{name}{letter}"
        yield f"{key}Ratio", f"{row['compression_ratio_mean']:.0f}"
        yield f"{key}Error", interval_cell(row, "top1_error", 100)
        yield f"{key}Bytes", grouped(row["file_bytes_mean"])
        yield f"{key}Rho", f"{row['points_of_all_per_bit_mean']:.1f}"


def _of_quantized(name: str, means: "pd.DataFrame") -> Iterator[tuple[str, str]]:
    means = means.set_index("scheme")
    for scheme in ("static", "weight-only-4", "grouped-4", "aware-4", "uncalibrated"):
        yield f"{name}{macro_name(scheme)}", interval_cell(means.loc[scheme], "top1_error_difference", 100)
    yield f"{name}Float", interval_cell(means.loc["float"], "top1_error", 100)
    agree = means.loc[["static", "aware-8"], "onnx_agreement_mean"].min()
    yield f"{name}Agreement", f"{100 * agree:.2f}"


def _of_students(name: str, means: "pd.DataFrame") -> Iterator[tuple[str, str]]:
    for row in means.to_dict("records"):
        key = f"{name}{macro_name(row['variant'])}"
        yield key, interval_cell(row, "top1_error", 100)
        if row["variant"] == "distilled":
            yield f"{key}Difference", interval_cell(row, "error_minus_alone", 100)


def _of_sparse(name: str, means: "pd.DataFrame") -> Iterator[tuple[str, str]]:
    means = means.set_index("technique")
    for technique in ("control", "masked", "static-int8", "masked-int8"):
        yield (
            f"{name}{macro_name(technique)}",
            interval_cell(means.loc[technique], "top1_error_difference", 100),
        )
    yield f"{name}Baseline", interval_cell(means.loc["baseline"], "top1_error", 100)


def interval_cell(row: Any, name: str, factor: float = 1) -> str:
    return mean_and_interval(row[f"{name}_mean"] * factor, row[f"{name}_half_width"] * factor)


NUMBERS: dict[str, Callable[[str, "pd.DataFrame"], Iterator[tuple[str, str]]]] = {
    "compression_frontier": _of_frontier, "quantization_table": _of_quantized,
    "distillation_table": _of_students, "comparison": _of_sparse,
}  # fmt: skip
