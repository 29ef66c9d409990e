"""The runner that experiments share: data, a network per seed, how to train it and how to score it."""

import math
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from analysis.lab.cli import check_numbers
from analysis.lab.data.datasets import DataSet, Split, load
from analysis.lab.data.features import cached_features, split_frozen
from analysis.lab.models import create
from analysis.lab.runs.directory import RunDirectory
from analysis.lab.runs.meeting import Meeting
from analysis.lab.runs.progress import OnProgress
from analysis.lab.settings import RunnerSettings
from capacity import CapacityReport, InputError, generalization, label_entropy, measure
from capacity.seeding import seed_generators
from compression.batches import Augment, CropAndFlip, TensorBatches
from compression.checkpoints import load_model, save_model
from compression.ensembles import fit_together, why_alone
from compression.evaluation import Evaluation
from compression.identity import describe
from compression.outputs import output_layers
from compression.processes import own_device, use_device
from compression.stacks import chain_of
from compression.targets import prunable, targets
from compression.training import FitResult, Objective, TrainingSettings, evaluate, fit

R = TypeVar("R")


@dataclass(frozen=True)
class _Task:
    """A training that was asked for."""

    model: nn.Module
    train: Split
    settings: TrainingSettings
    on_progress: OnProgress
    objective: Objective | None


def _require_taking(network: nn.Module, data: DataSet, config: RunnerSettings) -> None:
    """Raise InputError for a network that cannot take these data, naming those that can take rows."""
    try:
        measure(network, data.input_size)
    except InputError as error:
        flat = "; rows of numbers go to mlp, mlp_student, lenet300 or a factory of your own"
        raise InputError(
            f"{config.model} does not take {config.dataset}, whose samples have the shape {data.shape}"
            f"{flat if len(data.shape) == 1 else ''}: {error}"
        ) from error


class Runner:
    """Data, networks, training and scoring of one experiment."""

    def __init__(
        self,
        config: RunnerSettings,
        *,
        layers: Sequence[str] = (),
        cache_features: bool = False,
        validation: float = 0.1,
    ) -> None:
        self.config = config
        check_numbers(config)
        if config.device:
            use_device(config.device)
        self.data: DataSet = _loaded(config, validation)
        data = self.data
        self.label_bits = label_entropy(data.test.labels)
        self.sample_shape = data.shape
        self.device = own_device()
        network = self.build(config.model, 0, pretrained=config.pretrained)  # frozen parts are all trials'
        _require_taking(network, data, config)
        self.frozen: nn.Module | None = None
        if cache_features:
            self.frozen, network = split_frozen(network)
        unit: Any = getattr(config, "unit", "weight")
        self.layers = list(prunable(network, layers or None, unit=unit))
        if not self.layers:
            raise InputError(f"{config.model} has no layer to squeeze besides its output layer")
        self.example = network
        self._meeting: Meeting[_Task, FitResult] | None = None
        # With one seed there is nothing to stack, and `fit` computes on several threads.
        self.stacked = getattr(config, "seeds", 1) > 1 and not isinstance(chain_of(network), str)
        outputs = output_layers(network).names  # may lose weights, not units
        heads = [name for name, target in targets(network).items() if target.layer in outputs]
        self.weighted = list(dict.fromkeys([*self.layers, *heads]))

    def build(self, name: str, seed: int, *, pretrained: bool = False) -> nn.Module:
        """A network by name for this data, with the initial weights of a seed, of the type asked for."""
        with torch.random.fork_rng():
            seed_generators(seed)
            network = create(
                name, input_size=self.sample_shape, classes=len(self.data.classes), pretrained=pretrained
            )
        return network.to(getattr(torch, self.config.dtype))

    def content(self) -> dict[str, str]:
        """What results depend on besides the settings: the pictures, their classes, the network's code."""
        splits = {name: getattr(self.data, name) for name in ("train", "validation", "test")}
        frozen = {} if self.frozen is None else {"frozen": self.frozen}
        return describe(data=splits, classes=list(self.data.classes), network=self.example, **frozen)

    def prepare(self, folder: RunDirectory, on_progress: OnProgress) -> None:
        """Replace pictures by cached features where the network's frozen part is to run only once."""
        if self.frozen is not None:
            on_progress(doing="features of the frozen part")
            self.data = cached_features(self.frozen, self.data, folder.path.parent / "features")
        else:
            self.data = self.data.map(lambda split: split.to(self.device))

    def network(self, seed: int) -> nn.Module:
        """A fresh network of this seed; where features are cached, its head."""
        network = self.build(self.config.model, seed, pretrained=self.config.pretrained)
        if self.frozen is not None:
            _, network = split_frozen(network)
        return network.to(self.device)

    def training(self, seed: int, epochs: int, rate: float = 1.0) -> TrainingSettings:
        """How a seed trains for so many epochs; rate: share of the learning rate asked for."""
        config = self.config
        return TrainingSettings(
            epochs=epochs, learning_rate=rate * config.learning_rate, weight_decay=config.weight_decay,
            warmup_epochs=min(1.0, epochs / 2), seed=seed, mixed_precision=config.mixed_precision,
            optimizer=config.optimizer,
        )  # fmt: skip

    def trained(
        self, seed: int, path: Path, settings: TrainingSettings, on_progress: OnProgress
    ) -> nn.Module:
        """The network of this seed, trained; from disk where that was done."""
        network = self.network(seed)
        if path.exists():
            on_progress(settings.epochs)
            return load_model(network, path, sealed=True).eval()
        trained = self.fit(network, settings, on_progress).model
        save_model(trained, path)
        return trained

    def fit(
        self,
        model: nn.Module,
        settings: TrainingSettings,
        on_progress: OnProgress,
        objective: Objective | None = None,
    ) -> FitResult:
        """Train on the training split in the order that the settings' seed gives; advance by epochs.

        Among trials side by side, small networks are trained together with those of the other trials; what
        cannot be is trained at once, so that its trial goes on and keeps it.
        """
        task = _Task(model, self.data.train, settings, on_progress, objective)
        batches = self._batches(task)
        if not self._stackable(task, batches):
            return self.on_all_cores(lambda: self._fit_alone(task, batches))
        return self._fit_all([task])[0] if self._meeting is None else self._meeting.ask(task)

    def on(self, train: Split) -> "Runner":
        """The same runner with other training samples; its trainings still meet those of the other trials."""
        twin = copy(self)
        twin.data = replace(self.data, train=train)
        return twin

    def side_by_side(self, trials: Sequence[Callable[[], R]]) -> list[R]:
        """The results of trials, or of parts of one, that need nothing of each other."""
        if self._meeting is not None:
            return self._meeting.hold(trials)
        if len(trials) < 2 or not self.stacked:
            return [trial() for trial in trials]
        self._meeting = Meeting(self._fit_all)
        try:
            return self._meeting.hold(trials)
        finally:
            self._meeting = None

    def on_all_cores(self, call: Callable[[], R]) -> R:
        """What a call returns that takes times: trials side by side compute on one core otherwise."""
        return call() if self._meeting is None else self._meeting.on_all_cores(call)

    def _fit_all(self, tasks: "Sequence[_Task]") -> list[FitResult]:
        """Trainings that can be stacked, at once."""
        left = sum(task.settings.epochs - task.settings.start_epoch for task in tasks)
        return fit_together(
            [task.model for task in tasks],
            [self._batches(task) for task in tasks],
            settings=[task.settings for task in tasks],
            progress=lambda epoch, epochs: tasks[0].on_progress(left / max(1, epochs)),
        )

    def _stackable(self, task: "_Task", batches: TensorBatches) -> bool:
        return (
            self.stacked and task.objective is None
            and why_alone(task.model, batches, task.settings) is None
        )  # fmt: skip

    def _fit_alone(self, task: "_Task", batches: TensorBatches) -> FitResult:
        settings = task.settings
        fitted = fit(
            task.model,
            batches,
            settings=settings,
            validation=self.data.validation.batches(1000) if settings.patience is not None else None,
            objective=task.objective,
            progress=lambda epoch, epochs: task.on_progress(1),
        )
        task.on_progress(settings.epochs - settings.start_epoch - len(fitted.history))
        return fitted

    def _batches(self, task: _Task) -> TensorBatches:
        config = self.config
        return task.train.batches(
            config.batch_size, shuffle=True, augment=augmentation(config), seed=task.settings.seed
        )

    def bits_used(self, report: CapacityReport, scores: Evaluation) -> dict[str, float]:
        """Correct points and bits of label per bit of capacity; NaN of a network that stores nothing."""
        if not report.capacity_bits:
            return {"points_per_bit": math.nan, "bits_per_bit": math.nan}
        used = generalization(
            report, correct=scores.correct, total=scores.total, label_bits=self.label_bits,
            classes=scores.classes,
        )  # fmt: skip
        return {"points_per_bit": used.ratio, "bits_per_bit": used.bits_per_bit}

    def score(self, model: nn.Module) -> dict[str, Any]:
        """Everything measured of a model; the test split is touched here, once."""
        validation = evaluate(model, self.data.validation.batches(1000), gather=True)
        test = evaluate(model, self.data.test.batches(1000), gather=True)
        report = measure(
            model, self.data.input_size, convention=self.config.convention, scope="trainable", effective=True
        )
        scores = test.to_dict() | {
            "validation_top1_error": validation.top1_error,
            "capacity_bits": report.capacity_bits,
            "live_parameters": report.parameters,
            "total_parameters": report.total_parameters,
        }
        return scores | self.bits_used(report, test) | {"convention": report.convention}


def _loaded(config: RunnerSettings, validation: float) -> DataSet:
    """The data asked for; raises InputError for settings that do not go together."""
    if config.mixed_precision != "no" and config.dtype != "float32":
        raise InputError(f"mixed precision keeps weights in float32: leave out --dtype {config.dtype}")
    data = load(
        config.dataset, data=config.data, image_size=config.image_size, validation=validation, columns=config
    )
    if augmentation(config) is not None and len(data.shape) != 3:
        raise InputError(f"--augment and --shift are for pictures; a sample of {data.name} is {data.shape}")
    if config.shift and config.shift >= min(data.shape[-2:]):
        side = min(data.shape[-2:])
        raise InputError(f"shift must be below the pictures' side, {side} pixels, found {config.shift}")
    limit = config.limit
    return data if limit is None else data.map(lambda split: split.evenly(limit))


def augmentation(config: RunnerSettings) -> Augment | None:
    """Random crops and flips, or random shifts by so many pixels, or none."""
    if config.augment:
        return CropAndFlip()
    return CropAndFlip(padding=config.shift, flip=False) if config.shift else None
