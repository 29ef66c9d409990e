"""Settings and presets of the quantization experiment; importing it costs no torch."""

from dataclasses import dataclass, replace
from typing import Literal

from analysis.lab.cli import at_least_one, single_precision
from analysis.lab.settings import REDUCED, MeasureSettings, RunnerSettings, RunSettings
from capacity.errors import unknown

Name = Literal[
    "dynamic", "static", "weight-only-8", "weight-only-4", "grouped-4", "aware-8", "aware-4", "uncalibrated"
]  # fmt: skip


ALL: tuple[Name, ...] = (
    "dynamic", "static", "weight-only-8", "weight-only-4", "grouped-4", "aware-8", "aware-4", "uncalibrated",
)  # fmt: skip


@dataclass(frozen=True)
class Config(RunSettings, MeasureSettings, RunnerSettings):
    """Train a network, quantize it in each scheme, and measure error, bytes and latency."""

    schemes: tuple[Name, ...] = ALL
    """dynamic, static, weight-only-8 and -4 bits, grouped-4 (weights only, a scale per group), aware-8 and -4
    (trained with rounding), and uncalibrated: static without calibration data, which `quantize` refuses, to
    show what it costs."""
    group_size: int = 32
    """Weights of an output that share a scale in grouped-4, at most."""
    compile: bool = True
    """Time integer kernels compiled by Inductor; without, or without a C++ compiler, the plain graph."""
    retrain_epochs: int = 5
    """Epochs of quantization-aware training, at a tenth of the learning rate."""
    preset: Literal[
        "default",
        "lenet5",
        "resnet20",
        "report-b",
        "report-b-reduced",
        "report-c",
        "report-e",
        "report-e-reduced",
    ] = "default"
    """lenet5: on MNIST; resnet20: on CIFAR-10; report-b, -c, -e: those reports' networks at full size, or at
    reduced scale."""


SMALL = Config(**REDUCED, schemes=("dynamic", "static", "uncalibrated"), compile=False, onnx=False)

PRESETS = {
    "default": Config(),
    "report-b-reduced": replace(SMALL, preset="report-b-reduced", model="vgg16bn_quarter"),
    "report-e-reduced": replace(SMALL, preset="report-e-reduced", model="resnet18_quarter"),
    "lenet5": Config(preset="lenet5", dataset="mnist", model="lenet5", epochs=8, retrain_epochs=2, shift=1),
    "resnet20": Config(
        preset="resnet20",
        dataset="cifar10",
        model="resnet20",
        seeds=2,
        epochs=12,
        retrain_epochs=2,
        learning_rate=0.1,
        augment=True,
        mixed_precision="bf16",
    ),
    "report-b": Config(
        preset="report-b", dataset="cifar100", model="vgg16bn", epochs=200, retrain_epochs=10, augment=True
    ),
    "report-c": Config(
        preset="report-c", dataset="cifar100", model="googlenet", epochs=200, retrain_epochs=10, augment=True
    ),
    "report-e": Config(
        preset="report-e", dataset="cifar10", model="resnet18", epochs=100, retrain_epochs=10, augment=True
    ),
}


def check(config: Config) -> None:
    """Raise InputError for settings that cannot be."""
    single_precision(config)
    at_least_one(
        config,
        "seeds",
        "epochs",
        "retrain_epochs",
        "batch_size",
        "image_size",
        "calibration",
        "repeats",
        "group_size",
    )
    if not config.schemes:
        raise unknown("scheme", "", ALL)


def smoke(config: Config) -> Config:
    """The settings of a quick pass."""
    small = min(config.limit or 256, 256)
    return replace(config, seeds=1, epochs=1, retrain_epochs=1, limit=small, repeats=8, compile=False)
