"""What the search's rows say: candidates, what the chosen file guarantees, and what it makes on the test."""

from typing import TYPE_CHECKING, Any

from analysis.certificate.config import Config
from analysis.lab.reporting.columns import MORE
from analysis.lab.reporting.summaries import once_for_the_same_rows
from capacity.columns import KEY, Column, counted, percent
from capacity.figures import styled
from capacity.tables import Table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

COLUMNS = (
    Column("network", "network", importance=KEY),
    Column("fineness", "fineness", "step", style=".3g", importance=7),
    Column("seed", "seed", importance=3),
    Column("parameters", "parameters", style=",", importance=6),
    Column("file_bytes", "file", "byte", style=",", importance=10),
    Column("bits_per_weight", "file", "bit/parameter", style=".2f", importance=4),
    Column("training_error", "training error", "%", style=".2f", factor=100, importance=8),
    Column("top1_error_bound", "guaranteed error", "%", style=".2f", factor=100, importance=KEY),
    Column("kl_error_bound", "by KL divergence", "%", style=".2f", factor=100, importance=2),
    Column("top1_error", "test error", "%", style=".2f", factor=100, importance=9, missing="not looked at"),
)
ASSUMED = (
    "Assumed: independent samples of one distribution; code, architecture and settings fixed before they "
    "were seen. What was tuned on them earlier costs --choices"
)
PUBLISHED = "guaranteed by Lotfi et al. 2022"
LABELS = {
    "top1_error_bound": "guaranteed on new data", "top1_error": "on the test",
    "training_error": "on what training saw",
}  # fmt: skip


@once_for_the_same_rows
def summary(frame: "pd.DataFrame") -> "pd.DataFrame":
    """The candidates, the least guaranteed error first; the test error where one was looked at."""
    best = chosen(frame)
    rows = frame[frame["kind"] == "candidate"].drop(columns=["correct", "total"])
    errors = {best["name"]: best["top1_error"]}
    rows = rows.assign(top1_error=rows["name"].map(errors))
    return rows.sort_values("top1_error_bound", kind="stable").reset_index(drop=True)


def chosen(frame: "pd.DataFrame") -> "pd.Series[Any]":
    """The row of the file that was chosen."""
    return frame[frame["kind"] == "chosen"].iloc[0]


def table(frame: "pd.DataFrame", config: Config) -> Table:
    """A row per candidate: what its file guarantees."""
    best = chosen(frame)
    caption = (
        f"Error on new data that the bytes of a file guarantee with confidence {config.confidence:g}: small "
        f"networks on {config.dataset}, {best['training_samples']:,} training samples, one of "
        f"{counted(best['choices'], 'choice')}; the test was scored once, with the first"
    )
    rows: list[dict[Any, Any]] = summary(frame).to_dict("records")
    return Table(COLUMNS, rows, caption=caption, label="tab:certificate-search", more=MORE)


def headline(frame: "pd.DataFrame", config: Config) -> list[str]:
    """What the chosen file guarantees, what that pays for, and what was published."""
    best, candidates = chosen(frame), int((frame["kind"] == "candidate").sum())
    broken = "" if best["top1_error"] <= best["top1_error_bound"] else ", MORE than its bound"
    lines = [
        f"With confidence {config.confidence:g} a file of {best['file_bytes']:,} bytes (network "
        f"{best['network']}, {best['parameters']:,} weights) errs on at most "
        f"{percent(best['top1_error_bound'], 2)} of new data; on the {best['total']:,.0f} test samples it "
        f"errs on {percent(best['top1_error'], 2)}{broken}",
        f"{config.dataset}: {best['training_samples']:,} training samples, all that anything learned from or "
        f"was chosen by, of which it errs on {percent(best['training_error'], 2)}; the bound pays for "
        f"{best['code_bits']:,.0f} bits: the file, its length, and one of "
        f"{counted(best['choices'], 'choice')} ("
        f"{counted(candidates, 'candidate')} x {config.choices:,} before)",
        ASSUMED,
    ]
    if config.smoke:
        from analysis.lab.measurement.verdict import Verdict

        return [*lines, str(Verdict.QUICK_PASS)]
    return lines + published(best["top1_error_bound"], config)


def published(bound: float, config: Config) -> list[str]:
    """The bound beside the published one, where there is one; it says where pictures differ."""
    from analysis.lab.literature import CERTIFICATES

    if config.limit is not None or not (value := reference(config)):
        return []
    name = next(name for name in CERTIFICATES if CERTIFICATES[name] == value)
    other = "" if name == config.dataset else f" for {name} itself, these pictures are its JPEG version"
    return [
        f"Published with data-independent priors{other}: {percent(value, 1)} (Lotfi et al. 2022), "
        f"{100 * (bound - value):+.1f} points beside it"
    ]


def reference(config: Config) -> float | None:
    """The published bound of the data set, for preset cifar10 that of the original pictures."""
    from analysis.lab.literature import CERTIFICATES

    jpeg = config.preset == "cifar10" and "cifar10" in config.dataset
    return CERTIFICATES.get("cifar10" if jpeg else config.dataset)


@styled
def plot(frame: "pd.DataFrame", config: Config) -> "Figure":
    """Guaranteed and measured error against bytes of the file, a mark per candidate."""
    label = "Lotfi et al. 2022, not JPEG" if config.preset == "cifar10" else PUBLISHED
    return draw(summary(frame), reference(config), label)


def draw(frame: "pd.DataFrame", published: float | None, label: str = PUBLISHED) -> "Figure":
    """Errors against bytes of the file, a mark per file, beside what was published."""
    from analysis.lab.reporting import figures

    figure, axes = figures.new_figure(figures.COLUMN_INCHES, 2.8)
    colour = figures.colours(list(LABELS))
    for name, mark in zip(LABELS, "osv", strict=True):
        axes.plot(
            frame["file_bytes"], 100 * frame[name].clip(lower=1e-5), mark, color=colour[name], markersize=4,
            label=LABELS[name],
        )  # fmt: skip
    if published is not None:
        axes.axhline(
            100 * published, color="black", linewidth=0.8, linestyle="--",
            label=label,
        )  # fmt: skip
    axes.set(xlabel="file [bytes]", ylabel="top-1 error [%]")
    figures.log_axis(axes, "x")
    figures.log_axis(axes, "y", percent=True)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure
