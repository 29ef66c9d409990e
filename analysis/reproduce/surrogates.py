"""The same experiments on the bundled digits, in place of runs that need a GPU, and what they say."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from analysis.lab.measurement.verdict import Estimate, Judgement, compare, difference, exact
from analysis.lab.runs.directory import open_run
from analysis.lab.runs.loading import Run, finished
from analysis.reproduce.claim import Claim
from analysis.reproduce.trained import plus_minus
from capacity.columns import percent

SURROGATES: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("capacity_curve", {}),
    ("pruning_curve", {}),
    ("distillation_table", {}),
    ("quantization_table", {"compile": False, "seeds": 3}),
    ("comparison", {}),
    ("data_requirement", {}),
)
QUICK = ("masked", "static-int8", "deep-compressed", "rate-coded")
# A quick pass means nothing: of each command no more than what a claim or the article reads.
SMOKE: Mapping[str, Mapping[str, Any]] = {
    "quantization_table": {"onnx": False, "schemes": ("static", "uncalibrated")},
    "comparison": {"onnx": False, "model": "mlp_student", "techniques": QUICK},
}


def run_surrogate(command: str, changes: Mapping[str, Any], folder: Path, *, smoke: bool) -> Run:
    """Run a command's default experiment on the digits, or read it where it is finished."""
    module = import_module(f"analysis.{command}")
    path = folder / command
    fewer = SMOKE.get(command, {}) if smoke else {}
    config = replace(module.Config(), **changes, **fewer, smoke=smoke, output=str(path))
    if not smoke:
        module.start(config, say=_unsaid)
    elif hasattr(module, "EXPERIMENT"):  # rows alone: figures and tables are what a claim does not read
        module.run(config, say=_unsaid)
    else:
        open_run(command, config, name=command).save_frame(module.run(config))
    return finished(path)


def _unsaid(text: str) -> None:
    """What a stand-in would say by itself: its claims say it here."""


def surrogate_claims(runs: Mapping[str, Run]) -> Iterator[Claim]:
    """What the stand-ins say about lines that need training."""
    for function in SURROGATE_CLAIMS:
        yield from function(runs)


def _squeezes(runs: Mapping[str, Run]) -> Iterator[Claim]:
    means = runs["capacity_curve"].summary()
    rows = means[means["criterion"] == "l1"]
    last: Any = rows[rows["step"] == rows["step"].max()].iloc[0]
    gap, half = 100 * last["top1_error_difference_mean"], 100 * last["top1_error_difference_half_width"]
    yield Claim(
        "A", "accuracy rises as the network is squeezed", "92.00 % to 94.93 %",
        f"beside a control trained as long: {gap:+.2f}{plus_minus(half)} points of error",
        _difference(last, "top1_error_difference", runs["capacity_curve"]),
        "the report did not control for the further training; stand-in on the digits",
        runs["capacity_curve"].call, "Figure 1; FinalScript.pdf, cell 6",
    )  # fmt: skip


def _masks(runs: Mapping[str, Run]) -> Iterator[Claim]:
    run = runs["comparison"]
    means = run.summary().set_index("technique")
    masked: Any = means.loc["masked"]
    dense: Any = means.loc["baseline"]
    same = masked["file_bytes_mean"] == dense["file_bytes_mean"]
    unsteady = _unsteady(run)
    yield Claim(
        "C", "unstructured pruning leaves size and time unchanged", "unchanged",
        f"file {'unchanged' if same else 'changed'}, time {1 / masked['speedup_32_mean']:.2f} of the whole's",
        _timed(masked, 1.0, run) if same else exact(bool(same)),
        f"a mask only; stand-in on the digits{unsteady}", runs["comparison"].call, "its text", 2,
    )  # fmt: skip
    yield Claim(
        "E", "latency after 60 % pruning", "-",
        f"{percent(masked['flops_mean'] / dense['flops_mean'])} of the operations, "
        f"{1 / masked['speedup_32_mean']:.2f} of the time",
        _timed(masked, 2.27 / 2.05, run),
        f"beside 2.05 of 2.27 ms; dense kernels multiply the zeros too; stand-in on the digits{unsteady}",
        runs["comparison"].call, figures=0,
    )  # fmt: skip
    static: Any = means.loc["static-int8"]
    gap, half = 100 * static["top1_error_difference_mean"], 100 * static["top1_error_difference_half_width"]
    yield Claim(
        "C", "static quantization", "abandoned: bad accuracy",
        f"{gap:+.2f}{plus_minus(half)} points of error beside float",
        _difference(static, "top1_error_difference", run),
        "observers have seen data; stand-in on the digits", runs["comparison"].call, "its text",
    )  # fmt: skip


def _unsteady(run: Run) -> str:
    """What to add to times where the whole network took another time than itself."""
    from analysis.lab.measurement.statistics import differs_from_itself

    frame = run.frame
    alone = frame.loc[frame["technique"] == "baseline", ["speedup_1", "speedup_32"]]
    said = differs_from_itself(alone, "whole")
    return f"; {said}" if said else ""


def _observers(runs: Mapping[str, Run]) -> Iterator[Claim]:
    from analysis.lab.measurement.statistics import paired_difference

    run = runs["quantization_table"]
    gaps = run.summary().set_index("scheme")["top1_error_difference_mean"]
    paired = paired_difference(
        run.frame, "top1_error", against="static", keys=["seed"], by=["scheme"], column_name="scheme"
    ).set_index("scheme")
    lost, static = (100 * float(gaps[name]) for name in ("uncalibrated", "static"))
    yield Claim(
        "E", "loss of static int8", "to be expected of its precision",
        f"at one precision: uncalibrated {lost:+.2f} points of error, calibrated {static:+.2f}",
        _difference(paired.loc["uncalibrated"], "top1_error_difference", run),
        "the report's observers had never seen an activation; stand-in on the digits",
        runs["quantization_table"].call, "Sections 4.5 and 5",
    )  # fmt: skip


def _students(runs: Mapping[str, Run]) -> Iterator[Claim]:
    means = runs["distillation_table"].summary()
    means = means[means["variant"] != "teacher"].set_index("variant")
    names = {"class-mean": "mean over classes", "dropout-on": "dropout on in tests", "cold": "T = 1",
             "report-b": "all three"}  # fmt: skip
    for variant, label in names.items():
        if variant in means.index:
            row: Any = means.loc[variant]
            gap, half = 100 * row["error_minus_distilled_mean"], 100 * row["error_minus_distilled_half_width"]
            yield Claim(
                "B", f"disappointing students: {label}", "-", f"{gap:+.2f}{plus_minus(half)} points of error",
                _difference(row, "error_minus_distilled", runs["distillation_table"]),
                "beside the same students soundly distilled; stand-in on the digits",
                runs["distillation_table"].call, figures=0,
            )  # fmt: skip


def _difference(row: Any, name: str, run: Run) -> Judgement:
    gap = Estimate(float(row[f"{name}_mean"]), float(row[f"{name}_half_width"]))
    return difference(gap, quick=run.config.smoke)


def _timed(row: Any, speedup: float, run: Run) -> Judgement:
    """A speed-up at a batch of 32 beside a published one; the same within a tenth."""
    estimate = Estimate(float(row["speedup_32_mean"]), float(row["speedup_32_half_width"]))
    return compare(
        estimate, Estimate(speedup, 0.0), margin=0.1, lower_is_better=False, quick=run.config.smoke
    )


SURROGATE_CLAIMS: tuple[Callable[[Mapping[str, Run]], Iterator[Claim]], ...] = (
    _squeezes, _masks, _observers, _students,
)  # fmt: skip
