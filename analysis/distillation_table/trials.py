"""Trials of a distillation experiment: a teacher per seed, and students trained in each variant."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from analysis.lab.runner import Runner, augmentation
from analysis.lab.runs.cache import cached_model, is_cached
from analysis.lab.runs.directory import RunDirectory
from analysis.lab.runs.progress import OnProgress
from capacity import InputError, measure
from capacity.cloning import clone
from capacity.seeding import seed_generators
from compression.distillation import DistillationLoss, distill
from compression.training import TrainingSettings, fit

if TYPE_CHECKING:
    from analysis.distillation_table.config import Config


@dataclass(frozen=True)
class Variant:
    """How a student is trained: its loss (None is cross-entropy alone), and what differs besides."""

    label: str
    loss: DistillationLoss | None
    mixup: bool = False
    unlabelled: bool = False
    dropout_on: bool = False


def variants(config: "Config") -> dict[str, Variant]:
    """All variants by name; the three faults of report B one by one, then together."""
    warm, weight = config.temperature, config.alpha
    return {
        "alone": Variant("alone, no teacher", None),
        "distilled": Variant(f"distilled, T = {warm:g}", DistillationLoss(warm, weight)),
        "standardized": Variant("standardized logits", DistillationLoss(2.0, weight, "standardized")),
        "decoupled": Variant("decoupled", DistillationLoss(warm, 0.5, "decoupled", beta=2.0)),
        "matching": Variant(
            "function matching, no labels", DistillationLoss(1.0, 1.0), mixup=True, unlabelled=True
        ),
        "class-mean": Variant("fault 1: mean over classes", DistillationLoss(warm, weight, "class-mean")),
        "dropout-on": Variant(
            "fault 2: dropout on in tests", DistillationLoss(warm, weight), dropout_on=True
        ),
        "cold": Variant("fault 3: T = 1", DistillationLoss(1.0, weight)),
        "report-b": Variant(
            "report B: all three faults", DistillationLoss(1.0, weight, "class-mean"), dropout_on=True
        ),
        "freezing": Variant("report E: T = 0.01", DistillationLoss(0.01, weight)),
    }


class DistillationTrials:
    """What all trials share: the runner of the teacher, the students and the few labels they may see."""

    def __init__(self, config: "Config") -> None:
        self.config = config
        self.runner = Runner(config)
        self.prepare = self.runner.prepare
        known = variants(config)
        self.variants = {name: known[name] for name in config.variants}
        count = len(self.runner.data.train)
        if config.labels is not None and not 1 <= config.labels <= count:
            raise InputError(
                f"labels must lie between 1 and {count}, the training pictures; found {config.labels}"
            )
        for name in config.student:  # a network that cannot take this data is refused before any training
            measure(self._student(name, 0), self.runner.data.input_size)

    def steps(self) -> int:
        """Networks that one seed's trial keeps."""
        return 1 + len(self.config.student) * len(self.config.variants)

    def epochs(self) -> int:
        """Epochs of one seed's trial, for the progress bar."""
        config = self.config
        return config.teacher_epochs + len(config.student) * len(config.variants) * config.epochs

    def trial(self, seed: int, folder: RunDirectory, on_progress: OnProgress) -> Iterator[dict[str, Any]]:
        """A row for the teacher, and for each student and variant."""
        config, seed_dir = self.config, folder.path / f"seed-{seed}"
        on_progress(doing=f"seed {seed}: teacher")
        fresh = self.runner.network(seed)
        settings = self.runner.training(seed, config.teacher_epochs)
        on_progress(config.teacher_epochs if is_cached(seed_dir / "teacher") else 0)
        train = partial(self._teacher, fresh, settings, on_progress)
        teacher, row = cached_model(seed_dir / "teacher", fresh, train, self._scored(None, seed))
        yield {"seed": seed, "network": config.model, "variant": "teacher"} | row
        for network in config.student:
            for name, variant in self.variants.items():
                on_progress(doing=f"seed {seed}: {network}, {name}")
                path = seed_dir / network / name
                student = self._student(network, seed)
                on_progress(config.epochs if is_cached(path) else 0)
                train = partial(self._taught, student, teacher, variant, seed, seed_dir, on_progress)
                _, row = cached_model(path, student, train, self._scored(variant, seed))
                yield {"seed": seed, "network": network, "variant": name} | row

    def _student(self, name: str, seed: int) -> nn.Module:
        student = self.runner.build(name, seed + 1_000)
        return with_dropout(student, self.config.student_dropout).to(self.runner.device)

    def _teacher(self, fresh: nn.Module, settings: TrainingSettings, on_progress: OnProgress) -> nn.Module:
        return self.runner.fit(fresh, settings, on_progress).model

    def _taught(
        self,
        student: nn.Module,
        teacher: nn.Module,
        variant: Variant,
        seed: int,
        seed_dir: Path,
        on_progress: OnProgress,
    ) -> nn.Module:
        """A student trained with few labels, or, where it needs none, on all pictures for as many steps."""
        config, epochs = self.config, self.config.epochs
        train = self.runner.data.train
        if config.labels is not None and not variant.unlabelled:
            train = train.take(slice(0, config.labels))
        elif config.labels is not None:
            epochs = max(1, round(epochs * config.labels / len(train)))
        augment = augmentation(config)
        batches = train.batches(config.batch_size, shuffle=True, augment=augment, seed=seed)
        settings = self.runner.training(seed, epochs)
        step = config.epochs / epochs

        def progress(epoch: int, epochs: int) -> None:
            on_progress(step)

        if variant.loss is None:
            return fit(student, batches, settings=settings, progress=progress).model
        cache = None if variant.mixup or augment is not None else seed_dir / "teacher-outputs.npy"
        return distill(
            student, teacher, batches, loss=variant.loss, settings=settings, mixup=variant.mixup,
            cache=cache, progress=progress,
        ).model  # fmt: skip

    def _scored(self, variant: Variant | None, seed: int) -> Callable[[nn.Module], dict[str, Any]]:
        def score(model: nn.Module) -> dict[str, Any]:
            if variant is None or not variant.dropout_on:
                return self.runner.score(model)
            with torch.random.fork_rng():
                seed_generators(seed)
                return self.runner.score(dropout_left_on(model))

        return score


def with_dropout(model: nn.Module, share: float) -> nn.Module:
    """The model with dropout behind every rectifier that is a module; in place; returns it."""
    if share:
        for name, module in list(model.named_modules()):
            if isinstance(module, nn.ReLU):
                model.set_submodule(name, nn.Sequential(module, nn.Dropout(share)))
    return model


class DropoutLeftOn(nn.Module):
    """Dropout that does not stop in evaluation mode: a fault, kept to show what it costs."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.share, training=True)


def dropout_left_on(model: nn.Module) -> nn.Module:
    """A copy whose dropout does not stop in evaluation mode."""
    copied = clone(model)
    for name, module in list(copied.named_modules()):
        if isinstance(module, nn.Dropout):
            copied.set_submodule(name, DropoutLeftOn(module.p))
    return copied
