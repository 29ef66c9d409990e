"""Settings and presets of the pruning experiment; importing it costs no torch."""

from dataclasses import dataclass, replace
from typing import Literal

from analysis.lab.cli import at_least_one
from analysis.lab.criteria import CRITERIA
from analysis.lab.settings import (
    REDUCED,
    PruneSettings,
    RunnerSettings,
    RunSettings,
    ScheduleSettings,
    TeacherSettings,
    ValidationSettings,
)
from capacity.errors import InputError, unknown


@dataclass(frozen=True)
class Config(
    RunSettings, ValidationSettings, TeacherSettings, ScheduleSettings, PruneSettings, RunnerSettings
):
    """Train a network, prune it to each amount by each criterion, retrain, and measure what is left."""

    criterion: tuple[Literal["l1", "l2", "reservoir", "random"], ...] = ("l1", "random")
    center: Literal["mean", "zero"] = "zero"
    amounts: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
    """Fractions of all weights (or units) to prune, ascending."""
    unit: Literal["weight", "neuron"] = "weight"
    scope: Literal["layer", "global"] = "global"
    retrain_epochs: int = 10
    """Epochs of training after pruning (one-shot, iterative); 0 shows the bare damage."""
    teacher: bool = False
    """Also retrain each under the dense network as its teacher, beside plain retraining."""
    tolerance: float = 0.005
    """Accuracy counts as equal while the mean error is at most so much above the reference."""
    preset: Literal[
        "default",
        "lenet5",
        "lenet300",
        "lenet5-teacher",
        "report-b",
        "report-b-reduced",
        "report-c",
        "report-c-reduced",
        "report-c-masked",
        "report-c-masked-reduced",
        "report-e",
        "report-e-reduced",
    ] = "default"
    """lenet5, lenet300: sparsity records on MNIST; lenet5-teacher: retraining at 1 % density under the dense
    teacher and without; report-b, -c, -e: those reports' pruning at full size or at reduced scale
    (C's of channels, and of single weights)."""


PRESETS = {
    "default": Config(),
    "report-b-reduced": Config(
        **REDUCED, preset="report-b-reduced", model="vgg16bn_quarter", amounts=(0.1,), retrain_epochs=0
    ),
    "report-c-reduced": Config(
        **REDUCED, preset="report-c-reduced", model="googlenet_eighth", criterion=("l2",), amounts=(0.2,),
        unit="neuron", scope="layer", retrain_epochs=5,
    ),
    "report-c-masked-reduced": Config(
        **REDUCED, preset="report-c-masked-reduced", model="googlenet_eighth", criterion=("l1",),
        amounts=(0.2,), retrain_epochs=5,
    ),
    "report-e-reduced": Config(
        **REDUCED, preset="report-e-reduced", model="resnet18_quarter",
        amounts=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9), retrain_epochs=0,
    ),
    "lenet5": Config(
        preset="lenet5", dataset="mnist", model="lenet5", criterion=("l1",), amounts=(0.991, 0.996),
        schedule="gradual", epochs=25, shift=1,
    ),
    "lenet300": Config(
        preset="lenet300", dataset="mnist", model="lenet300", criterion=("l1",), amounts=(0.95, 0.985),
        schedule="gradual", epochs=60, learning_rate=0.1, weight_decay=1e-4, shift=1,
    ),
    "lenet5-teacher": Config(
        preset="lenet5-teacher", dataset="mnist", model="lenet5", criterion=("l1",), amounts=(0.99,),
        epochs=10, retrain_epochs=3, teacher=True, seeds=5,
    ),
    "report-b": Config(
        preset="report-b", dataset="cifar100", model="vgg16bn", amounts=(0.1, 0.2, 0.4, 0.6, 0.8),
        epochs=200, retrain_epochs=0, augment=True,
    ),
    "report-c": Config(
        preset="report-c", dataset="cifar100", model="googlenet", criterion=("l2",), amounts=(0.2,),
        unit="neuron", scope="layer", epochs=200, retrain_epochs=100, augment=True,
    ),
    "report-c-masked": Config(
        preset="report-c-masked", dataset="cifar100", model="googlenet", criterion=("l1",), amounts=(0.2,),
        epochs=200, retrain_epochs=100, augment=True,
    ),
    "report-e": Config(
        preset="report-e", dataset="cifar10", model="resnet18", epochs=100, retrain_epochs=0, augment=True
    ),
}  # fmt: skip


def check(config: Config) -> None:
    """Raise InputError for settings that cannot be."""
    from compression.distillation import DistillationLoss

    at_least_one(config, "seeds", "epochs", "batch_size", "image_size")
    if config.teacher and config.schedule in ("one-shot", "iterative") and not config.retrain_epochs:
        raise InputError("a teacher needs retraining: --retrain-epochs of at least 1")
    DistillationLoss(config.temperature, config.alpha)  # refuses what cannot be
    if config.retrain_epochs < 0 or config.shift < 0 or config.tolerance < 0:
        raise InputError("retrain_epochs, shift and tolerance must not be negative")
    amounts = config.amounts
    if not amounts or any(not 0 < a < 1 for a in amounts) or list(amounts) != sorted(set(amounts)):
        raise InputError(f"amounts must be ascending fractions between 0 and 1, found {list(amounts)}")
    if not config.criterion:
        raise unknown("criterion", "", CRITERIA)
    if config.schedule == "gradual" and config.unit == "neuron":
        raise InputError("gradual pruning masks single weights: use --unit weight")
    if config.schedule == "rewind" and not 0 <= config.snapshot_epoch < config.epochs:
        raise InputError(f"snapshot_epoch must lie between 0 and {config.epochs - 1}")
    if not 0 < config.gradual_until <= 1:
        raise InputError(f"gradual_until must be a share of the epochs, found {config.gradual_until}")


def smoke(config: Config) -> Config:
    """The settings of a quick pass."""
    small = min(config.limit or 256, 256)
    return replace(
        config, seeds=1, epochs=1, retrain_epochs=min(config.retrain_epochs, 1), snapshot_epoch=0,
        amounts=config.amounts[:2], limit=small,
    )  # fmt: skip
