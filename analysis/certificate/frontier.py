"""The guarantee of each file of a compression_frontier run, and the files that it is written to."""

from typing import TYPE_CHECKING

from analysis.certificate.config import COMMAND, Config
from analysis.certificate.report import draw
from capacity.columns import percent
from capacity.errors import InputError
from capacity.figures import styled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.lab.runs.loading import Run
    from capacity.tables import Table


MORE = "with --wide and in certificate.csv"


def certified(run: "Run", config: Config) -> "pd.DataFrame":
    """A row per file: bytes, errors on what training saw and on the test, and the bounds, as fractions.

    Any of the run's files may be picked by its bound: each pays for that choice.
    """
    from capacity.certificates import certificate

    frame = run.frame
    choices = len(frame) * config.choices
    rows = []
    for row in frame.to_dict("records"):
        total = int(row["all_points"] - row["total"])
        errors = total - int(row["correct_of_all"] - row["correct"])
        bound = certificate(
            errors, total, int(row["file_bytes"]), choices=choices, confidence=config.confidence
        )
        rows.append({
            "seed": row["seed"], "method": row["method"], "density": row["density"],
            "file_bytes": bound.file_bytes, "code_bits": bound.code_bits, "training_samples": total,
            "training_error": bound.training_error, "top1_error_bound": bound.error_bound,
            "kl_error_bound": bound.kl_error_bound, "top1_error": row["top1_error"],
        })  # fmt: skip
    import pandas as pd

    return pd.DataFrame(rows)


def summary(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Means and 95 % intervals over seeds."""
    from analysis.lab.measurement.statistics import summarize

    columns = ["file_bytes", "training_error", "top1_error_bound", "kl_error_bound", "top1_error"]
    return summarize(frame, ["method", "density"], columns)


def table(frame: "pd.DataFrame", run: "Run", config: Config) -> "Table":
    """A row per method and density: what the files guarantee, beside the error that they make."""
    from analysis.lab.reporting.columns import table_of
    from capacity.columns import seeds

    count = int(frame["seed"].nunique())
    spread = "; ± is a 95 % interval of the mean over seeds" if count > 1 else ""
    caption = (
        f"Error on new data that the bytes of a file guarantee with confidence {config.confidence:g}: "
        f"{run.config.model} on {run.config.dataset}, {int(frame['training_samples'].iloc[0]):,} training "
        f"samples, {seeds(count)}{spread}"
    )
    names = (
        "method", "density", "file_bytes", "top1_error_bound", "kl_error_bound", "top1_error",
        "training_error",
    )  # fmt: skip
    return table_of(summary(frame), names, caption=caption, label="tab:certificate", more=MORE)


def headline(frame: "pd.DataFrame", run: "Run", config: Config) -> list[str]:
    """What is guaranteed, beside what was published, and whether any file breaks its bound."""
    from analysis.lab.literature import CERTIFICATES

    best = frame.iloc[int(frame["top1_error_bound"].argmin())]
    broken = int((frame["top1_error"] > frame["top1_error_bound"]).sum())
    data = run.config
    lines = [
        f"With confidence {config.confidence:g} a file of {best['file_bytes']:,.0f} bytes "
        f"({best['method']}, {100 * best['density']:g} % kept, seed {best['seed']:.0f}) errs on at most "
        f"{percent(best['top1_error_bound'], 1)} of new data; on the test it errs on "
        f"{percent(best['top1_error'], 2)}",
        f"{data.model} on {data.dataset}: {int(best['training_samples']):,} training samples, all that the "
        f"run has trained on or chosen by; each bound pays for its file and for the choice among "
        f"{len(frame) * config.choices:,}",
        f"{broken} of {len(frame)} files err more on the test than their bound",
        "Assumed: independent samples of one distribution; code, architecture and settings fixed before they "
        "were seen. What was tuned on them earlier costs --choices",
    ]
    if data.dataset in CERTIFICATES and not data.smoke:
        published = CERTIFICATES[data.dataset]
        lines.append(
            f"Published with data-independent priors: {percent(published, 1)} (Lotfi et al. 2022), "
            f"{100 * (best['top1_error_bound'] - published):+.1f} points beside it"
        )
    return lines


@styled
def plot(frame: "pd.DataFrame", run: "Run") -> "Figure":
    """Guaranteed and measured error against bytes of the file, a mark per file."""
    from analysis.lab.literature import CERTIFICATES

    return draw(frame, CERTIFICATES.get(run.config.dataset))


def start(config: Config) -> None:
    """Bound, print, and write beside the run's results."""
    from pathlib import Path

    from analysis.lab.reporting.figures import save_figure
    from analysis.lab.runs.directory import RunDirectory
    from analysis.lab.runs.loading import finished
    from capacity.terminal import broken, printable

    run = finished(config.run)
    if run.command != COMMAND:
        raise InputError(f"{config.run} is a run of {run.command}; files are in runs of {COMMAND}")
    frame = certified(run, config)
    folder, shown = RunDirectory(Path(config.run)), table(frame, run, config)
    folder.save_frame(frame, "certificate.csv")
    folder.save_text(shown.to_latex(venue=config.venue), "certificate.tex")
    save_figure(plot(frame, run), folder.path, "certificate", venue=config.venue, pgf=config.pgf)
    print("\n".join(printable(broken(line)) for line in headline(frame, run, config)))
    print(f"\n{shown.text(wide=config.wide)}\n")
    print(f"written: {folder.path}/certificate.csv, .tex and .pdf")
