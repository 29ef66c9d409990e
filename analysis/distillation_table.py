"""Students under a teacher, beside the same students alone; and why the reports' students disappointed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from analysis.lab.commands import at_least_one, execute
from capacity.errors import InputError, unknown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.lab.records import RunFolder

Name = Literal[
    "alone", "distilled", "standardized", "decoupled", "matching", "class-mean", "dropout-on", "cold",
    "report-b", "freezing",
]  # fmt: skip


FAULTS = ("class-mean", "dropout-on", "cold", "report-b", "freezing")  # compared with sound distillation


@dataclass(frozen=True)
class Config:
    """Train a teacher, then students alone and in several variants of distillation; compare them."""

    dataset: str = "digits"
    """digits, mnist, fashion-mnist, kmnist, cifar10, cifar100, flowers102 or imagefolder:PATH."""
    data: str = "data"
    """Folder where torchvision's data sets lie, or are downloaded to."""
    model: str = "mlp"
    """The teacher: any network of --help of capacity_curve, cnn_teacher, resnet56, resnet32x4, ..."""
    student: tuple[str, ...] = ("mlp_student",)
    """Students: mlp_student, cnn_student, cnn5, resnet20, resnet8x4, student_v1 to student_v7, ..."""
    variants: tuple[Name, ...] = ("alone", "distilled", "class-mean", "dropout-on", "cold", "report-b")
    """alone; distilled (Hinton); standardized, decoupled (stronger losses); matching (no labels, mixup, all
    pictures); class-mean, dropout-on, cold (report B's faults one by one), report-b (all of them); freezing
    (report E's T = 0.01)."""
    temperature: float = 4.0
    """Divides the logits of teacher and student in the soft term."""
    alpha: float = 0.9
    """Weight of the soft term; the rest is cross-entropy with the labels."""
    student_dropout: float = 0.2
    """Dropout behind every rectifier of a student; 0 leaves students as they are."""
    labels: int | None = 300
    """How many labelled pictures the students see; the teacher sees all. None: as many as the teacher."""
    seeds: int = 5
    """How many trials, each with its own teacher, students and order of the data."""
    teacher_epochs: int = 30
    """Epochs of the teacher's training."""
    epochs: int = 150
    """Epochs of the students' training."""
    batch_size: int = 64
    """Samples in a batch."""
    learning_rate: float = 0.05
    """Highest learning rate; it warms up over the first epoch and anneals to zero."""
    weight_decay: float = 5e-4
    """Weight decay."""
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    """Precision of forward and backward passes in training; everything is measured in single."""
    augment: bool = False
    """Random crops and flips, the same for teacher and student."""
    shift: int = 0
    """Random shifts of the training pictures by up to so many pixels, the same for teacher and student."""
    convention: Literal["previous", "running", "uncapped"] = "previous"
    """How a layer's capacity is capped by what feeds it."""
    pretrained: bool = False
    """Start the teacher from ImageNet weights where it has them."""
    image_size: int = 224
    """Side in pixels to which pictures of differing sizes are brought."""
    limit: int | None = None
    """Use only this many training and test samples."""
    output: str = ""
    """Run folder; by default runs/distillation_table-DATASET-MODEL-HASH, resumed if it exists."""
    smoke: bool = False
    """A quick pass through everything: few samples, one seed, one epoch."""
    preset: Literal[
        "default", "ablation", "report-b", "report-d", "report-d-cifar10", "report-d-flowers", "report-e"
    ] = "default"
    """ablation: report B's faults and modern losses on MNIST with 2,000 labels; report-b, -d, -e: those
    reports' students at full size (D's on MNIST, on CIFAR-10, and function matching on Flowers-102)."""


PRESETS = {
    "default": Config(),
    "ablation": Config(
        preset="ablation", dataset="mnist", model="lenet5", student=("cnn_student",), labels=2_000,
        variants=(
            "alone", "distilled", "standardized", "decoupled", "matching", "class-mean", "dropout-on", "cold",
            "report-b",
        ),
        seeds=3, teacher_epochs=8, epochs=100,
    ),
    "report-b": Config(
        preset="report-b", dataset="cifar100", model="vgg16bn",
        student=tuple(f"student_v{number}" for number in range(1, 8)), labels=None, student_dropout=0.0,
        variants=("alone", "distilled", "report-b"), teacher_epochs=200, epochs=200, batch_size=128,
        augment=True,
    ),
    "report-d": Config(
        preset="report-d", dataset="mnist", model="cnn_teacher", student=("cnn_student",), labels=None,
        student_dropout=0.0, variants=("alone", "distilled"), seeds=3, teacher_epochs=3, epochs=30,
        batch_size=128,
    ),
    "report-d-cifar10": Config(
        preset="report-d-cifar10", dataset="cifar10", model="cnn_teacher", student=("cnn_student",),
        labels=None, student_dropout=0.0, variants=("alone", "distilled"), seeds=3, teacher_epochs=6,
        epochs=30, batch_size=128, mixed_precision="bf16", learning_rate=0.02,
    ),
    "report-d-flowers": Config(
        preset="report-d-flowers", dataset="flowers102", model="torchvision:wide_resnet101_2",
        student=("torchvision:resnet50",), labels=None, student_dropout=0.0,
        variants=("alone", "distilled", "matching"), seeds=3, teacher_epochs=50, epochs=1_000, augment=True,
        pretrained=True, learning_rate=0.01,
    ),
    "report-e": Config(
        preset="report-e", dataset="cifar10", model="resnet18", student=("cnn5",), labels=None,
        student_dropout=0.0, variants=("alone", "distilled", "freezing"), teacher_epochs=100, epochs=100,
        batch_size=128, augment=True,
    ),
}  # fmt: skip


def run(config: Config) -> "pd.DataFrame":
    """A row per seed for the teacher, and for each student and variant; resumes from the run folder."""
    from analysis.lab.lessons import Lessons
    from analysis.lab.publishing import all_trials

    _check(config)
    config = _smoke(config) if config.smoke else config
    experiment = Lessons(config)
    return all_trials(experiment, folder_of(config), config.seeds)


def folder_of(config: Config) -> "RunFolder":
    """The run folder of these settings."""
    from analysis.lab.records import trial_folder

    return trial_folder("distillation_table", _smoke(config) if config.smoke else config)


def _check(config: Config) -> None:
    at_least_one(config, "seeds", "epochs", "teacher_epochs", "batch_size", "image_size")
    if not 0 <= config.student_dropout < 1:
        raise InputError(f"student_dropout must lie in [0, 1), found {config.student_dropout}")
    if not config.student:
        raise InputError("student must name at least one network")
    if not config.variants:
        raise unknown("variant", "", Name.__args__)  # type: ignore[attr-defined]


def _smoke(config: Config) -> Config:
    small = min(config.limit or 256, 256)
    labels = None if config.labels is None else min(config.labels, 64)
    return replace(config, seeds=1, epochs=1, teacher_epochs=1, limit=small, labels=labels)


def summary(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Mean and 95 % interval over seeds, and the paired differences to the student alone and distilled."""
    from analysis.lab.statistics import paired_difference, summarize

    by = ["network", "variant"]
    frame = frame.rename(columns={"total_parameters": "parameters"})
    means = summarize(frame, by, ["top1_error", "kappa", "parameters", "capacity_bits", "points_per_bit"])
    for against in ("alone", "distilled"):
        if against in set(frame["variant"]):
            found = paired_difference(
                frame, "top1_error", against=against, keys=["seed", "network"], by=by, column_name="variant"
            )
            suffix = {
                f"top1_error_difference_{end}": f"error_minus_{against}_{end}"
                for end in ("mean", "half_width")
            }
            means = means.merge(found.rename(columns=suffix), on=by, how="left")
    return means


def table(frame: "pd.DataFrame") -> str:
    """The summary as text."""
    from rich.table import Table

    from analysis.tables import with_interval
    from capacity.report import render

    means = summary(frame)
    against = [name for name in ("alone", "distilled") if f"error_minus_{name}_mean" in means.columns]
    shown = Table()
    heads = ["network", "variant", "top-1 error [%]", *(f"- {name} [points]" for name in against)]
    for column in (*heads, "kappa", "parameters", "rho [points/bit]"):
        shown.add_column(column, justify="left" if column in ("network", "variant") else "right")
    for row in means.to_dict("records"):
        shown.add_row(
            row["network"], row["variant"], with_interval(row, "top1_error", ".2f", 100),
            *(with_interval(row, f"error_minus_{name}", "+.2f", 100) for name in against),
            with_interval(row, "kappa", ".4f"), with_interval(row, "parameters", ",.0f"),
            with_interval(row, "points_per_bit", ".3g"),
        )  # fmt: skip
    return render(shown, width=150)


def headline(frame: "pd.DataFrame", config: Config) -> list[str]:
    """What the run says, in a few sentences."""
    from analysis.lab.published import published_students

    total, seeds = int(frame["total"].iloc[0]), frame["seed"].nunique()
    labels = "all labels" if config.labels is None else f"{config.labels:,} labels for the students"
    lines = [
        f"{config.model} teaches on {config.dataset}, {labels}, {total:,} test points, {seeds} seeds; "
        f"± is a 95 % interval of the mean over seeds"
    ]
    means = summary(frame)
    for row in means.to_dict("records"):
        for against in ("alone", "distilled"):
            gap, half = (
                row.get(f"error_minus_{against}_{end}", float("nan")) for end in ("mean", "half_width")
            )
            fault = row["variant"] in ("class-mean", "dropout-on", "cold", "report-b", "freezing")
            if (against == "distilled") != fault or gap != gap or half != half:
                continue
            verdict = "beyond the interval" if abs(gap) > half else "within the interval"
            word = "worse" if gap > 0 else "better"
            lines.append(
                f"{row['network']}, {row['variant']}: {100 * abs(gap):.2f} ± {100 * half:.2f} points "
                f"{word} than {against}, {verdict}"
            )
    ours = means.set_index(["network", "variant"])["top1_error_mean"]
    whole = config.labels is None  # published students saw all labels
    for point in published_students([config.model, *config.student], config.dataset) if whole else ():
        if (point.student, point.variant) in ours.index:
            error = ours[(point.student, point.variant)]
            lines.append(
                f"{point.source}, {point.student}, {point.variant}: "
                f"published {100 * point.top1_error:.2f} %, ours {100 * error:.2f} %"
            )
    return lines


def plot(frame: "pd.DataFrame", config: Config) -> "Figure":
    """Error of each student and variant, mean and interval over seeds, each seed, the teacher as a line."""
    from analysis.figures import COLUMN_INCHES, colours, new_figure
    from analysis.lab.lessons import variants
    from analysis.lab.published import published_students

    means = summary(frame)
    students = means[means["variant"] != "teacher"].iloc[::-1].reset_index(drop=True)
    labels = {name: variant.label for name, variant in variants(config).items()}
    several = students["network"].nunique() > 1
    figure, axes = new_figure(1.35 * COLUMN_INCHES, 0.9 + 0.24 * len(students))
    colour = colours(list(dict.fromkeys(students["network"][::-1])))
    for place, row in enumerate(students.to_dict("records")):
        seeds = frame[(frame["network"] == row["network"]) & (frame["variant"] == row["variant"])]
        axes.plot(
            100 * seeds["top1_error"], [place + 0.2] * len(seeds), "|", color="0.55", markersize=4, zorder=1
        )
        half = row["top1_error_half_width"]
        axes.errorbar(
            100 * row["top1_error_mean"], place, xerr=None if half != half else 100 * half, fmt="o",
            color=colour[row["network"]], capsize=2, elinewidth=0.9,
        )  # fmt: skip
    for point in published_students(config.student, config.dataset) if config.labels is None else ():
        match = students[(students["network"] == point.student) & (students["variant"] == point.variant)]
        for place in match.index:
            axes.plot(
                100 * point.top1_error,
                place,
                "*",
                color="black",
                markersize=6,
                label=f"published, {point.source}",
            )
    teacher = means.loc[means["variant"] == "teacher", "top1_error_mean"].iloc[0]
    axes.axvline(100 * teacher, color="0.45", linestyle="--", label=f"teacher, {config.model}")
    axes.set_yticks(
        range(len(students)),
        [
            f"{row.network}, {labels[row.variant]}" if several else labels[row.variant]
            for _, row in students.iterrows()
        ],
    )
    axes.set(xlabel="top-1 error [%]", ylim=(-0.6, len(students) - 0.4))
    handles, texts = axes.get_legend_handles_labels()
    unique = dict(zip(texts, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside upper center", ncols=2)
    return figure


def start(config: Config) -> None:
    """Run, print the table, write the figure and the table beside the results."""
    from analysis.lab.publishing import publish

    frame = run(config)
    publish(
        folder_of(config), "distillation_table", means=summary(frame), table=table(frame),
        lines=headline(frame, config), figure=plot(frame, config),
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    execute(Config, PRESETS, start, arguments)


if __name__ == "__main__":
    main()
