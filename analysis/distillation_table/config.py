"""Settings and presets of the distillation experiment; importing it costs no torch."""

from dataclasses import dataclass, replace
from typing import Literal

from analysis.lab.cli import at_least_one
from analysis.lab.settings import REDUCED, RunnerSettings, RunSettings, TeacherSettings
from capacity.errors import InputError, unknown

Name = Literal[
    "alone", "distilled", "standardized", "decoupled", "matching", "class-mean", "dropout-on", "cold",
    "report-b", "freezing",
]  # fmt: skip


FAULTS = ("class-mean", "dropout-on", "cold", "report-b", "freezing")  # compared with sound distillation


@dataclass(frozen=True)
class Config(RunSettings, TeacherSettings, RunnerSettings):
    """Train a teacher, then students alone and in several variants of distillation; compare them."""

    student: tuple[str, ...] = ("mlp_student",)
    """Students: mlp_student, cnn_student, cnn5, resnet20, resnet8x4, student_v1 to student_v7, ..."""
    variants: tuple[Name, ...] = ("alone", "distilled", "class-mean", "dropout-on", "cold", "report-b")
    """alone; distilled (Hinton); standardized, decoupled (stronger losses); matching (no labels, mixup, all
    pictures); class-mean, dropout-on, cold (report B's faults one by one), report-b (all of them); freezing
    (report E's T = 0.01)."""
    student_dropout: float = 0.2
    """Dropout behind every rectifier of a student; 0 leaves students as they are."""
    labels: int | None = 300
    """How many labelled pictures the students see; the teacher sees all. None: as many as the teacher."""
    seeds: int = 5
    teacher_epochs: int = 30
    """Epochs of the teacher's training."""
    epochs: int = 150
    batch_size: int = 64
    preset: Literal[
        "default",
        "ablation",
        "report-b",
        "report-b-reduced",
        "report-d",
        "report-d-cifar10",
        "report-d-flowers",
        "report-e",
        "report-e-reduced",
    ] = "default"
    """ablation: report B's faults and modern losses on MNIST with 2,000 labels; report-b, -d, -e: those
    reports' students at full size, or at reduced scale (D's on MNIST, on CIFAR-10, and function matching on
    Flowers-102)."""


PRESETS = {
    "default": Config(),
    "report-b-reduced": Config(
        **REDUCED, preset="report-b-reduced", model="vgg16bn_quarter",
        student=("student_v2_quarter", "student_v6_quarter", "student_v7_quarter"), labels=None,
        student_dropout=0.0, variants=("alone", "distilled", "cold", "freezing", "report-b"),
        teacher_epochs=10,
    ),
    "report-e-reduced": Config(
        **REDUCED, preset="report-e-reduced", model="resnet18_quarter", student=("cnn5",), labels=None,
        student_dropout=0.0, variants=("alone", "distilled", "freezing"), teacher_epochs=10,
    ),
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


def check(config: Config) -> None:
    """Raise InputError for settings that cannot be."""
    at_least_one(config, "seeds", "epochs", "teacher_epochs", "batch_size", "image_size")
    if not 0 <= config.student_dropout < 1:
        raise InputError(f"student_dropout must lie in [0, 1), found {config.student_dropout}")
    if not config.student:
        raise InputError("student must name at least one network")
    if not config.variants:
        raise unknown("variant", "", Name.__args__)  # type: ignore[attr-defined]


def smoke(config: Config) -> Config:
    """The settings of a quick pass."""
    small = min(config.limit or 256, 256)
    labels = None if config.labels is None else min(config.labels, 64)
    return replace(config, seeds=1, epochs=1, teacher_epochs=1, limit=small, labels=labels)
