"""Settings and presets of the comparison experiment; importing it costs no torch."""

from dataclasses import dataclass, replace
from typing import Literal

from analysis.lab.cli import at_least_one, single_precision
from analysis.lab.settings import (
    MeasureSettings,
    RunnerSettings,
    RunSettings,
    StudentSettings,
    TeacherSettings,
    WorkerSettings,
)
from capacity.errors import InputError, unknown

Technique = Literal[
    "control", "masked", "shrunk", "distilled", "low-rank", "dynamic-int8", "static-int8", "grouped-int4",
    "aware-int4", "masked-int8", "deep-compressed", "rate-coded", "distil-quantize-prune",
    "prune-shrink-int8", "magnitude", "wanda", "wanda-by-layer", "feedback-pruned", "wanda-2-of-4",
    "feedback-2-of-4", "feedback-int4", "scaled-int4", "feedback-coded",
]  # fmt: skip


ALL: tuple[Technique, ...] = (
    "control", "masked", "shrunk", "distilled", "low-rank", "dynamic-int8", "static-int8", "grouped-int4",
    "deep-compressed", "rate-coded", "distil-quantize-prune", "prune-shrink-int8",
)  # fmt: skip

UNTRAINED: tuple[Technique, ...] = (
    "dynamic-int8", "static-int8", "grouped-int4", "magnitude", "wanda", "wanda-by-layer", "feedback-pruned",
    "wanda-2-of-4", "feedback-2-of-4", "feedback-int4", "scaled-int4", "feedback-coded",
)  # fmt: skip


@dataclass(frozen=True)
class Config(RunSettings, MeasureSettings, WorkerSettings, StudentSettings, TeacherSettings, RunnerSettings):
    """Train a network, make it smaller in every way, and measure each result the same way."""

    techniques: tuple[Technique, ...] = ALL
    """What to compare beside the baseline: control (trained as long), masked, shrunk, distilled, low-rank,
    dynamic-int8, static-int8, grouped-int4, aware-int4, deep-compressed, rate-coded, and the recipes
    distil-quantize-prune and prune-shrink-int8; without retraining, magnitude, wanda (within rows),
    wanda-by-layer, feedback-pruned (SparseGPT), wanda-2-of-4, feedback-2-of-4, feedback-int4 (GPTQ),
    scaled-int4 (AWQ, then GPTQ) and feedback-coded (CERWU)."""
    sparsity: float = 0.8
    """Of masked, magnitude, wanda, wanda-by-layer and feedback-pruned: share of the weights to mask."""
    channels: float = 0.3
    """Of shrunk: share of the channels to remove."""
    temperature: float = 2.0
    alpha: float = 0.5
    energy: float = 0.9
    """Of low-rank: share of the squared singular values to keep."""
    coded_sparsity: float = 0.9
    """Of deep-compressed and rate-coded: share of the weights to prune."""
    bits: int = 5
    """Of deep-compressed: bits of the index into each code book."""
    penalty: float = 1e-9
    """Of feedback-coded: nats of the loss that a bit of the file is worth."""
    retrain_epochs: int = 10
    """Epochs of training in each technique that trains."""
    compile: bool = False
    """Time integer kernels compiled by Inductor, which takes minutes, before those of ONNX Runtime."""
    preset: Literal["default", "lenet5", "report-d", "report-e", "tiny-llm", "tiny-bert"] = "default"
    """lenet5: on MNIST; report-d: that report's six-layer network at a fifth of its weights, then in
    integers, on MNIST; report-e: that report's ResNet-18 on CIFAR-10 at full size; tiny-llm: a small
    language model on numpy's docstrings, made smaller without retraining; tiny-bert: a small encoder that
    tells by 32 words of a docstring which of four libraries it is from."""


PRESETS = {
    "default": Config(),
    "lenet5": Config(
        preset="lenet5", dataset="mnist", model="lenet5", epochs=6, retrain_epochs=3, shift=1,
        coded_sparsity=0.98, sparsity=0.95, mixed_precision="bf16",
    ),
    "report-d": Config(
        preset="report-d", dataset="mnist", model="six_layer", epochs=4, retrain_epochs=2, sparsity=0.8,
        techniques=("control", "masked", "static-int8", "masked-int8"),
    ),
    "report-e": Config(
        preset="report-e", dataset="cifar10", model="resnet18", epochs=100, retrain_epochs=30, augment=True,
        sparsity=0.6, student="cnn5", learning_rate=0.1, mixed_precision="bf16",
    ),
    "tiny-llm": Config(
        preset="tiny-llm", dataset="docstrings", model="tiny_llama", limit=6_000, epochs=2, batch_size=16,
        optimizer="adamw", learning_rate=3e-3, weight_decay=0.1, sparsity=0.5, calibration=128, repeats=10,
        penalty=1e-6,
        techniques=(
            "magnitude", "wanda", "feedback-pruned", "wanda-2-of-4", "feedback-2-of-4", "grouped-int4",
            "feedback-int4", "feedback-coded",
        ),
    ),
    "tiny-bert": Config(
        preset="tiny-bert", dataset="libraries", model="tiny_bert", epochs=2, retrain_epochs=1, batch_size=32,
        optimizer="adamw", learning_rate=1e-3, weight_decay=0.05, sparsity=0.5, coded_sparsity=0.8,
        calibration=128, seeds=5,
        techniques=(
            "control", "masked", "shrunk", "distilled", "low-rank", "static-int8", "grouped-int4",
            "deep-compressed", "magnitude", "wanda", "feedback-pruned", "feedback-int4", "feedback-coded",
        ),
    ),
}  # fmt: skip


def check(config: Config) -> None:
    """Raise InputError for settings that cannot be."""
    from compression.distillation import DistillationLoss

    DistillationLoss(config.temperature, config.alpha)  # refuses what cannot be
    at_least_one(
        config, "seeds", "epochs", "retrain_epochs", "batch_size", "image_size", "calibration", "repeats",
        "processes",
    )  # fmt: skip
    single_precision(config)
    if config.penalty <= 0:
        raise InputError(f"penalty must be above 0, found {config.penalty}")
    if not config.techniques:
        raise unknown("technique", "", ALL)
    for name in ("sparsity", "channels", "student_amount", "coded_sparsity", "energy"):
        if not 0 < getattr(config, name) < 1:
            raise InputError(f"{name} must lie between 0 and 1, found {getattr(config, name)}")
    if not 1 <= config.bits <= 12:
        raise InputError(f"bits must lie between 1 and 12, found {config.bits}")
    if config.scheduler and config.processes > 1:
        raise InputError("give either processes or a scheduler: its workers are the processes")


def smoke(config: Config) -> Config:
    """The settings of a quick pass."""
    most = 48 if config.dataset == "docstrings" else 256  # whose samples are 128 points each
    small = min(config.limit or most, most)
    if config.model in ("tiny_llama", "tiny_bert"):
        config = replace(config, model=f"{config.model}_block")
    return replace(config, seeds=1, epochs=1, retrain_epochs=1, limit=small, repeats=8, compile=False)
